//! What goes wrong with images.

use std::{io, path::PathBuf};

use nexus_model::ErrorKind;

use crate::storage::{Cancelled, Digest, StorageError};

/// A failure to import or to check an image. Nothing half-made stays behind after one.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Writing, naming or removing files failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The source is not there or can't be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The source, or what in it can't be read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The source is neither a file nor a folder.
    #[error("{} is neither a regular file nor a folder: use a raw ext4 file, a folder or a tar archive", .0.display())]
    NotAFile(PathBuf),
    /// The source folder holds the image that would be made of it.
    #[error("{} holds the folder that images are kept in: choose one that doesn't", .0.display())]
    HoldsDestination(PathBuf),
    /// The source is something else than what an image is made of.
    #[error("{} is no ext4 file system: it looks like {looks_like}; {advice}", path.display())]
    NotExt4 {
        /// The source.
        path: PathBuf,
        /// What it seems to be, with its article.
        looks_like: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// The file system is larger than its file.
    #[error(
        "{} is cut short: its ext4 file system has {expected_bytes} bytes, the file {actual_bytes}; get it again",
        path.display()
    )]
    Truncated {
        /// The source.
        path: PathBuf,
        /// What its superblock says.
        expected_bytes: u64,
        /// How long the file is.
        actual_bytes: u64,
    },
    /// The file system was not unmounted.
    #[error(
        "{} was not unmounted cleanly, or still is mounted: unmount it, or repair it with `e2fsck -f {}`",
        .0.display(), .0.display()
    )]
    Unclean(PathBuf),
    /// The file system is damaged.
    #[error("the ext4 file system in {} is damaged: repair it with `e2fsck -f {}`", path.display(), path.display())]
    Damaged {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// The asked-for size does not hold the content.
    #[error("{wanted_bytes} bytes do not hold what is in {}: use at least {needed_bytes}", path.display())]
    TooSmall {
        /// The source.
        path: PathBuf,
        /// What was asked for.
        wanted_bytes: u64,
        /// What would do.
        needed_bytes: u64,
    },
    /// A size was asked for where none can be chosen.
    #[error("{} is a finished ext4 file of {size_bytes} bytes: a size can be chosen for folders and archives", path.display())]
    SizeIsFixed {
        /// The source.
        path: PathBuf,
        /// How long it is.
        size_bytes: u64,
    },
    /// A program that is needed is not installed.
    #[error("`{tool}` is not installed, and is needed {purpose}: install the package {package}")]
    MissingTool {
        /// Name of the program.
        tool: &'static str,
        /// What for.
        purpose: &'static str,
        /// Package that has it, on Debian, Fedora and Arch alike.
        package: &'static str,
    },
    /// A program could not be run.
    #[error("cannot run `{tool}`")]
    Run {
        /// Name of the program.
        tool: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A program failed.
    #[error("`{tool}` failed: {detail}")]
    Tool {
        /// Name of the program.
        tool: &'static str,
        /// The end of what it said.
        detail: String,
    },
    /// An archive can't be read.
    #[error("cannot read the archive {}", path.display())]
    Archive {
        /// The source.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An archive has an entry that no archive of a root file system has.
    #[error("the archive {} has an entry that is refused, `{entry}`: {reason}", path.display())]
    Entry {
        /// The source.
        path: PathBuf,
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `/etc/nexus/image.yaml` in the image is not what it should be.
    #[error("/etc/nexus/image.yaml in {} is not a short map of names to values: {reason}", path.display())]
    Metadata {
        /// The source.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An image is not what was imported.
    #[error("{} has changed: its SHA-256 is {actual}, and was {expected}", path.display())]
    DigestMismatch {
        /// The disk.
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

impl ImageError {
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
            Self::NotAFile(_)
            | Self::HoldsDestination(_)
            | Self::NotExt4 { .. }
            | Self::Unclean(_)
            | Self::TooSmall { .. }
            | Self::SizeIsFixed { .. }
            | Self::Entry { .. }
            | Self::Metadata { .. } => ErrorKind::InvalidArgs,
            Self::Truncated { .. } | Self::Damaged { .. } | Self::Archive { .. } | Self::DigestMismatch { .. } => {
                ErrorKind::IntegrityFailed
            }
            Self::MissingTool { .. } => ErrorKind::HostUnsupported,
            Self::Run { .. } | Self::Tool { .. } => ErrorKind::StorageFailed,
            Self::Cancelled(_) => ErrorKind::Cancelled,
        }
    }
}
