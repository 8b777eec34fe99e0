//! Who has files open, see `proc_pid_fd(5)`.

use std::{fs, io, path::Path};

use super::{Inode, ResourceError};

/// A process that has a file of a folder open, if there is one. Those whose users do not let themselves be looked at are
/// left out.
pub(super) fn by(folder: &Path) -> Result<Option<u32>, ResourceError> {
    let files = inodes(folder).map_err(ResourceError::io("read the folder", folder))?;
    for entry in fs::read_dir("/proc").map_err(ResourceError::io("list", "/proc"))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        // Followed by the kernel itself, whatever the path is called where that process is.
        if open.filter_map(|open| fs::metadata(open.path()).ok()).any(|open| files.contains(&Inode::of(&open))) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// The files in a folder.
fn inodes(folder: &Path) -> io::Result<Vec<Inode>> {
    let metadata = |entry: io::Result<fs::DirEntry>| Ok(Inode::of(&entry?.metadata()?));
    fs::read_dir(folder)?.map(metadata).collect()
}
