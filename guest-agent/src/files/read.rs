//! Reading a part of a file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
};

use nexus_archive::Root;
use rustix::fs::OFlags;

use super::{FileError, is_absolute};

/// A part of a file.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// Of the whole file; 0 for some that the kernel makes up.
    pub(crate) size: u64,
    /// Its permissions.
    pub(crate) mode: u32,
    /// Whether something is behind it.
    pub(crate) is_more: bool,
}

/// Reads at most `limit` bytes from `offset` on. Links are followed.
pub(crate) fn read(root: &Root, path: &str, offset: u64, limit: u64) -> Result<Part, FileError> {
    is_absolute(path)?;
    let failed = FileError::system("read", path);
    // A pipe without a writer would have it wait.
    let opened = root.open_at(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
    let mut file = File::from(opened.map_err(&failed)?);
    let metadata = file.metadata().map_err(&failed)?;
    if metadata.is_dir() {
        return Err(FileError::Folder(path.to_owned()));
    }
    if !metadata.is_file() {
        return Err(FileError::Special(path.to_owned()));
    }
    let (bytes, is_more) = part(&mut file, offset, limit).map_err(&failed)?;
    Ok(Part { bytes, size: metadata.len(), mode: metadata.mode() & 0o7777, is_more })
}

fn part(file: &mut File, offset: u64, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_more = bytes.len() > limit;
    bytes.truncate(limit);
    Ok((bytes, is_more))
}
