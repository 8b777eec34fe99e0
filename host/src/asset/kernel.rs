//! Import of kernels.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{
    AssetError, BZIMAGE, Compression, ELF,
    bzimage::{BzImage, text},
    elf,
};
use crate::storage::{Digest, Draft, Progress, StorageError, copy_file, digest_of, seal_files};

/// Kernels with everything built in and debug information included stay well below.
const MAX_KERNEL_BYTES: u64 = 1 << 30;
const CHUNK: usize = 1 << 20;
/// How the kernel's banner begins (`linux_banner` in `init/version.c`).
const BANNER: &[u8] = b"Linux version ";

/// A kernel in its folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedKernel {
    /// Of the file at `path`, which is the source's content.
    pub digest: Digest,
    /// Length of the file at `path`.
    pub size_bytes: u64,
    /// The kernel's release and build, as it would print them (`6.1.0-56-cloud-amd64 (…) #1 SMP …`).
    pub version: String,
    /// What it runs on, by the words of `uname -m`.
    pub architecture: &'static str,
    /// [`BZIMAGE`] or [`ELF`] in the folder: what QEMU starts.
    pub path: PathBuf,
    /// [`ELF`] in the folder: what Firecracker starts. `None` when the bzImage is compressed in a way that can't be
    /// unpacked here (bzip2, LZO).
    pub elf_path: Option<PathBuf>,
}

/// Copies the kernel at `source` into the folder `destination`, which must not be there yet, and takes the ELF kernel
/// out of a bzImage.
///
/// # Errors
/// When the source is no kernel, can't be read or is damaged, when the disk is full, or when somebody calls it off.
pub fn import_kernel(source: &Path, destination: &Path, progress: &Progress) -> Result<ImportedKernel, AssetError> {
    let file = open_source(source, "kernel", MAX_KERNEL_BYTES, progress)?;
    let draft = Draft::folder(destination)?;
    let copy_path = draft.path().join("source");
    let mut copy = copy_file(&file, source, &copy_path, progress)?;
    let mut image = Vec::new();
    Read::by_ref(&mut copy)
        .take(MAX_KERNEL_BYTES)
        .read_to_end(&mut image)
        .map_err(StorageError::io("read", &copy_path))?;
    let not_a_kernel = |reason| AssetError::NotAKernel { path: source.to_owned(), reason };

    let (name, version, architecture, has_elf) = if BzImage::is_one(&image) {
        let bzimage = BzImage::parse(&image).map_err(not_a_kernel)?;
        let extracted = extract(&bzimage, source, &draft.path().join(ELF), progress)?;
        let architecture = if bzimage.is_64_bit { "x86_64" } else { "i686" };
        (BZIMAGE, bzimage.version, architecture, extracted)
    } else if elf::is_elf(&image) {
        let architecture = elf::architecture(&image).map_err(not_a_kernel)?;
        let version = banner(&image)
            .ok_or_else(|| not_a_kernel("it is an ELF program, but none that calls itself Linux".to_owned()))?;
        (ELF, version, architecture, true)
    } else {
        return Err(not_a_kernel(looks_like(&image)));
    };

    let path = draft.path().join(name);
    fs::rename(&copy_path, &path).map_err(StorageError::io("rename to", &path))?;
    let (digest, size_bytes) = digest_of(&path, progress)?;
    draft.land(seal_files)?;
    Ok(ImportedKernel {
        digest,
        size_bytes,
        version,
        architecture,
        path: destination.join(name),
        elf_path: has_elf.then(|| destination.join(ELF)),
    })
}

/// Whether the ELF kernel beside a bzImage is the one that is in it.
pub(super) fn verify_extracted(bzimage: &Path, elf: &Path, progress: &Progress) -> Result<(), AssetError> {
    if !elf.exists() {
        return Ok(());
    }
    let image = fs::read(bzimage).map_err(StorageError::io("read", bzimage))?;
    let parsed =
        BzImage::parse(&image).map_err(|reason| AssetError::NotAKernel { path: bzimage.to_owned(), reason })?;
    let mut unpacked = Vec::new();
    unpack(&parsed, bzimage, &mut unpacked, elf, progress)?;
    let (actual, _) = digest_of(elf, progress)?;
    let expected = Digest::of(&unpacked);
    if actual == expected { Ok(()) } else { Err(AssetError::DigestMismatch { path: elf.to_owned(), expected, actual }) }
}

/// Opens a regular file of a bounded length, and announces its copy and its hash.
pub(super) fn open_source(
    source: &Path,
    what: &'static str,
    max_bytes: u64,
    progress: &Progress,
) -> Result<File, AssetError> {
    let unreadable = |error| AssetError::Source { path: source.to_owned(), source: error };
    // Looked at first: to open a pipe would wait for a writer.
    if !fs::metadata(source).map_err(unreadable)?.is_file() {
        return Err(AssetError::NotAFile(source.to_owned()));
    }
    let file = File::open(source).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    if length > max_bytes {
        return Err(AssetError::TooLarge { path: source.to_owned(), what, max_bytes });
    }
    progress.expect(2 * length);
    Ok(file)
}

fn extract(bzimage: &BzImage<'_>, source: &Path, elf: &Path, progress: &Progress) -> Result<bool, AssetError> {
    let mut file = File::create_new(elf).map_err(StorageError::io("create the file", elf))?;
    let unpacked = unpack(bzimage, source, &mut file, elf, progress);
    if !matches!(unpacked, Ok(true)) {
        fs::remove_file(elf).map_err(StorageError::io("remove", elf))?;
    }
    unpacked
}

/// Writes the ELF kernel of a bzImage; false when it is compressed in a way that is only recognised.
fn unpack(
    bzimage: &BzImage<'_>,
    source: &Path,
    elf: &mut impl Write,
    elf_path: &Path,
    progress: &Progress,
) -> Result<bool, AssetError> {
    let not_a_kernel = |reason: &str| AssetError::NotAKernel { path: source.to_owned(), reason: reason.to_owned() };
    let Some((compression, stream, length)) = bzimage.compressed() else {
        return Err(not_a_kernel("its payload is compressed in an unknown way"));
    };
    let damaged =
        |error| AssetError::Payload { path: source.to_owned(), compression: compression.name(), source: error };
    let Some(reader) = compression.reader(stream).map_err(damaged)? else {
        tracing::info!(
            compression = compression.name(),
            "this bzImage can't be unpacked here: it starts with QEMU only"
        );
        return Ok(false);
    };
    let mut reader = reader.take(MAX_KERNEL_BYTES + 1);
    let mut buffer = vec![0; CHUNK];
    let mut written = 0_u64;
    loop {
        progress.check()?;
        let filled = fill(&mut reader, &mut buffer).map_err(damaged)?;
        if filled == 0 {
            break;
        }
        if written == 0 && elf::architecture(&buffer[..filled]).is_err() {
            return Err(not_a_kernel("what is in its payload is no ELF kernel"));
        }
        elf.write_all(&buffer[..filled]).map_err(StorageError::io("write", elf_path))?;
        written += filled as u64;
    }
    if written > MAX_KERNEL_BYTES {
        return Err(AssetError::TooLarge { path: source.to_owned(), what: "kernel", max_bytes: MAX_KERNEL_BYTES });
    }
    if written == 0 || length.is_some_and(|length| u64::from(length) != written) {
        return Err(damaged(io::Error::new(io::ErrorKind::UnexpectedEof, "its length is not what the header says")));
    }
    Ok(true)
}

/// Fills the buffer as far as the reader goes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn banner(image: &[u8]) -> Option<String> {
    // The format string of the banner comes with a `%`, or ends at once.
    memchr::memmem::find_iter(image, BANNER)
        .map(|position| text(&image[position + BANNER.len()..]))
        .find(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

fn looks_like(image: &[u8]) -> String {
    match Compression::of(image) {
        _ if image.is_empty() => "it is empty".to_owned(),
        Some(compression) => format!("it is {}: decompress it first", compression.name()),
        None if image.get(0x38..0x3C) == Some(b"ARM\x64") => "it is an arm64 Image, and this needs an ELF".to_owned(),
        None if image.starts_with(b"MZ") => "it is an EFI program without a Linux boot header".to_owned(),
        None if image.starts_with(b"\x27\x05\x19\x56") => "it is a U-Boot uImage".to_owned(),
        None if image.starts_with(b"07070") => "it is a cpio archive, as an initrd is".to_owned(),
        None => "it has neither the header of a bzImage nor that of an ELF file".to_owned(),
    }
}
