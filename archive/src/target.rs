//! Where files are to be in the end.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path};

use rustix::{
    fs::{AtFlags, FileType, OFlags, statat},
    io::Errno,
};

use crate::{ArchiveError, Place, Root, error::shown};

/// Why something is not replaced that others use as what it is.
const NO_FILE: &str = "it is a device, a pipe or a socket";

/// A place for a file or a folder, found by the rules of `docker cp`, except that no folder is merged into another.
#[derive(Debug)]
pub struct Target {
    pub(crate) place: Place,
    pub(crate) replace: bool,
    pub(crate) is_folder: bool,
    shown: String,
}

impl Target {
    /// Where something called `name` goes that is copied to `path`: into a folder that is there, or to `path` itself, whose
    /// parent must be there. Without a name, as for the content of a folder, it is always `path` itself. `replace` lets a
    /// folder take the place of another one.
    ///
    /// # Errors
    /// [`ArchiveError::File`] when the parent is not there; [`ArchiveError::Exists`] when a folder is and may not be
    /// replaced; [`ArchiveError::Place`] for a name that is none.
    pub fn find(root: &Root, path: &Path, name: Option<&OsStr>, replace: bool) -> Result<Self, ArchiveError> {
        let failed = || ArchiveError::file("write", path);
        if name.is_some_and(|name| Path::new(name).file_name() != Some(name)) {
            let shown = shown(path);
            return Err(ArchiveError::Place { path: shown, reason: "what is to be in it has no plain name" });
        }
        let folder = match (name, root.open_at(path, OFlags::PATH | OFlags::DIRECTORY)) {
            (Some(name), Ok(folder)) => Some(Place { folder, name: name.to_owned() }),
            (None, Ok(_)) => None,
            (_, Err(error)) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            (_, Err(error)) => return Err(failed()(error)),
        };
        let target = match folder {
            Some(place) => {
                let shown = shown(&path.join(&place.name));
                Self { place, replace, is_folder: false, shown }
            }
            None => Self {
                place: root.place(path, false).map_err(without_folder).map_err(failed())?,
                replace,
                is_folder: path.as_os_str().as_bytes().ends_with(b"/"),
                shown: shown(path),
            },
        };
        match target.kind()? {
            Some(FileType::Directory) if !replace => Err(target.exists()),
            Some(FileType::Directory | FileType::RegularFile | FileType::Symlink) | None => Ok(target),
            Some(_) => Err(target.refuse(NO_FILE)),
        }
    }

    /// Whether a folder, or anything else, may come to be there; what it replaces.
    pub(crate) fn takes(&self, folder: bool) -> Result<Option<FileType>, ArchiveError> {
        let replaces = self.kind()?;
        match (replaces, folder) {
            (Some(FileType::Directory), true) if !self.replace => Err(self.exists()),
            (Some(FileType::Directory), false) => Err(self.refuse("it is a folder")),
            (Some(FileType::RegularFile | FileType::Symlink), true) => Err(self.refuse("it is no folder")),
            (Some(FileType::Directory | FileType::RegularFile | FileType::Symlink), _) => Ok(replaces),
            (Some(_), _) => Err(self.refuse(NO_FILE)),
            (None, false) if self.is_folder => Err(self.refuse("there is no such folder")),
            (None, _) => Ok(None),
        }
    }

    fn kind(&self) -> Result<Option<FileType>, ArchiveError> {
        match statat(&self.place.folder, &self.place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(crate) fn exists(&self) -> ArchiveError {
        ArchiveError::Exists { path: self.shown.clone() }
    }

    pub(crate) fn refuse(&self, reason: &'static str) -> ArchiveError {
        ArchiveError::Place { path: self.shown.clone(), reason }
    }

    pub(crate) fn failed(&self, error: impl Into<io::Error>) -> ArchiveError {
        ArchiveError::File { act: "write", path: self.shown.clone(), source: error.into() }
    }

    pub(crate) fn remains(&self, name: &OsStr, source: io::Error) -> ArchiveError {
        ArchiveError::Remains { path: self.shown.clone(), name: shown(name.as_ref()), source }
    }
}

/// Says what is not there: of the path only the last part may be missing.
fn without_folder(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(error.kind(), "the folder that it would be in is not there"),
        _ => error,
    }
}
