//! What a file is, by its first bytes; and whether an ext4 file system is whole.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::ImageError;
use crate::asset::Compression;

/// The superblock starts here and has 1024 bytes: `Documentation/filesystems/ext4/super.rst` of the kernel.
const SUPERBLOCK: usize = 1024;
/// `s_magic`
const MAGIC: u16 = 0xEF53;
/// `s_state`: unmounted cleanly; errors were seen.
const STATE_VALID: u16 = 0x1;
const STATE_ERROR: u16 = 0x2;
/// `s_feature_incompat`: the journal must be replayed; it is only a journal; block counts have 64 bits.
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_64BIT: u32 = 0x80;
/// The largest `s_log_block_size`: 64 KiB.
const MAX_LOG_BLOCK_SIZE: u32 = 6;
/// 128 TiB in blocks of 4 KiB; the decoder keeps a few bytes for each group.
const MAX_GROUPS: u64 = 1 << 20;
/// Far enough to see every magic number below.
const HEAD: usize = 0x10080;

/// What an image can be made of, as far as a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Starts with an ext4 superblock.
    Ext4,
    /// A tar archive, perhaps compressed.
    Tar(Option<Compression>),
}

/// Tells what `file` is.
pub(super) fn recognise(file: &File, path: &Path) -> Result<Kind, ImageError> {
    let unreadable = |source| ImageError::Source { path: path.to_owned(), source };
    let mut head = vec![0; HEAD];
    let filled = read_up_to(file, &mut head).map_err(unreadable)?;
    head.truncate(filled);
    if u16_at(&head, SUPERBLOCK + 0x38) == Some(MAGIC) {
        return Ok(Kind::Ext4);
    }
    if is_tar(&head) {
        return Ok(Kind::Tar(None));
    }
    if let Some(compression) = Compression::of(&head) {
        let mut inner = [0; 512];
        let read = match compression.reader(head.as_slice()) {
            Ok(Some(mut reader)) => read_what_comes(&mut reader, &mut inner),
            _ => 0,
        };
        if is_tar(&inner[..read]) {
            return Ok(Kind::Tar(Some(compression)));
        }
    }
    let (looks_like, advice) = looks_like(&head);
    Err(ImageError::NotExt4 { path: path.to_owned(), looks_like, advice })
}

/// Judges the superblock of an ext4 file system in `file`, which was found at `path`.
pub(super) fn check(file: &File, path: &Path) -> Result<(), ImageError> {
    let unreadable = |source| ImageError::Source { path: path.to_owned(), source };
    let damaged = |what: &str| ImageError::Damaged {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, what.to_owned()),
    };
    let actual_bytes = file.metadata().map_err(unreadable)?.len();
    let mut superblock = [0; 1024];
    file.read_exact_at(&mut superblock, SUPERBLOCK as u64).map_err(unreadable)?;
    let half = |offset| u16_at(&superblock, offset).unwrap_or_default();
    let word = |offset| u32_at(&superblock, offset).unwrap_or_default();

    if half(0x38) != MAGIC {
        return Err(damaged("its superblock has no magic number any more"));
    }
    let incompatible = word(0x60);
    if incompatible & INCOMPAT_JOURNAL_DEV != 0 {
        return Err(ImageError::NotExt4 {
            path: path.to_owned(),
            looks_like: "an external ext4 journal",
            advice: "use the file system that it belongs to",
        });
    }
    if word(0x18) > MAX_LOG_BLOCK_SIZE {
        return Err(damaged("its superblock has an impossible block size"));
    }
    let block_bytes = 1024_u64 << word(0x18);
    let high = if incompatible & INCOMPAT_64BIT != 0 { word(0x150) } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(word(0x4));
    let expected_bytes = blocks.checked_mul(block_bytes).ok_or_else(|| damaged("it has an impossible block count"))?;
    if blocks == 0 || word(0x0) == 0 {
        return Err(damaged("its superblock has no blocks or no inodes"));
    }
    // s_blocks_per_group; a bitmap of one block describes a group.
    let per_group = word(0x20);
    if per_group == 0 || u64::from(per_group) > 8 * block_bytes || blocks / u64::from(per_group) > MAX_GROUPS {
        return Err(damaged("it has impossible block groups"));
    }
    if expected_bytes > actual_bytes {
        return Err(ImageError::Truncated { path: path.to_owned(), expected_bytes, actual_bytes });
    }
    let state = half(0x3A);
    if state & STATE_ERROR != 0 {
        return Err(damaged("its superblock says that errors were seen"));
    }
    if state & STATE_VALID == 0 || incompatible & INCOMPAT_RECOVER != 0 {
        return Err(ImageError::Unclean(path.to_owned()));
    }
    Ok(())
}

fn is_tar(head: &[u8]) -> bool {
    // POSIX ustar and GNU tar alike.
    head.get(257..262) == Some(b"ustar")
}

fn looks_like(head: &[u8]) -> (&'static str, &'static str) {
    const CONVERT: &str = "convert it with `qemu-img convert -O raw`, then take the ext4 partition out of it";
    const PARTITION: &str = "take its ext4 partition out of it (`fdisk -l` says where it begins, `dd` copies it)";
    const UNPACK: &str = "unpack it into a folder and import that";
    const OTHER: &str = "mount it and import its folder";
    const DECOMPRESS: &str = "decompress it first";
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let compressed = Compression::of(head);
    if head.is_empty() {
        ("an empty file", "use a raw ext4 file, a folder or a tar archive")
    } else if at(0, b"QFI\xfb") {
        ("a qcow2 disk", CONVERT)
    } else if at(0, b"KDMV") || at(0, b"# Disk DescriptorFile") {
        ("a VMDK disk", CONVERT)
    } else if at(0, b"vhdxfile") {
        ("a VHDX disk", CONVERT)
    } else if at(0, b"conectix") {
        ("a VHD disk", CONVERT)
    } else if at(0x40, b"\x7f\x10\xda\xbe") {
        ("a VirtualBox disk", CONVERT)
    } else if at(0x8001, b"CD001") {
        ("an ISO 9660 image", "extract its root file system into a folder and import that")
    } else if at(512, b"EFI PART") {
        ("a disk with a GUID partition table", PARTITION)
    } else if at(0, b"hsqs") {
        ("a squashfs file system", "unpack it with `unsquashfs` and import the folder")
    } else if at(0x10040, b"_BHRfS_M") {
        ("a btrfs file system", OTHER)
    } else if at(0, b"XFSB") {
        ("an XFS file system", OTHER)
    } else if at(1024, b"\xe2\xe1\xf5\xe0") {
        ("an EROFS file system", OTHER)
    } else if at(1024, b"\x10\x20\xf5\xf2") {
        ("an F2FS file system", OTHER)
    } else if at(0, b"LUKS\xba\xbe") {
        ("an encrypted LUKS volume", "open it, and import the ext4 file system in it")
    } else if at(512, b"LABELONE") {
        ("an LVM physical volume", "import the ext4 file system of a logical volume")
    } else if at(0, b"\x7fELF") {
        ("an ELF program", "use a raw ext4 file, a folder or a tar archive")
    } else if at(0, b"PK\x03\x04") {
        ("a ZIP archive", UNPACK)
    } else if at(0, b"07070") {
        ("a cpio archive, as an initrd is", UNPACK)
    } else if compressed == Some(Compression::Gzip) {
        ("a gzip file of something that is no tar archive", DECOMPRESS)
    } else if compressed == Some(Compression::Bzip2) {
        ("a bzip2 file", DECOMPRESS)
    } else if compressed.is_some() {
        ("a compressed file of something that is no tar archive", DECOMPRESS)
    } else if at(510, b"\x55\xaa") {
        ("a disk with a partition table", PARTITION)
    } else if head.iter().all(|byte| *byte == 0) {
        ("a file of zeros", "make a file system on it with `mkfs.ext4`")
    } else {
        ("nothing that is known here", "use a raw ext4 file, a folder or a tar archive")
    }
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// What a decompressor gives before it fails or ends: only the head of the file is behind it.
fn read_what_comes(reader: &mut dyn io::Read, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while let Ok(read @ 1..) = reader.read(&mut buffer[filled..]) {
        filled += read;
    }
    filled
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_le_bytes)
}
