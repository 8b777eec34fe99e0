//! Where files are, as far as paths lead.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::{Component, Path},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2},
    io::Errno,
};

/// How often a path is looked up that is changed meanwhile, see `EAGAIN` in `openat2(2)`.
const MAX_LOOKS: usize = 100;

/// A folder out of which no path leads: for the agent all of the guest's file system, or the folder of one that is a mere
/// process; for nexusctl all of the host's.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
}

/// Where a path leads: a folder, and a name in it that need not be there.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The name.
    pub name: OsString,
}

impl Root {
    /// Everything below `folder`.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: openat(CWD, folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())? })
    }

    /// Opens what is at a path. Links are followed, and end here as well.
    ///
    /// # Errors
    /// Those of `openat2(2)`.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mut looks = 0;
        loop {
            let opened = openat2(&self.folder, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT);
            match opened {
                Err(Errno::AGAIN | Errno::INTR) if looks < MAX_LOOKS => looks += 1,
                other => return Ok(other?),
            }
        }
    }

    /// The place of a path, whose last part is not followed if it is a link. With `create` missing folders are made.
    ///
    /// # Errors
    /// When the folder can't be opened or made, and for a path that has no name at its end.
    pub fn place(&self, path: &Path, create: bool) -> io::Result<Place> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no name at its end"));
        };
        let folder = if create { self.make_folder(folder)? } else { self.folder_at(folder)? };
        Ok(Place { folder, name: name.to_owned() })
    }

    fn folder_at(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens a folder, and makes what is missing of it.
    fn make_folder(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.folder_at(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let Some(Component::Normal(name)) = path.components().next_back() else {
            // What `..` leads to is there or can't be made.
            return self.folder_at(path);
        };
        let above = self.make_folder(path.parent().unwrap_or(Path::new("/")))?;
        make(&above, name)?;
        self.folder_at(path)
    }
}

fn make(above: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match mkdirat(above, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        let folder = outside.path().join("root");
        fs::create_dir(&folder).unwrap();
        symlink(outside.path(), folder.join("out")).unwrap();
        symlink("../secret", folder.join("up")).unwrap();
        let root = Root::open(&folder).unwrap();
        for path in ["/../secret", "../secret", "/out/secret", "/up", "/a/../../secret"] {
            let error = root.open_at(Path::new(path), OFlags::RDONLY).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
        }
        root.place(Path::new("/../made/here/file"), true).unwrap();
        assert!(folder.join("made/here").is_dir());
        assert!(!outside.path().join("made").exists());
    }

    #[test]
    fn a_path_without_a_name_is_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        for path in ["/", "/a/..", ""] {
            assert_eq!(root.place(Path::new(path), false).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        assert_eq!(root.place(Path::new("/a/b"), false).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn makes_only_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let root = Root::open(folder.path()).unwrap();
        for _ in 0..2 {
            assert_eq!(root.place(Path::new("/a/b/c"), true).unwrap().name, "c");
        }
        assert!(folder.path().join("a/b").is_dir() && !folder.path().join("a/b/c").exists());
        assert_eq!(root.place(Path::new("/file/b/c"), true).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
