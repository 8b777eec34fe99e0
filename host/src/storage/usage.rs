//! What a disk costs.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use super::{StorageError, extents::exclusive_bytes};

/// Bytes of an image or a workspace, in three honest ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// As long as its files are.
    pub apparent: u64,
    /// In blocks that its files have, shared ones included.
    pub allocated: u64,
    /// In blocks that nothing else has: what a removal would give back.
    pub exclusive: u64,
}

impl Usage {
    pub(super) fn of(path: &Path) -> Result<Self, StorageError> {
        let mut usage = Self::default();
        let entries = fs::read_dir(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::Missing(path.to_owned()),
            _ => StorageError::io("read the folder", path)(error),
        })?;
        for entry in entries {
            let entry = entry.map_err(StorageError::io("read the folder", path))?;
            let metadata = entry.metadata().map_err(StorageError::io("look at", &entry.path()))?;
            if metadata.is_file() {
                usage.add(&entry.path(), &metadata).map_err(StorageError::io("measure", &entry.path()))?;
            }
        }
        Ok(usage)
    }

    fn add(&mut self, path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
        let allocated = metadata.blocks().saturating_mul(512);
        let exclusive = exclusive_bytes(&File::open(path)?)?.unwrap_or(allocated);
        self.apparent += metadata.len();
        self.allocated += allocated;
        // Compressed extents are listed by the length of what is in them.
        self.exclusive += exclusive.min(allocated);
        Ok(())
    }
}
