//! ext4 file systems made of folders.

use std::{
    collections::HashSet,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::geteuid;

use super::{
    ImageError,
    tool::{FAKEROOT, MKE2FS},
};
use crate::storage::{Progress, StorageError, create_sized};

/// Free space in an image whose size nobody chose: 512 MiB. It costs nothing on the host until the guest writes to it.
pub const HEADROOM_BYTES: u64 = 512 << 20;

const BLOCK_BYTES: u64 = 4096;
/// Bytes of image for which there is an inode, if the content doesn't need more: the default of `mke2fs`.
const BYTES_PER_INODE: u64 = 16 << 10;
const MEBIBYTE: u64 = 1 << 20;
/// What every ext4 since Linux 4.4 can, and what a guest profits from. What newer versions of `mke2fs` turn on by
/// themselves (`orphan_file`, `metadata_csum_seed`) older guests could not mount.
const FEATURES: &str = "none,sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,has_journal,extent,\
                        huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize";
/// The file is new and sparse, so it is zeros: neither `mke2fs` now nor the guest's kernel later writes inode tables or
/// the journal just to clear them.
const EXTENDED: &str = "lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,nodiscard,root_owner=0:0";
const LABEL: &str = "nexus";

/// A folder that becomes the root of an image.
#[derive(Debug)]
pub(super) struct Root<'a> {
    /// The folder.
    pub(super) folder: &'a Path,
    /// What errors name: the folder itself, or the archive that it was unpacked from.
    pub(super) source: &'a Path,
    /// A file that `fakeroot` loads, beside the folder. Without one, files belong to root unless root imports them: then
    /// they keep their owners.
    pub(super) owners: Option<&'a Path>,
}

/// Makes the ext4 file system `disk` of `root`.
pub(super) fn build(
    root: &Root<'_>,
    disk: &Path,
    size_bytes: Option<u64>,
    progress: &Progress,
) -> Result<(), ImageError> {
    let mke2fs = MKE2FS.locate()?;
    let content = Content::of(root.folder, progress)?;
    let size = content.image_size(size_bytes).map_err(|needed_bytes| ImageError::TooSmall {
        path: root.source.to_owned(),
        wanted_bytes: size_bytes.unwrap_or_default(),
        needed_bytes,
    })?;
    create_sized(disk, size)?;

    let mut command = match root.owners {
        None if geteuid().is_root() => Command::new(mke2fs),
        owners => {
            let mut fakeroot = Command::new(FAKEROOT.locate()?);
            if let Some(owners) = owners {
                // The script evaluates what it is given, so it gets no path but a plain file name.
                fakeroot.current_dir(owners.parent().unwrap_or(Path::new("/"))).arg("-i").args(owners.file_name());
            }
            fakeroot.arg("--").arg(mke2fs);
            fakeroot
        }
    };
    command
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-L", LABEL])
        .args(["-O", FEATURES, "-E", EXTENDED])
        .args(["-N", &content.inodes(size).to_string()])
        .arg("-d")
        .arg(absolute(root.folder)?)
        .arg(absolute(disk)?);

    progress.expect(content.bytes);
    let mut reported = 0;
    let result = MKE2FS.run(command, progress, || {
        let allocated = fs::metadata(disk).map_or(0, |metadata| metadata.blocks() * 512).min(content.bytes);
        // A cancel is seen by who calls this.
        let _ = progress.advance(allocated.saturating_sub(reported));
        reported = reported.max(allocated);
    });
    match result {
        Err(ImageError::Tool { detail, .. }) if detail.contains("Could not allocate") => Err(ImageError::TooSmall {
            path: root.source.to_owned(),
            wanted_bytes: size,
            needed_bytes: content.needed_bytes(),
        }),
        other => other.map_err(|error| error.or_no_space("build the image", disk)),
    }?;
    Ok(progress.advance(content.bytes - reported)?)
}

/// What a folder takes in a file system of 4 KiB blocks.
#[derive(Debug, Default)]
struct Content {
    bytes: u64,
    entries: u64,
}

impl Content {
    fn of(folder: &Path, progress: &Progress) -> Result<Self, ImageError> {
        let mut content = Self::default();
        let mut links = HashSet::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            progress.check()?;
            let unreadable = |path: &Path| {
                let path = path.to_owned();
                move |source| ImageError::Source { path, source }
            };
            let mut names_bytes = 0;
            for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
                let entry = entry.map_err(unreadable(&folder))?;
                let metadata = entry.metadata().map_err(unreadable(&entry.path()))?;
                // ext4_dir_entry_2: 8 bytes and the name, in fours.
                names_bytes += 8 + entry.file_name().as_bytes().len().next_multiple_of(4) as u64;
                if metadata.nlink() > 1 && !metadata.is_dir() && !links.insert((metadata.dev(), metadata.ino())) {
                    continue;
                }
                content.entries += 1;
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if metadata.is_file() {
                    // A file with holes stays one; one that the host compresses does not.
                    let bytes = metadata.len().next_multiple_of(BLOCK_BYTES);
                    let is_sparse = metadata.blocks() * 512 * 4 < bytes;
                    content.bytes += if is_sparse { (metadata.blocks() * 512 * 2).min(bytes) } else { bytes };
                } else if metadata.is_symlink() && metadata.len() >= 60 {
                    content.bytes += BLOCK_BYTES;
                }
            }
            // Hash tree folders are three quarters full.
            content.bytes += (names_bytes + names_bytes / 3).next_multiple_of(BLOCK_BYTES);
        }
        Ok(content)
    }

    /// Content, inodes, and a tenth and 40 MiB for the journal, bitmaps and the like.
    fn needed_bytes(&self) -> u64 {
        (self.bytes + self.bytes / 10 + self.entries * 512 + 40 * MEBIBYTE).next_multiple_of(MEBIBYTE)
    }

    /// The wanted size, or one with room to work in; the error is the size that would do.
    fn image_size(&self, wanted: Option<u64>) -> Result<u64, u64> {
        match wanted {
            None => Ok(self.needed_bytes() + HEADROOM_BYTES),
            Some(wanted) if wanted < self.bytes + MEBIBYTE => Err(self.needed_bytes()),
            Some(wanted) => Ok(wanted - wanted % BLOCK_BYTES),
        }
    }

    fn inodes(&self, image_bytes: u64) -> u64 {
        (image_bytes / BYTES_PER_INODE).max(self.entries + self.entries / 4 + 1024)
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StorageError> {
    std::path::absolute(path).map_err(StorageError::io("make absolute", path))
}
