//! Deleting a file or a folder.

use std::path::Path;

use nexus_archive::{Root, remove};
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
        Err(Errno::ISDIR) if recursive => remove(&place.folder, &place.name).map_err(&failed),
        Err(Errno::ISDIR) => Err(FileError::Folder(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}
