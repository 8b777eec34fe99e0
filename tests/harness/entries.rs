//! What lies in Nexus' folders.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

/// The names in a folder, which may not be there, but the marks of who uses it.
#[must_use]
pub fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| !is_mark(name));
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Whether it is the mark of a Nexus that uses the folder.
pub(crate) fn is_mark(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".instance-")
}
