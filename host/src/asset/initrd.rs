//! Import of initial RAM disks.

use std::{
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{AssetError, Compression, INITRD, kernel::open_source};
use crate::storage::{Digest, Draft, Progress, StorageError, copy_file, digest_of, seal_files};

const MAX_INITRD_BYTES: u64 = 2 << 30;

/// An initrd in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedInitrd {
    /// Of its content.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// [`INITRD`] in the folder.
    pub path: PathBuf,
}

/// Copies the initrd at `source` into the folder `destination`, which must not be there yet. It must be a cpio archive
/// of the `newc` kind, plain or compressed in a way that the kernel knows.
///
/// # Errors
/// When the source is none or can't be read, when the disk is full, or when somebody calls it off.
pub fn import_initrd(source: &Path, destination: &Path, progress: &Progress) -> Result<ImportedInitrd, AssetError> {
    let file = open_source(source, "initrd", MAX_INITRD_BYTES, progress)?;
    let draft = Draft::folder(destination)?;
    let path = draft.path().join(INITRD);
    let copy = copy_file(&file, source, &path, progress)?;
    let mut head = [0; 16];
    let length = copy.read_at(&mut head, 0).map_err(StorageError::io("read", &path))?;
    check(&head[..length]).map_err(|reason| AssetError::NotAnInitrd { path: source.to_owned(), reason })?;
    let (digest, size_bytes) = digest_of(&path, progress)?;
    draft.land(seal_files)?;
    Ok(ImportedInitrd { digest, size_bytes, path: destination.join(INITRD) })
}

/// The kernel's `initramfs_specs.txt`: magic 070701, or 070702 with checksums.
fn check(head: &[u8]) -> Result<(), String> {
    if head.starts_with(b"070701") || head.starts_with(b"070702") || Compression::of(head).is_some() {
        return Ok(());
    }
    Err(match head {
        [] => "it is empty".to_owned(),
        _ if head.starts_with(b"070707") || head.starts_with(b"\xc7\x71") => {
            "it is a cpio archive of an old kind, which the kernel can't read".to_owned()
        }
        _ if head.starts_with(b"MZ") || head.starts_with(b"\x7fELF") => "it is a program or a kernel".to_owned(),
        _ => "it begins like none".to_owned(),
    })
}
