//! Files that are not yet where they are to be.

use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{FileType, Mode, OFlags, RenameFlags, fstatvfs, fsync, openat, renameat, renameat_with, syncfs},
    io::Errno,
};

use crate::{ArchiveError, Limits, Summary, Target, Temporary, Top, Unpacker};

/// A private folder beside a [`Target`], whose content takes the target's place all at once. What has not when this is
/// dropped is removed.
#[derive(Debug)]
pub struct Draft {
    target: Target,
    temporary: Temporary,
}

impl Draft {
    /// Makes the folder.
    ///
    /// # Errors
    /// [`ArchiveError::File`].
    pub fn begin(target: Target) -> Result<Self, ArchiveError> {
        match Temporary::folder(&target.place) {
            Ok(temporary) => Ok(Self { target, temporary }),
            Err(error) => Err(target.failed(error)),
        }
    }

    /// The folder, for whoever unpacks into it within bounds of their own.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.temporary.opened().as_fd()
    }

    /// Unpacks an archive into the folder, which has to be of what may be in the target's place. `umask` as in
    /// [`Unpacker::without`].
    ///
    /// # Errors
    /// As [`Unpacker::unpack`]; as [`commit`](Self::commit) for what can't be in its place.
    pub fn unpack(&self, umask: u32, reader: impl Read) -> Result<(Top, Summary), ArchiveError> {
        let room = fstatvfs(self.folder()).map_err(|error| self.target.failed(error))?;
        let limits = Limits::of_bytes(room.f_bavail.saturating_mul(room.f_frsize));
        Unpacker::new(self.folder(), limits).without(umask).meant_for(&self.target).unpack(reader)
    }

    /// Puts what was unpacked into its place, once it is on the disk. Whoever looks there sees what was there before or
    /// this, and nothing else, whatever happens.
    ///
    /// # Errors
    /// [`ArchiveError::Exists`] and [`ArchiveError::Place`] when something else is there; [`ArchiveError::File`]; and
    /// [`ArchiveError::Remains`] when it is in its place, but what it has replaced can't be removed.
    pub fn commit(self, top: &Top) -> Result<(), ArchiveError> {
        let target = &self.target;
        let failed = |error| target.failed(error);
        let place = &target.place;
        let folder = match &top.folder {
            Some(attributes) => {
                syncfs(self.folder()).map_err(failed)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = openat(self.folder(), &top.name, flags, Mode::empty()).map_err(failed)?;
                attributes.set_to_move(&folder).map_err(|error| target.failed(error))?;
                fsync(&folder).map_err(failed)?;
                Some((folder, attributes))
            }
            None => None,
        };
        let replaces = target.takes(folder.is_some())?;
        match replaces {
            Some(FileType::Directory) => self.rename(top, RenameFlags::EXCHANGE)?,
            Some(_) => renameat(self.folder(), &top.name, &place.folder, &place.name).map_err(failed)?,
            None => self.rename(top, RenameFlags::NOREPLACE)?,
        }
        let moved = folder.as_ref().map_or(Ok(()), |(folder, attributes)| attributes.set_moved(folder));
        // It is there, whether the folder's own content is on the disk yet or not.
        let _ = fsync(&place.folder);
        if replaces == Some(FileType::Directory) {
            self.temporary.remove().map_err(|source| target.remains(self.temporary.name(), source))?;
        }
        moved.map_err(|error| target.failed(error))
    }

    fn rename(&self, top: &Top, flags: RenameFlags) -> Result<(), ArchiveError> {
        let place = &self.target.place;
        match renameat_with(self.folder(), &top.name, &place.folder, &place.name, flags) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(self.target.exists()),
            // A file system that does not know how, as some of networks: what was seen of the place must do.
            Err(Errno::INVAL) if flags == RenameFlags::NOREPLACE => {
                renameat(self.folder(), &top.name, &place.folder, &place.name)
                    .map_err(|error| self.target.failed(error))
            }
            Err(error) => Err(self.target.failed(error)),
        }
    }
}
