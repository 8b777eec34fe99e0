//! Master images: raw ext4 disks, copied or built.
//!
//! What is imported is never mounted, and what is in it never trusted: a disk is judged by its superblock and read by a
//! decoder in safe code, an archive is unpacked into a private folder that nothing in it can point out of. Like
//! everything in [`storage`](crate::storage) an image lands whole or not at all, and all of this blocks.

mod archive;
mod build;
mod error;
mod ext4;
mod import;
mod metadata;
mod ownership;
mod tool;

use std::path::Path;

pub use build::HEADROOM_BYTES;
pub use error::ImageError;
pub use import::{ImportRequest, ImportedImage, import};

use crate::storage::{DISK, Digest, Progress, digest_of};

/// Hashes the disk of an image again, and compares.
///
/// # Errors
/// [`ImageError::DigestMismatch`] when it is not what was imported; another error when it can't be read.
pub fn verify(image: &Path, expected: &Digest, progress: &Progress) -> Result<(), ImageError> {
    let disk = image.join(DISK);
    progress.expect(std::fs::metadata(&disk).map_or(0, |metadata| metadata.len()));
    let (actual, _) = digest_of(&disk, progress)?;
    if actual == *expected {
        Ok(())
    } else {
        Err(ImageError::DigestMismatch { path: disk, expected: *expected, actual })
    }
}
