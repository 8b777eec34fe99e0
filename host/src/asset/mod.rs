//! Kernels and initrds: recognised, unpacked where a VMM needs it, and kept in a folder of their own.
//!
//! Like images, they land whole or not at all, and all of this blocks.

mod bzimage;
mod compression;
mod elf;
mod error;
mod initrd;
mod kernel;

use std::path::{Path, PathBuf};

pub use error::AssetError;
pub use initrd::{ImportedInitrd, import_initrd};
pub use kernel::{ImportedKernel, import_kernel};

use crate::storage::{self, Digest, Progress, StorageError, digest_of};

pub(crate) use compression::Compression;

/// File name of a bzImage in a kernel's folder.
pub const BZIMAGE: &str = "vmlinuz";
/// File name of an ELF kernel in a kernel's folder: imported as it is, or taken out of the bzImage.
pub const ELF: &str = "vmlinux";
/// File name in an initrd's folder.
pub const INITRD: &str = "initrd";

/// Hashes an imported asset's file again, and compares; what was taken out of a bzImage is compared with it, too.
///
/// # Errors
/// [`AssetError::DigestMismatch`] when it is not what was imported; another error when it can't be read.
pub fn verify(path: &Path, expected: &Digest, progress: &Progress) -> Result<(), AssetError> {
    progress.expect(std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
    let (actual, _) = digest_of(path, progress)?;
    if actual != *expected {
        return Err(AssetError::DigestMismatch { path: path.to_owned(), expected: *expected, actual });
    }
    if path.file_name().is_some_and(|name| name == BZIMAGE) {
        kernel::verify_extracted(path, &path.with_file_name(ELF), progress)?;
    }
    Ok(())
}

/// Removes an asset's folder, however far its import got. Nothing there is success.
///
/// # Errors
/// When the system refuses.
pub fn remove(folder: &Path) -> Result<(), StorageError> {
    storage::remove(folder)
}

/// Removes what was being imported or removed below `assets` when its process ended, and says what that was.
///
/// # Errors
/// When something can't be removed.
pub fn sweep(assets: &Path) -> Result<Vec<PathBuf>, StorageError> {
    storage::sweep(assets)
}
