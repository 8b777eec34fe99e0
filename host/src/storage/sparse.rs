//! Copies that leave holes where there are holes.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use nix::{
    errno::Errno,
    fcntl::copy_file_range,
    unistd::{Whence, lseek},
};

use super::{Progress, StorageError, draft::create_private, extents::clone_file};

/// Copied between two looks at the cancel flag.
const CHUNK: u64 = 8 << 20;

/// Copies the regular file `source`, opened from `source_path`, to a new private file: by sharing its blocks where the
/// file system can, else as a sparse copy. Reports the length of the file.
pub(crate) fn copy_file(
    source: &File,
    source_path: &Path,
    destination: &Path,
    progress: &Progress,
) -> Result<File, StorageError> {
    let copy = create_private(destination)?;
    let length = source.metadata().map_err(StorageError::io("look at", source_path))?.len();
    if clone_file(source, &copy).is_ok() {
        progress.advance(length)?;
    } else {
        copy_sparse(source, source_path, &copy, destination, length, progress)?;
    }
    Ok(copy)
}

/// The same, but never sharing blocks on purpose.
pub(super) fn copy_sparse(
    source: &File,
    source_path: &Path,
    copy: &File,
    destination: &Path,
    length: u64,
    progress: &Progress,
) -> Result<(), StorageError> {
    copy.set_len(length).map_err(StorageError::io("size", destination))?;
    let mut position = 0;
    while position < length {
        let (data, hole) = next_data(source, position, length).map_err(StorageError::io("read", source_path))?;
        progress.advance(data - position)?;
        position = data;
        while position < hole {
            let wanted = CHUNK.min(hole - position);
            let copied = copy_chunk(source, copy, position, wanted).map_err(StorageError::io("write", destination))?;
            if copied == 0 {
                let shrunk = io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut short while it was read");
                return Err(StorageError::io("read", source_path)(shrunk));
            }
            progress.advance(copied)?;
            position += copied;
        }
    }
    Ok(())
}

/// Where the next data at or behind `position` begins and where it ends; both `length` when only a hole is left. A file
/// system that can't tell says that all is data.
pub(super) fn next_data(file: &File, position: u64, length: u64) -> io::Result<(u64, u64)> {
    let seek = |from: u64, whence| {
        let from = i64::try_from(from).map_err(io::Error::other)?;
        match lseek(file, from, whence) {
            Ok(offset) => Ok(u64::try_from(offset).unwrap_or(length).min(length)),
            Err(Errno::ENXIO) => Ok(length),
            Err(errno) => Err(io::Error::from(errno)),
        }
    };
    let data = seek(position, Whence::SeekData)?;
    if data >= length {
        return Ok((length, length));
    }
    Ok((data, seek(data, Whence::SeekHole)?))
}

fn copy_chunk(source: &File, copy: &File, position: u64, length: u64) -> io::Result<u64> {
    let offset = i64::try_from(position).map_err(io::Error::other)?;
    let wanted = usize::try_from(length).map_err(io::Error::other)?;
    match copy_file_range(source, Some(&mut offset.clone()), copy, Some(&mut offset.clone()), wanted) {
        Ok(copied) => Ok(copied as u64),
        // Between file systems of different kinds, or not at all.
        Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            let mut buffer = vec![0; wanted];
            let read = source.read_at(&mut buffer, position)?;
            copy.write_all_at(&buffer[..read], position)?;
            Ok(read as u64)
        }
        Err(errno) => Err(errno.into()),
    }
}
