//! SHA-256 of files.

use std::{fmt, fs::File, io, os::unix::fs::FileExt, path::Path, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::{Progress, StorageError, sparse::next_data};

const CHUNK: usize = 1 << 20;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits, as `sha256sum` does.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a SHA-256 digest: 64 hexadecimal digits")]
pub struct ParseDigestError(String);

impl Digest {
    /// Of bytes in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDigestError(text.chars().take(80).collect());
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(error());
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(digest))
    }
}

/// The digest of the file at `path`, and its length in bytes. Holes are hashed, as the zeros that they are, but not read.
///
/// # Errors
/// When it can't be read, or somebody calls it off.
pub fn digest_of(path: &Path, progress: &Progress) -> Result<(Digest, u64), StorageError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StorageError::Missing(path.to_owned()),
        _ => StorageError::io("open", path)(error),
    })?;
    let length = file.metadata().map_err(StorageError::io("look at", path))?.len();
    let zeros = vec![0; CHUNK];
    let mut buffer = vec![0; CHUNK];
    let mut hasher = Sha256::new();
    let mut position = 0;
    let mut data = (0, 0);
    while position < length {
        if position >= data.1 {
            data = next_data(&file, position, length).map_err(StorageError::io("read", path))?;
        }
        let end = if position < data.0 { data.0 } else { data.1 };
        let wanted = usize::try_from(end - position).unwrap_or(CHUNK).min(CHUNK);
        let bytes = if position < data.0 {
            &zeros[..wanted]
        } else {
            file.read_exact_at(&mut buffer[..wanted], position).map_err(StorageError::io("read", path))?;
            &buffer[..wanted]
        };
        hasher.update(bytes);
        progress.advance(wanted as u64)?;
        position += wanted as u64;
    }
    Ok((Digest(hasher.finalize().into()), length))
}
