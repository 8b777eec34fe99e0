//! Backends of plain files: `reflink`, whose copies share extents, and `copy`, whose copies do not.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nexus_model::BackendKind;

use super::{
    DISK, Draft, Progress, StorageError, WorkspaceBackend,
    draft::{create_private, seal_files},
    extents::clone_file,
    sparse::copy_sparse,
};

/// A master is a folder that nobody may write, a workspace a folder with a copy of its disk.
#[derive(Debug)]
pub(super) struct Plain {
    root: PathBuf,
    share_extents: bool,
}

impl Plain {
    /// Copies that share extents, if the file system of `root` can: tried with two real files.
    pub(super) fn reflink(root: &Path) -> Result<Self, StorageError> {
        let probe = Draft::folder(&root.join("probe"))?;
        let (first, second) = (probe.path().join("first"), probe.path().join("second"));
        fs::write(&first, [1; 64 << 10]).map_err(StorageError::io("write", &first))?;
        let source = File::open(&first).map_err(StorageError::io("open", &first))?;
        clone_file(&source, &create_private(&second)?).map_err(|error| StorageError::Unsupported {
            kind: BackendKind::Reflink,
            root: root.to_owned(),
            reason: format!("its file system can't share blocks between files ({error}); btrfs, XFS and bcachefs can"),
        })?;
        Ok(Self { root: root.to_owned(), share_extents: true })
    }

    /// Sparse copies.
    pub(super) fn copy(root: &Path) -> Self {
        Self { root: root.to_owned(), share_extents: false }
    }
}

impl WorkspaceBackend for Plain {
    fn kind(&self) -> BackendKind {
        if self.share_extents { BackendKind::Reflink } else { BackendKind::Copy }
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn create_master(&self, destination: &Path) -> Result<Draft, StorageError> {
        Draft::folder(destination)
    }

    fn seal_master(&self, master: Draft) -> Result<(), StorageError> {
        master.land(seal_files)
    }

    fn snapshot(&self, master: &Path, workspace: &Path, progress: &Progress) -> Result<(), StorageError> {
        let original = master.join(DISK);
        let source = File::open(&original).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::Missing(original.clone()),
            _ => StorageError::io("open", &original)(error),
        })?;
        let length = source.metadata().map_err(StorageError::io("look at", &original))?.len();
        let draft = Draft::folder(workspace)?;
        let disk = draft.disk();
        let copy = create_private(&disk)?;
        progress.expect(length);
        if self.share_extents {
            clone_file(&source, &copy).map_err(|error| match error.kind() {
                io::ErrorKind::CrossesDevices => {
                    StorageError::DifferentFileSystems { master: master.to_owned(), workspace: workspace.to_owned() }
                }
                _ => StorageError::io("share the blocks of the image with", &disk)(error),
            })?;
            progress.advance(length)?;
        } else {
            copy_sparse(&source, &original, &copy, &disk, length, progress)?;
        }
        draft.land(|_| Ok(()))
    }
}
