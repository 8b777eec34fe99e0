//! What is being made: under a name that nobody takes for the real thing, until it is whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nexus_model::{Id, failpoint};
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2},
};

use super::{DISK, StorageError, erase::erase};

/// What a temporary sibling's name begins with. No name that people give can begin with a dot.
const PREFIX: &str = ".tmp-";

/// A folder that is being made beside its final place. Dropping it removes it; a kill leaves it for a sweep, which
/// tells by its lock that nobody works on it any more.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    destination: PathBuf,
    landed: bool,
    _lock: Flock<File>,
}

impl Draft {
    /// Where it is being made.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its disk belongs for now.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.path.join(DISK)
    }

    /// Where it will be.
    #[must_use]
    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// A new private folder.
    pub(crate) fn folder(destination: &Path) -> Result<Self, StorageError> {
        Self::make(destination, |path| DirBuilder::new().mode(0o700).create(path))
    }

    /// A new folder that `create` makes at the path that it is given.
    pub(super) fn make(destination: &Path, create: impl FnOnce(&Path) -> io::Result<()>) -> Result<Self, StorageError> {
        refuse_existing(destination)?;
        let parent = parent_of(destination);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(StorageError::io("create the folder", parent))?;
        let path = temporary_sibling(destination)?;
        create(&path).map_err(StorageError::io("create the folder", &path))?;
        failpoint("draft.created");
        let locked = fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
            .and_then(|()| File::open(&path))
            .and_then(|folder| {
                Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| io::Error::from(errno))
            });
        match locked {
            Ok(lock) => Ok(Self { path, destination: destination.to_owned(), landed: false, _lock: lock }),
            Err(error) => {
                discard(&path);
                Err(StorageError::io("lock the folder", &path)(error))
            }
        }
    }

    /// Syncs every file in it, lets `seal` have a last word, and gives it its final name.
    pub(crate) fn land(mut self, seal: impl FnOnce(&Path) -> Result<(), StorageError>) -> Result<(), StorageError> {
        for entry in fs::read_dir(&self.path).map_err(StorageError::io("read the folder", &self.path))? {
            let entry = entry.map_err(StorageError::io("read the folder", &self.path))?.path();
            sync(&entry)?;
        }
        sync(&self.path)?;
        seal(&self.path)?;
        failpoint("draft.before-rename");
        rename_new(&self.path, &self.destination)?;
        failpoint("draft.renamed");
        self.landed = true;
        sync(parent_of(&self.destination))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.landed {
            discard(&self.path);
        }
    }
}

/// A new private file, readable and writable.
pub(crate) fn create_private(path: &Path) -> Result<File, StorageError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(StorageError::io("create the file", path))
}

/// A new private file that is one hole.
pub(crate) fn create_sized(path: &Path, bytes: u64) -> Result<(), StorageError> {
    create_private(path)?.set_len(bytes).map_err(StorageError::io("size", path))
}

/// Moves something that is to be removed out of the way, so that a kill can't leave half of it under its name.
/// `None` when there was nothing.
pub(super) fn set_aside(path: &Path) -> Result<Option<PathBuf>, StorageError> {
    let aside = temporary_sibling(path)?;
    match fs::rename(path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // A full copy-on-write file system may have no room for a rename, but always has some for a removal.
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            Ok(Some(path.to_owned()))
        }
        Err(error) => Err(StorageError::io("move out of the way", path)(error)),
    }
}

/// Whether a file of that name is something temporary.
pub(crate) fn is_draft(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|id| id.parse::<Id>().is_ok())
}

/// Whether some process works on what is temporary at `path`.
pub(crate) fn is_worked_on(path: &Path) -> bool {
    matches!(lock(path), Some(Err(Errno::EWOULDBLOCK)))
}

/// Removes what is temporary at `path`, unless some process works on it: false then.
pub(crate) fn remove_draft(path: &Path) -> Result<bool, StorageError> {
    let lock = lock(path);
    if let Some(Err(Errno::EWOULDBLOCK)) = lock {
        return Ok(false);
    }
    erase(path).map_err(StorageError::io("remove", path))?;
    Ok(true)
}

/// Takes the lock of a draft; none when it can't be opened.
pub(super) fn lock(path: &Path) -> Option<Result<Flock<File>, Errno>> {
    let file = File::open(path).ok()?;
    Some(Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno))
}

/// Removes everything in `folder` that was being made or removed when its process ended, and says what that was.
pub(crate) fn sweep(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("read the folder", folder)(error)),
    };
    let mut swept = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StorageError::io("read the folder", folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let path = entry.path();
        if remove_draft(&path)? {
            swept.push(path);
        }
    }
    if !swept.is_empty() {
        sync(folder)?;
    }
    Ok(swept)
}

/// Makes a folder of plain files, and the files, readable by their owner only and writable by nobody.
pub(crate) fn seal_files(folder: &Path) -> Result<(), StorageError> {
    let read_only = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(StorageError::io("make read-only", path))
    };
    for entry in fs::read_dir(folder).map_err(StorageError::io("read the folder", folder))? {
        read_only(&entry.map_err(StorageError::io("read the folder", folder))?.path(), 0o400)?;
    }
    read_only(folder, 0o500)
}

pub(super) fn sync(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StorageError::io("sync", path))
}

pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(super) fn temporary_sibling(path: &Path) -> Result<PathBuf, StorageError> {
    let id = Id::random()
        .map_err(|error| StorageError::io("name a temporary file beside", path)(io::Error::other(error.to_string())))?;
    Ok(parent_of(path).join(format!("{PREFIX}{id}")))
}

fn refuse_existing(path: &Path) -> Result<(), StorageError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(StorageError::AlreadyExists(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StorageError::io("look at", path)(error)),
    }
}

/// `rename` that replaces nothing, not even an empty folder.
fn rename_new(from: &Path, to: &Path) -> Result<(), StorageError> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) => Err(StorageError::AlreadyExists(to.to_owned())),
        // Some network file systems have no such flag.
        Err(Errno::EINVAL) => {
            refuse_existing(to)?;
            fs::rename(from, to).map_err(StorageError::io("rename to", to))
        }
        Err(errno) => Err(StorageError::io("rename to", to)(errno)),
    }
}

/// Best effort, for a path that a sweep would find anyway.
fn discard(path: &Path) {
    if let Err(error) = erase(path) {
        tracing::warn!(path = %path.display(), %error, "left for a later sweep");
    }
}
