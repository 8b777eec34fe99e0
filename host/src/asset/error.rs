//! What goes wrong with kernels and initrds.

use std::{io, path::PathBuf};

use nexus_model::ErrorKind;

use crate::storage::{Cancelled, Digest, StorageError};

/// A failure to import or to check an asset. Nothing half-made stays behind after one.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// Reading, writing or naming files failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The source is not there or can't be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The source.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The source is something else than a file.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The source is larger than anything of its kind.
    #[error("{} has more than {max_bytes} bytes, which no {what} has", path.display())]
    TooLarge {
        /// The source.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// The most bytes.
        max_bytes: u64,
    },
    /// The source is no kernel that a VMM starts.
    #[error(
        "{} is no Linux kernel that can be started: {reason}; use a bzImage (as in /boot/vmlinuz-…) or an ELF vmlinux",
        path.display()
    )]
    NotAKernel {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The source is no initrd.
    #[error("{} is no initrd: {reason}; use a cpio archive (newc), plain or compressed", path.display())]
    NotAnInitrd {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel inside of a bzImage can't be unpacked.
    #[error("the {compression} payload of {} is damaged", path.display())]
    Payload {
        /// The bzImage.
        path: PathBuf,
        /// How it is compressed.
        compression: &'static str,
        /// What the decompressor says.
        #[source]
        source: io::Error,
    },
    /// An asset's file is not what was imported.
    #[error("{} has changed: its SHA-256 is {actual}, and was {expected}", path.display())]
    DigestMismatch {
        /// The file.
        path: PathBuf,
        /// Of what was imported.
        expected: Digest,
        /// Of what is there.
        actual: Digest,
    },
    /// Somebody called it off.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl AssetError {
    /// The kind that a caller can tell apart.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Storage(error) => error.kind(),
            Self::Source { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                _ => ErrorKind::StorageFailed,
            },
            Self::NotAFile(_) | Self::TooLarge { .. } | Self::NotAKernel { .. } | Self::NotAnInitrd { .. } => {
                ErrorKind::InvalidArgs
            }
            Self::Payload { .. } | Self::DigestMismatch { .. } => ErrorKind::IntegrityFailed,
            Self::Cancelled(_) => ErrorKind::Cancelled,
        }
    }
}
