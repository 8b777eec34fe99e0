//! Tar archives of root file systems, unpacked into a private folder.

use std::{
    cell::Cell,
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, symlink},
    },
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nexus_archive::{BadEntryPath, Ration, entry_path};
use nexus_model::steers_display;
use nix::sys::stat::makedev;
use tar::{Archive, Entry, EntryType};

use super::{
    ImageError,
    ownership::{Owner, Ownership},
};
use crate::{
    asset::Compression,
    storage::{Progress, StorageError, create_private},
};

/// Names, numbers and attributes of one entry; the decoder keeps them in memory.
const MAX_HEADER_BYTES: u64 = 4 << 20;
/// Zeros of this length become a hole.
const BLOCK: usize = 64 << 10;
/// More files than any root file system has; an archive of more would fill the host with inodes.
const MAX_ENTRIES: u64 = 4 << 20;

/// Unpacks archives so that no entry can reach out of one folder, and remembers owners instead of setting them.
#[derive(Debug)]
pub(super) struct ImageUnpacker<'a> {
    source: &'a Path,
    root: &'a Path,
    max_bytes: u64,
    progress: &'a Progress,
    ownership: Ownership,
    folder_times: Vec<(PathBuf, SystemTime)>,
    bytes: u64,
    attributes_dropped: u64,
}

impl<'a> ImageUnpacker<'a> {
    /// For the archive `source`, into the empty folder `root`, at most `max_bytes` of content.
    pub(super) fn new(source: &'a Path, root: &'a Path, max_bytes: u64, progress: &'a Progress) -> Self {
        Self {
            source,
            root,
            max_bytes,
            progress,
            ownership: Ownership::default(),
            folder_times: Vec::new(),
            bytes: 0,
            attributes_dropped: 0,
        }
    }

    /// Unpacks the whole archive, and says who owns what.
    pub(super) fn unpack(mut self, file: File, compression: Option<Compression>) -> Result<Ownership, ImageError> {
        let source = self.source;
        let unreadable = |error| ImageError::Archive { path: source.to_owned(), source: error };
        let length = file.metadata().map_err(unreadable)?.len();
        self.progress.expect(length);
        let counted = Counted { file, left: length, progress: self.progress };
        let reader: Box<dyn Read + '_> = match compression {
            None => Box::new(counted),
            Some(compression) => compression.reader(counted).map_err(unreadable)?.ok_or_else(|| {
                unreadable(io::Error::new(io::ErrorKind::Unsupported, "its compression can't be read here"))
            })?,
        };
        let allowed = Rc::new(Cell::new(MAX_HEADER_BYTES));
        let mut archive = Archive::new(Ration::new(reader, Rc::clone(&allowed)));
        let mut entries = 0;
        for entry in archive.entries().map_err(unreadable)? {
            self.progress.check()?;
            let mut entry = entry.map_err(|error| self.unless_cancelled(error))?;
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(unreadable(io::Error::new(io::ErrorKind::QuotaExceeded, "it has millions of entries")));
            }
            allowed.set(u64::MAX);
            self.entry(&mut entry)?;
            io::copy(&mut entry, &mut io::sink()).map_err(|error| self.unless_cancelled(error))?;
            allowed.set(MAX_HEADER_BYTES);
        }
        // Padding, and the check sums of the compressed stream.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| self.unless_cancelled(error))?;
        for (folder, time) in self.folder_times.iter().rev() {
            set_modified(folder, *time);
        }
        if self.attributes_dropped > 0 {
            tracing::warn!(
                archive = %source.display(),
                files = self.attributes_dropped,
                "extended attributes (file capabilities, labels) are not carried into the image"
            );
        }
        Ok(self.ownership)
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ImageError> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let name = self.inner_path(&entry.path_bytes(), false)?;
        let shown = || name.display().to_string();
        if name.as_os_str().is_empty() && kind != EntryType::Directory {
            return Err(self.refuse(".", "the root is no folder"));
        }
        let path = self.make_way(&name)?;
        let header = entry.header();
        let bad_number = |_| self.refuse(&shown(), "its header has a number that is none");
        let permissions = header.mode().map_err(bad_number)? & 0o7777;
        let id = |id: io::Result<u64>| {
            id.ok()
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| self.refuse(&shown(), "its owner is no number that Linux has"))
        };
        let (uid, gid) = (id(header.uid())?, id(header.gid())?);
        let modified = UNIX_EPOCH + Duration::from_secs(header.mtime().unwrap_or(0).min(1 << 33));
        let mut device = 0;

        let type_bits = match kind {
            EntryType::Directory => {
                self.folder(&path, &name)?;
                self.folder_times.push((path.clone(), modified));
                libc::S_IFDIR
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&path, &name, entry, modified)?;
                libc::S_IFREG
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().filter(|target| !target.is_empty() && !target.contains(&0));
                let target = target.ok_or_else(|| self.refuse(&shown(), "it is a symbolic link to nowhere"))?;
                self.clear(&path, &name)?;
                symlink(std::ffi::OsStr::from_bytes(&target), &path)
                    .map_err(StorageError::io("make the link", &path))?;
                libc::S_IFLNK
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = self.root.join(self.inner_path(&target, true)?);
                self.hard_link(&target, &path, &name)?;
                // The file has its owner from its own entry.
                return Ok(());
            }
            EntryType::Char | EntryType::Block => {
                let (major, minor) =
                    (header.device_major().map_err(bad_number)?, header.device_minor().map_err(bad_number)?);
                device = makedev(u64::from(major.unwrap_or(0)), u64::from(minor.unwrap_or(0)));
                self.placeholder(&path, &name)?;
                if kind == EntryType::Char { libc::S_IFCHR } else { libc::S_IFBLK }
            }
            EntryType::Fifo => {
                self.placeholder(&path, &name)?;
                libc::S_IFIFO
            }
            _ => return Err(self.refuse(&shown(), "it is of a kind that no root file system has")),
        };
        if has_attributes(entry) {
            self.attributes_dropped += 1;
        }
        let owner = Owner { mode: type_bits | permissions, uid, gid, device };
        Ok(self.ownership.record(&path, owner).map_err(StorageError::io("look at", &path))?)
    }

    /// A name as a path below the root: empty for the root itself.
    fn inner_path(&self, name: &[u8], is_link: bool) -> Result<PathBuf, ImageError> {
        entry_path(name).map_err(|bad| {
            let reason = match bad {
                BadEntryPath::Absolute if is_link => "it links to an absolute name",
                BadEntryPath::Upwards if is_link => "it links up with `..`",
                BadEntryPath::Absolute => "its name is absolute",
                BadEntryPath::Upwards => "its name goes up with `..`",
                BadEntryPath::Zero => "a name has a zero byte",
                BadEntryPath::Deep => "it lies too deep",
                BadEntryPath::Long => "its name is too long",
            };
            self.refuse(&String::from_utf8_lossy(name), reason)
        })
    }

    /// The place of an entry, with folders down to it: each is a real one, or the entry is refused.
    fn make_way(&mut self, name: &Path) -> Result<PathBuf, ImageError> {
        let mut path = self.root.to_owned();
        let mut parts = name.components().peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(self.refuse(&name.to_string_lossy(), "it lies in something that is no folder")),
                Err(_) => {
                    private_folder(&path)?;
                    let owner = Owner { mode: libc::S_IFDIR | 0o755, uid: 0, gid: 0, device: 0 };
                    self.ownership.record(&path, owner).map_err(StorageError::io("look at", &path))?;
                }
            }
        }
        Ok(path)
    }

    fn folder(&self, path: &Path, name: &Path) -> Result<(), ImageError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(self.refuse(&name.to_string_lossy(), "it is a folder in place of something else")),
            Err(_) => private_folder(path),
        }
    }

    /// Room for a new entry: as with `tar`, a later one takes the place of an earlier.
    fn clear(&self, path: &Path, name: &Path) -> Result<(), ImageError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                Err(self.refuse(&name.to_string_lossy(), "it takes the place of a folder"))
            }
            Ok(_) => Ok(fs::remove_file(path).map_err(StorageError::io("replace", path))?),
            Err(_) => Ok(()),
        }
    }

    fn placeholder(&self, path: &Path, name: &Path) -> Result<(), ImageError> {
        self.clear(path, name)?;
        create_private(path)?;
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        name: &Path,
        content: &mut impl Read,
        modified: SystemTime,
    ) -> Result<(), ImageError> {
        self.clear(path, name)?;
        let mut file = create_private(path)?;
        let mut buffer = vec![0; BLOCK];
        let mut length = 0_u64;
        loop {
            self.progress.check()?;
            let read = content.read(&mut buffer).map_err(|error| self.unless_cancelled(error))?;
            if read == 0 {
                break;
            }
            let bytes = &buffer[..read];
            length += read as u64;
            if bytes.iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Start(length)).map_err(StorageError::io("write", path))?;
            } else {
                self.bytes += read as u64;
                if self.bytes > self.max_bytes {
                    let full = io::Error::from(io::ErrorKind::StorageFull);
                    return Err(StorageError::io("unpack the archive to", self.root)(full).into());
                }
                file.write_all(bytes).map_err(StorageError::io("write", path))?;
            }
        }
        file.set_len(length).and_then(|()| file.set_modified(modified)).map_err(StorageError::io("write", path))?;
        Ok(())
    }

    fn hard_link(&mut self, target: &Path, path: &Path, name: &Path) -> Result<(), ImageError> {
        let mut way = self.root.to_owned();
        let inner = target.strip_prefix(self.root).unwrap_or(target);
        let mut parts = inner.components().peekable();
        while let Some(part) = parts.next() {
            way.push(part);
            let is_last = parts.peek().is_none();
            match fs::symlink_metadata(&way) {
                Ok(metadata) if metadata.is_dir() != is_last => {}
                _ => return Err(self.refuse(&name.to_string_lossy(), "it links to a file that was not before it")),
            }
        }
        if target == path {
            return Ok(());
        }
        self.clear(path, name)?;
        Ok(fs::hard_link(target, path).map_err(StorageError::io("make the link", path))?)
    }

    fn refuse(&self, entry: &str, reason: &'static str) -> ImageError {
        let entry = entry.chars().map(|char| if steers_display(char) { '?' } else { char }).take(200).collect();
        ImageError::Entry { path: self.source.to_owned(), entry, reason }
    }

    fn unless_cancelled(&self, source: io::Error) -> ImageError {
        match self.progress.check() {
            Err(cancelled) => cancelled.into(),
            Ok(()) => ImageError::Archive { path: self.source.to_owned(), source },
        }
    }
}

/// Reports what of an archive has been read.
struct Counted<'a> {
    file: File,
    left: u64,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let counted = (read as u64).min(self.left);
        self.left -= counted;
        self.progress.advance(counted).map_err(io::Error::other)?;
        Ok(read)
    }
}

fn has_attributes(entry: &mut Entry<'_, impl Read>) -> bool {
    entry.pax_extensions().ok().flatten().is_some_and(|mut extensions| {
        extensions.any(|extension| extension.is_ok_and(|pair| pair.key_bytes().starts_with(b"SCHILY.xattr.")))
    })
}

fn private_folder(path: &Path) -> Result<(), ImageError> {
    Ok(DirBuilder::new().mode(0o700).create(path).map_err(StorageError::io("create the folder", path))?)
}

/// Times are a courtesy: what a file system can't hold is left out.
fn set_modified(path: &Path, time: SystemTime) {
    if let Ok(folder) = File::open(path) {
        let _ = folder.set_modified(time);
    }
}
