//! Deleting a file or a folder.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use nexus_archive::{Place, Root};
use rustix::{
    fs::{AtFlags, unlinkat},
    io::Errno,
};

use super::{FileError, is_absolute};

/// Deletes a file or a link; a folder only if `recursive` says so, with everything in it.
pub(crate) fn delete(root: &Root, path: &str, recursive: bool) -> Result<(), FileError> {
    is_absolute(path)?;
    let failed = FileError::system("delete", path);
    let place = root.place(Path::new(path), false).map_err(&failed)?;
    match unlinkat(&place.folder, &place.name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::ISDIR) if recursive => remove_all(&place).map_err(&failed),
        Err(Errno::ISDIR) => Err(FileError::Folder(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes a folder. What takes a folder's place meanwhile is not followed, see [`fs::remove_dir_all`].
fn remove_all(place: &Place) -> io::Result<()> {
    let folder = PathBuf::from(format!("/proc/self/fd/{}", place.folder.as_raw_fd()));
    fs::remove_dir_all(folder.join(&place.name))
}
