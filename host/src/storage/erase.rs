//! Removal of files, folders and subvolumes, whoever made them.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};

/// Inode number of every subvolume's top folder: `BTRFS_FIRST_FREE_OBJECTID` of `linux/btrfs_tree.h`.
const SUBVOLUME_INODE: u64 = 256;

/// Removes what is at `path`, if anything is, and never follows a symbolic link. A subvolume that may not be deleted as
/// one (an ordinary user without `user_subvol_rm_allowed`) is emptied and removed as a folder, which its owner may do.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return absent_is_fine(Err(error)),
    };
    if !metadata.is_dir() {
        return absent_is_fine(fs::remove_file(path));
    }
    if metadata.ino() == SUBVOLUME_INODE && is_btrfs(path)? {
        libbtrfsutil::set_subvolume_read_only(path, false).map_err(|error| error.os_error())?;
        match libbtrfsutil::delete_subvolume(path).map_err(|error| error.os_error()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            deleted => return absent_is_fine(deleted),
        }
    }
    // A sealed folder does not let its owner remove what is in it.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    absent_is_fine(fs::remove_dir_all(path))
}

/// Whether `path` is on btrfs.
pub(super) fn is_btrfs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BTRFS_SUPER_MAGIC)
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
