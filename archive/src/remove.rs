//! Removing trees.

use std::{
    ffi::{CStr, CString, OsStr},
    io, mem,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    fs::{AtFlags, Dir, Mode, OFlags, chmodat, fchmod, openat, unlinkat},
    io::Errno,
};

/// As deep may a tree be that is removed: each level takes a descriptor.
const MAX_LEVELS: usize = 1000;

/// A folder on its way out.
struct Level {
    name: CString,
    folder: OwnedFd,
    /// What is left in it.
    left: Vec<CString>,
}

/// Removes a file, or a folder with everything in it, if it is there. What takes its place meanwhile is not followed.
///
/// # Errors
/// When something of it can't be removed, or it is more than 1000 folders deep; the rest is there still.
pub fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let name = CString::new(name.as_bytes())?;
    let Some(mut level) = Level::enter(folder.as_fd(), name)? else { return Ok(()) };
    let mut above: Vec<Level> = Vec::new();
    loop {
        if let Some(name) = level.left.pop() {
            if let Some(inner) = level.change(|folder| Level::enter(folder, name.clone()))? {
                above.push(mem::replace(&mut level, inner));
            }
            if above.len() >= MAX_LEVELS {
                return Err(io::Error::other(format!("it is more than {MAX_LEVELS} folders deep")));
            }
        } else if let Some(parent) = above.pop() {
            parent.change(|folder| unlinkat(folder, &level.name, AtFlags::REMOVEDIR))?;
            level = parent;
        } else {
            return Ok(unlinkat(&folder, &level.name, AtFlags::REMOVEDIR)?);
        }
    }
}

impl Level {
    /// Removes what is no folder; opens what is one.
    fn enter(above: BorrowedFd<'_>, name: CString) -> Result<Option<Self>, Errno> {
        match unlinkat(above, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(None),
            Err(Errno::ISDIR) => {}
            Err(error) => return Err(error),
        }
        let open = || openat(above, &name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let folder = match open() {
            Err(Errno::ACCESS) => {
                chmodat(above, &name, Mode::RWXU, AtFlags::empty())?;
                open()?
            }
            opened => opened?,
        };
        let left = names(&folder)?;
        Ok(Some(Self { name, folder, left }))
    }

    /// Takes something out. Nothing goes out of a folder that must not be written: that it may be then.
    fn change<T>(&self, change: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>) -> Result<T, Errno> {
        match change(self.folder.as_fd()) {
            Err(Errno::ACCESS | Errno::PERM) => {
                fchmod(&self.folder, Mode::RWXU)?;
                change(self.folder.as_fd())
            }
            changed => changed,
        }
    }
}

/// What a folder holds.
pub(crate) fn names(folder: impl AsFd) -> Result<Vec<CString>, Errno> {
    let is_real = |name: &CStr| name != c"." && name != c"..";
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if is_real(entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, mkdirat};

    use super::*;

    /// A folder with so many folders one in the other.
    fn deep(levels: usize) -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        let open = |above: BorrowedFd<'_>, name: &OsStr| openat(above, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut folder = open(CWD, top.path().as_os_str());
        for _ in 0..levels {
            mkdirat(&folder, "f", Mode::RWXU).unwrap();
            folder = open(folder.as_fd(), OsStr::new("f"));
        }
        top
    }

    #[test]
    fn a_tree_is_removed_unless_it_is_too_deep() {
        let top = deep(MAX_LEVELS);
        remove(std::fs::File::open(top.path()).unwrap(), OsStr::new("f")).unwrap();
        assert_eq!(std::fs::read_dir(top.path()).unwrap().count(), 0);
        let top = deep(20 * MAX_LEVELS);
        let error = remove(std::fs::File::open(top.path()).unwrap(), OsStr::new("f")).unwrap_err();
        assert!(error.to_string().contains("1000 folders deep"), "{error}");
        std::process::Command::new("rm").arg("-rf").arg(top.path()).status().unwrap();
    }
}
