//! Backend of btrfs subvolumes: an image is a read-only one, a workspace a writable snapshot of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use libbtrfsutil::{CreateSnapshotOptions, create_subvolume, set_subvolume_read_only};
use nexus_model::BackendKind;

use super::{
    DISK, Draft, Progress, StorageError, WorkspaceBackend,
    draft::{parent_of, sync},
    erase::is_btrfs,
};

/// All that it does works without privileges, for the owner of the folder.
#[derive(Debug)]
pub(super) struct Btrfs {
    root: PathBuf,
}

impl Btrfs {
    /// Subvolumes below `root`, if they can be made there: tried with a real one.
    pub(super) fn new(root: &Path) -> Result<Self, StorageError> {
        let unsupported =
            |reason: String| StorageError::Unsupported { kind: BackendKind::Btrfs, root: root.to_owned(), reason };
        if !is_btrfs(root).map_err(StorageError::io("look at the file system of", root))? {
            return Err(unsupported("it is not on btrfs".to_owned()));
        }
        let backend = Self { root: root.to_owned() };
        let probe = backend
            .create_master(&root.join("probe"))
            .map_err(|error| unsupported(format!("no subvolume can be made there: {}", reason(&error))))?;
        let snapshot = super::draft::temporary_sibling(probe.path())?;
        let tried = read_only(probe.path()).and_then(|()| take_snapshot(probe.path(), &snapshot));
        backend.remove(&snapshot)?;
        tried.map_err(|error| unsupported(format!("no snapshot can be made there: {}", reason(&error))))?;
        Ok(backend)
    }
}

impl WorkspaceBackend for Btrfs {
    fn kind(&self) -> BackendKind {
        BackendKind::Btrfs
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn create_master(&self, destination: &Path) -> Result<Draft, StorageError> {
        Draft::make(destination, |path| create_subvolume(path).map_err(|error| error.os_error()))
    }

    fn seal_master(&self, master: Draft) -> Result<(), StorageError> {
        master.land(read_only)
    }

    fn snapshot(&self, master: &Path, workspace: &Path, progress: &Progress) -> Result<(), StorageError> {
        let disk = master.join(DISK);
        let length = match fs::metadata(&disk) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(StorageError::Missing(disk)),
            Err(error) => return Err(StorageError::io("look at", &disk)(error)),
        };
        if fs::symlink_metadata(workspace).is_ok() {
            // libbtrfsutil would make it inside of what is there.
            return Err(StorageError::AlreadyExists(workspace.to_owned()));
        }
        progress.expect(length);
        progress.check()?;
        // One transaction of the file system: there whole, and on disk, or not there at all.
        take_snapshot(master, workspace)?;
        sync(parent_of(workspace))?;
        progress.advance(length).or(Ok(()))
    }
}

fn read_only(subvolume: &Path) -> Result<(), StorageError> {
    set_subvolume_read_only(subvolume, true)
        .map_err(|error| StorageError::io("make read-only", subvolume)(error.os_error()))
}

fn take_snapshot(master: &Path, snapshot: &Path) -> Result<(), StorageError> {
    CreateSnapshotOptions::new().create(master, snapshot).map_err(|error| match error.os_error() {
        error if error.kind() == io::ErrorKind::AlreadyExists => StorageError::AlreadyExists(snapshot.to_owned()),
        error if error.kind() == io::ErrorKind::CrossesDevices => {
            StorageError::DifferentFileSystems { master: master.to_owned(), workspace: snapshot.to_owned() }
        }
        error => StorageError::io("make the snapshot", snapshot)(error),
    })
}

fn reason(error: &StorageError) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}
