//! Names that nothing has for long.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nexus_model::Id;
use rustix::{
    fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, renameat, statat},
    io::Errno,
    process::geteuid,
};

use crate::{Place, remove};

/// Behind it are the 16 digits of an id.
const PREFIX: &str = ".nexus-";

/// Names that are tried, as a sweeper may be faster than who has just made one.
const MAX_TRIES: usize = 100;

/// Names in a folder among which leftovers are looked for: a larger one is not worth its time.
const MAX_LOOKED: usize = 10_000;

/// A private file or folder beside a place, for what is not yet to be seen there. What still has its name when this is
/// dropped is removed; what a process has left that was killed, the next one in the same folder removes. Who lives holds a
/// lock on its own (`flock(2)`).
#[derive(Debug)]
pub struct Temporary {
    above: OwnedFd,
    name: OsString,
    /// Holds the lock.
    opened: File,
}

impl Temporary {
    /// An empty folder beside a place.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder(place: &Place) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::make(place, |name| {
            mkdirat(&place.folder, name, Mode::RWXU)?;
            openat(&place.folder, name, flags, Mode::empty()).inspect_err(|_| {
                // Why it can't be opened matters more.
                let _ = remove(&place.folder, name);
            })
        })
    }

    /// An empty file beside a place, to write to.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn file(place: &Place) -> io::Result<Self> {
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Self::make(place, |name| openat(&place.folder, name, how, Mode::RUSR | Mode::WUSR))
    }

    fn make(place: &Place, make: impl Fn(&OsStr) -> Result<OwnedFd, Errno>) -> io::Result<Self> {
        sweep(place.folder.as_fd());
        let above = place.folder.try_clone()?;
        let mut tries = 0;
        loop {
            let name = OsString::from(format!("{PREFIX}{}", Id::random().map_err(io::Error::other)?));
            tries += 1;
            match make(&name) {
                Ok(opened) if keep(above.as_fd(), &name, &opened) => {
                    return Ok(Self { above, name, opened: opened.into() });
                }
                Ok(_) | Err(Errno::NOENT) if tries < MAX_TRIES => {}
                Ok(_) => return Err(Errno::NOENT.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The file or the folder itself.
    #[must_use]
    pub const fn opened(&self) -> &File {
        &self.opened
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Lets it have the name of the place beside which it is, instead of what has it.
    ///
    /// # Errors
    /// Those of `rename(2)`.
    pub fn take_place(self, place: &Place) -> io::Result<()> {
        Ok(renameat(&self.above, &self.name, &place.folder, &place.name)?)
    }

    /// Removes it with all that is in it.
    ///
    /// # Errors
    /// When something of it can't be removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.above, &self.name)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else of it is anywhere.
        let _ = self.remove();
    }
}

/// Locks what was just made; whether it is still there, as a sweeper may have seen it before it was locked.
fn keep(above: BorrowedFd<'_>, name: &OsStr, made: &OwnedFd) -> bool {
    match flock(made, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return false,
        // No locks on this file system: no sweeper gets one either.
        Err(_) => return true,
    }
    let there = statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
    matches!((there, fstat(made)), (Ok(there), Ok(made)) if there.st_ino == made.st_ino)
}

/// Removes what has such a name in a folder and no process works at. What can't be seen or removed is left.
fn sweep(folder: BorrowedFd<'_>) {
    let listed = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let Ok(entries) = listed.and_then(Dir::read_from) else { return };
    for entry in entries.take(MAX_LOOKED).flatten() {
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name.strip_prefix(PREFIX).is_some_and(|id| id.parse::<Id>().is_ok())
            && let Some(_locked) = left(folder, name.as_ref())
        {
            let _ = remove(folder, name.as_ref());
        }
    }
}

/// What is left of one's own, locked.
fn left(folder: BorrowedFd<'_>, name: &OsStr) -> Option<OwnedFd> {
    let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_own = stat.st_uid == geteuid().as_raw();
    if !is_own || !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty()).ok()?;
    flock(&opened, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(opened)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::symlink, path::Path};

    use super::*;
    use crate::Root;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_the_dead_have_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let place = Root::open(folder.path()).unwrap().place(Path::new("/file"), false).unwrap();
        fs::create_dir_all(path(".nexus-0123456789abcdef/below")).unwrap();
        fs::write(path(".nexus-0123456789abcdef/below/file"), "left").unwrap();
        fs::write(path(".nexus-00000000000000aa"), "left").unwrap();
        let kept = [".nexus-", ".nexus-0123", ".nexus-link", ".nexus-not-hexadecimal", "nexus-0123456789abcdef"];
        for name in kept {
            fs::write(path(name), "kept").unwrap();
        }
        symlink("nowhere", path(".nexus-00000000000000bb")).unwrap();
        let (first, second) = (Temporary::folder(&place).unwrap(), Temporary::file(&place).unwrap());
        let third = Temporary::folder(&place).unwrap();
        let mut there: Vec<_> = kept.map(str::to_owned).into();
        there.push(".nexus-00000000000000bb".to_owned());
        there.extend([&first, &second, &third].map(|it| it.name().to_str().unwrap().to_owned()));
        there.sort();
        assert_eq!(names(folder.path()), there);
        second.opened().write_all(b"new").unwrap();
        second.take_place(&place).unwrap();
        drop((first, third));
        assert_eq!(names(folder.path()).len(), kept.len() + 2);
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "new");
    }

    #[test]
    fn however_many_begin_at_once_none_takes_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let place = root.place(Path::new("/file"), false).unwrap();
                    for _ in 0..50 {
                        let temporary = Temporary::folder(&place).unwrap();
                        assert!(folder.path().join(temporary.name()).is_dir());
                    }
                });
            }
        });
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
