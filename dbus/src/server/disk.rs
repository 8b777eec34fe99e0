//! Sizes that are looked up when somebody asks: one system call each, which a getter may make.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Bytes that an ordinary user can still write there; 0 when the file system does not say.
pub(super) fn free_bytes(path: &Path) -> u64 {
    statvfs(path).map_or(0, |disk| disk.blocks_available().saturating_mul(disk.fragment_size()))
}

/// Size of a SQLite database: its file and its write-ahead log.
pub(super) fn database_bytes(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    size(path) + size(Path::new(&log))
}
