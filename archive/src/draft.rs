//! Files that are not yet where they are to be.

use std::{
    ffi::OsString,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nexus_model::Id;
use rustix::{
    fs::{FileType, Mode, OFlags, RenameFlags, fstatvfs, fsync, mkdirat, openat, renameat, renameat_with, syncfs},
    io::Errno,
};

use crate::{ArchiveError, Limits, Target, Top, remove::remove};

/// A private folder beside a [`Target`], whose content takes the target's place all at once. What has not when this is
/// dropped is removed.
#[derive(Debug)]
pub struct Draft {
    target: Target,
    temporary: OsString,
    inside: OwnedFd,
}

impl Draft {
    /// Makes the folder, `.nexus-` and a random number.
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn begin(target: Target) -> Result<Self, ArchiveError> {
        let id = Id::random().map_err(|error| ArchiveError::stream("begin")(io::Error::other(error)))?;
        let temporary = OsString::from(format!(".nexus-{id}"));
        mkdirat(&target.place.folder, &temporary, Mode::RWXU).map_err(|error| target.failed(error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&target.place.folder, &temporary, flags, Mode::empty()) {
            Ok(inside) => Ok(Self { target, temporary, inside }),
            Err(error) => {
                let _ = remove(&target.place.folder, &temporary);
                Err(target.failed(error))
            }
        }
    }

    /// Into this the archive is unpacked.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }

    /// As much as there is room for.
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn limits(&self) -> Result<Limits, ArchiveError> {
        let room = fstatvfs(&self.inside).map_err(|error| self.target.failed(error))?;
        Ok(Limits::of_bytes(room.f_bavail.saturating_mul(room.f_frsize)))
    }

    /// Puts what was unpacked into its place, once it is on the disk. Whoever looks there sees what was there before or
    /// this, and nothing else, whatever happens.
    ///
    /// # Errors
    /// [`ArchiveError::Exists`] and [`ArchiveError::Place`] when something else is there; [`ArchiveError::File`].
    pub fn commit(self, top: &Top) -> Result<(), ArchiveError> {
        let target = &self.target;
        let failed = |error| target.failed(error);
        let place = &target.place;
        let moved = match &top.folder {
            Some(_) => {
                syncfs(&self.inside).map_err(failed)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Some(openat(&self.inside, &top.name, flags, Mode::empty()).map_err(failed)?)
            }
            None => None,
        };
        match (target.kind()?, &moved) {
            (Some(FileType::Directory), None) => return Err(target.refuse("it is a folder")),
            (None, None) if target.is_folder => return Err(target.refuse("there is no such folder")),
            (Some(FileType::Directory), Some(_)) if target.replace => self.rename(top, RenameFlags::EXCHANGE)?,
            (Some(FileType::Directory), Some(_)) => return Err(target.exists()),
            (Some(_), Some(_)) => return Err(target.refuse("it is no folder")),
            (Some(_), None) => {
                renameat(&self.inside, &top.name, &place.folder, &place.name).map_err(failed)?;
            }
            (None, _) => self.rename(top, RenameFlags::NOREPLACE)?,
        }
        if let (Some(folder), Some(attributes)) = (&moved, &top.folder) {
            attributes.set(folder).map_err(ArchiveError::file("write", place.name.as_ref()))?;
            fsync(folder).map_err(failed)?;
        }
        // It is there, whether the folder's own content is on the disk yet or not.
        let _ = fsync(&place.folder);
        Ok(())
    }

    fn rename(&self, top: &Top, flags: RenameFlags) -> Result<(), ArchiveError> {
        let place = &self.target.place;
        match renameat_with(&self.inside, &top.name, &place.folder, &place.name, flags) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(self.target.exists()),
            // A file system that does not know how, as some of networks: what was seen of the place must do.
            Err(Errno::INVAL) if flags == RenameFlags::NOREPLACE => {
                renameat(&self.inside, &top.name, &place.folder, &place.name).map_err(|error| self.target.failed(error))
            }
            Err(error) => Err(self.target.failed(error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else of it is anywhere.
        let _ = remove(&self.target.place.folder, &self.temporary);
    }
}
