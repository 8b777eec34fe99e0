//! What lies in Nexus' folders.

use std::{fs, path::Path};

/// The names in a folder, which may not be there, but the marks of who uses it.
#[must_use]
pub fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with(".instance-")).collect()
}
