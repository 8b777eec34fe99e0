//! From what the user has to a sealed master.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    ImageError,
    archive::ImageUnpacker,
    build::{Root, build},
    ext4::{self, Kind},
    metadata,
    tool::FAKEROOT,
};
use crate::{
    asset::Compression,
    storage::{Digest, Draft, Progress, StorageError, WorkspaceBackend, copy_file, create_private, digest_of},
};

/// What to make an image of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRequest {
    /// A raw ext4 file, a folder, or a tar archive (plain, or compressed with gzip, zstd, xz, lz4 or lzma) of a root
    /// file system.
    pub source: PathBuf,
    /// Size of the disk that is built of a folder or an archive; [`HEADROOM_BYTES`](super::HEADROOM_BYTES) more than
    /// the content needs if nobody chooses.
    pub size_bytes: Option<u64>,
}

/// A sealed master image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedImage {
    /// Of its disk, holes read as zeros.
    pub digest: Digest,
    /// Apparent length of its disk.
    pub size_bytes: u64,
    /// `NAME` of its `os-release`.
    pub os_name: Option<String>,
    /// `VERSION_ID` of its `os-release`.
    pub os_version: Option<String>,
    /// What its `/etc/nexus/image.yaml` holds, printable and bounded.
    pub metadata: BTreeMap<String, String>,
    /// Why it may not be what was wanted, in one sentence.
    pub warning: Option<String>,
}

/// Makes the master image `destination`, which must not be there yet.
///
/// A folder's files belong to root in the image, unless root itself imports them: then they keep their owners, as those
/// of an archive always do. Devices, set-user-id bits and the like exist in the image only, never on the host.
///
/// # Errors
/// When the source is not what an image is made of (the error says what it looks like, and what to do), when it is
/// damaged or hostile, when a tool is missing, when the disk is full, or when somebody calls it off.
pub fn import(
    backend: &dyn WorkspaceBackend,
    request: &ImportRequest,
    destination: &Path,
    progress: &Progress,
) -> Result<ImportedImage, ImageError> {
    let source = request.source.as_path();
    let unreadable = |error| ImageError::Source { path: source.to_owned(), source: error };
    let metadata = fs::metadata(source).map_err(unreadable)?;
    let draft = if metadata.is_dir() {
        import_folder(backend, request, destination, progress)?
    } else if metadata.is_file() {
        let file = File::open(source).map_err(unreadable)?;
        match ext4::recognise(&file, source)? {
            Kind::Ext4 => import_ext4(backend, request, file, destination, progress)?,
            Kind::Tar(compression) => import_archive(backend, request, file, compression, destination, progress)?,
        }
    } else {
        return Err(ImageError::NotAFile(source.to_owned()));
    };

    let disk = draft.disk();
    let built = File::open(&disk).map_err(StorageError::io("open", &disk))?;
    progress.expect(built.metadata().map_err(StorageError::io("look at", &disk))?.len());
    let description = metadata::read(built, source)?;
    let (digest, size_bytes) = digest_of(&disk, progress)?;
    progress.check()?;
    backend.seal_master(draft)?;
    Ok(ImportedImage {
        digest,
        size_bytes,
        os_name: description.os_name,
        os_version: description.os_version,
        metadata: description.metadata,
        warning: (description.has_init == Some(false)).then(|| {
            "there is no /sbin/init in it, which is what is started first: unless its VMs say where theirs is with the \
             kernel's argument `init=PATH`, they do not boot"
                .to_owned()
        }),
    })
}

fn import_ext4(
    backend: &dyn WorkspaceBackend,
    request: &ImportRequest,
    file: File,
    destination: &Path,
    progress: &Progress,
) -> Result<Draft, ImageError> {
    let source = request.source.as_path();
    ext4::check(&file, source)?;
    let size_bytes =
        file.metadata().map_err(|error| ImageError::Source { path: source.to_owned(), source: error })?.len();
    if request.size_bytes.is_some_and(|wanted| wanted != size_bytes) {
        return Err(ImageError::SizeIsFixed { path: source.to_owned(), size_bytes });
    }
    let draft = backend.create_master(destination)?;
    progress.expect(size_bytes);
    let copy = copy_file(&file, source, &draft.disk(), progress)?;
    // The copy is what counts: somebody may have written to the source meanwhile.
    ext4::check(&copy, source)?;
    Ok(draft)
}

fn import_folder(
    backend: &dyn WorkspaceBackend,
    request: &ImportRequest,
    destination: &Path,
    progress: &Progress,
) -> Result<Draft, ImageError> {
    let source = request.source.as_path();
    let real =
        |path: &Path| path.canonicalize().map_err(|error| ImageError::Source { path: path.to_owned(), source: error });
    let draft = backend.create_master(destination)?;
    let folder = real(source)?;
    if real(draft.path())?.starts_with(&folder) {
        return Err(ImageError::HoldsDestination(source.to_owned()));
    }
    build(&Root { folder: &folder, source, owners: None }, &draft.disk(), request.size_bytes, progress)?;
    Ok(draft)
}

fn import_archive(
    backend: &dyn WorkspaceBackend,
    request: &ImportRequest,
    file: File,
    compression: Option<Compression>,
    destination: &Path,
    progress: &Progress,
) -> Result<Draft, ImageError> {
    let source = request.source.as_path();
    FAKEROOT.locate()?;
    // Unpacked and packed, the content is there twice for a while.
    let max_bytes = backend.free_bytes()? / 2;
    let draft = backend.create_master(destination)?;
    let staging = Draft::folder(destination)?;
    let folder = staging.path().join("root");
    DirBuilder::new().mode(0o700).create(&folder).map_err(StorageError::io("create the folder", &folder))?;
    let ownership = ImageUnpacker::new(source, &folder, max_bytes, progress).unpack(file, compression)?;

    let owners = staging.path().join("owners");
    let mut list = create_private(&owners)?;
    io::Write::write_all(&mut list, ownership.to_faked().as_bytes()).map_err(StorageError::io("write", &owners))?;
    build(&Root { folder: &folder, source, owners: Some(&owners) }, &draft.disk(), request.size_bytes, progress)?;
    Ok(draft)
}
