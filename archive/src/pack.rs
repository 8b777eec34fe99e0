//! Making an archive.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use tar::{Builder, EntryType, Header};

use crate::{
    ArchiveError, Place, Summary,
    limits::MAX_DEPTH,
    remove::names,
    sparse::{self, Piece},
};

/// Permissions that are carried: without owners, bits that lend those of the owner would lend another's.
pub(crate) const PERMISSIONS: u32 = 0o1777;

/// What files of sysfs say that they hold, in bytes; `sysfs_add_file_mode_ns` of the kernel's `fs/sysfs/file.c`.
const PAGE_BYTES: u64 = 4096;

/// How much is kept of a file that does not say how long it is, in bytes.
const MAX_UNSIZED_BYTES: u64 = 4 << 20;

/// Packs what is at a place, by its own name or by `name`, and ends the archive. Links are packed as links, except that
/// nothing is said of where the place itself is. `sink` is given back.
///
/// # Errors
/// [`ArchiveError::File`] when something can't be read or has become shorter meanwhile, or when a device or a socket is at
/// the place itself; [`ArchiveError::Stream`] when the sink takes no more. An archive that fails has no end.
pub fn pack<W: Write>(place: &Place, name: &OsStr, sink: W) -> Result<(W, Summary), ArchiveError> {
    let sink = Sink { inner: sink, failed: false };
    let mut packer = Packer { archive: Builder::new(sink), linked: HashMap::new(), summary: Summary::default() };
    if let Err(error) = packer.entry(&place.folder, &place.name, Path::new(name), 0) {
        packer.archive.get_mut().failed = true;
        return Err(error);
    }
    let sink = packer.archive.into_inner().map_err(ArchiveError::stream("write"))?;
    Ok((sink.inner, packer.summary))
}

/// Takes nothing after a failure: a builder that is dropped ends its archive, which would then look whole.
struct Sink<W> {
    inner: W,
    failed: bool,
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed { Err(io::ErrorKind::BrokenPipe.into()) } else { self.inner.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Packer<W: Write> {
    archive: Builder<W>,
    /// Where files were packed that have more names, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    summary: Summary,
}

impl<W: Write> Packer<W> {
    fn entry(&mut self, folder: impl AsFd, name: &OsStr, path: &Path, depth: usize) -> Result<(), ArchiveError> {
        let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Gone since it was listed.
            Err(rustix::io::Errno::NOENT) if depth > 0 => return Ok(()),
            Err(error) => return Err(ArchiveError::file("see", path)(error.into())),
        };
        let is_linked = stat.st_nlink > 1;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.folder(folder, name, path, depth),
            FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown if depth == 0 => {
                return Err(ArchiveError::file("read", path)(io::Error::other("it is a device or a socket")));
            }
            FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                self.summary.left_out += 1;
                return Ok(());
            }
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {}
        }
        if is_linked && let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
            let mut header = header(&stat, EntryType::Link);
            self.archive.append_link(&mut header, path, first).map_err(ArchiveError::stream("write"))?;
            self.summary.entries += 1;
            return Ok(());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = readlinkat(&folder, name, Vec::new())
                    .map_err(|error| error.into())
                    .map_err(ArchiveError::file("read", path))?;
                let mut header = header(&stat, EntryType::Symlink);
                let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                self.archive.append_link(&mut header, path, target).map_err(ArchiveError::stream("write"))?;
            }
            FileType::Fifo => {
                let mut header = header(&stat, EntryType::Fifo);
                self.archive.append_data(&mut header, path, io::empty()).map_err(ArchiveError::stream("write"))?;
            }
            _ => self.file(folder, name, path)?,
        }
        if is_linked {
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        self.summary.entries += 1;
        Ok(())
    }

    fn folder(&mut self, above: impl AsFd, name: &OsStr, path: &Path, depth: usize) -> Result<(), ArchiveError> {
        if depth == MAX_DEPTH {
            return Err(ArchiveError::entry(path, "it lies too deep"));
        }
        let folder = open(above, name, OFlags::DIRECTORY).map_err(ArchiveError::file("open", path))?;
        let failed = || ArchiveError::file("read", path);
        let stat = fstat(&folder).map_err(|error| failed()(error.into()))?;
        let mut header = header(&stat, EntryType::Directory);
        self.archive.append_data(&mut header, path, io::empty()).map_err(ArchiveError::stream("write"))?;
        self.summary.entries += 1;
        for name in names(&folder).map_err(|error| failed()(error.into()))? {
            let name = OsStr::from_bytes(name.to_bytes());
            self.entry(&folder, name, &path.join(name), depth + 1)?;
        }
        Ok(())
    }

    fn file(&mut self, folder: impl AsFd, name: &OsStr, path: &Path) -> Result<(), ArchiveError> {
        let failed = || ArchiveError::file("read", path);
        // A pipe that has taken its place would have it wait.
        let mut file = File::from(open(folder, name, OFlags::NONBLOCK | OFlags::NOCTTY).map_err(failed())?);
        let stat = fstat(&file).map_err(|error| failed()(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed()(io::Error::other("it is no file any more")));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 || size <= PAGE_BYTES && stat.st_blocks == 0 {
            return self.unsized_file(file, &stat, path);
        }
        let mut header = header(&stat, EntryType::Regular);
        let sparse = sparse::pieces(&file, size).map_err(failed())?;
        let mut failure = None;
        let written = match &sparse {
            None => {
                header.set_size(size);
                let pieces = [Piece { offset: 0, length: size }];
                let content = Pieces { file: &mut file, pieces: &pieces, at: 0, failure: &mut failure };
                self.archive.append_data(&mut header, path, content)
            }
            Some(pieces) => {
                let content = Pieces { file: &mut file, pieces, at: 0, failure: &mut failure };
                self.sparse(&stat, path, pieces, content)
            }
        };
        if let Some(error) = failure {
            return Err(failed()(error));
        }
        written.map_err(ArchiveError::stream("write"))?;
        let content = sparse.map_or(size, |pieces| pieces.iter().map(|piece| piece.length).sum());
        self.summary.bytes += content;
        Ok(())
    }

    /// An empty file, or one of the kernel's, which has content but no size (`/proc`), or says a page whatever it has (`/sys`).
    fn unsized_file(&mut self, file: File, stat: &Stat, path: &Path) -> Result<(), ArchiveError> {
        let failed = || ArchiveError::file("read", path);
        let mut content = Vec::new();
        file.take(MAX_UNSIZED_BYTES + 1).read_to_end(&mut content).map_err(failed())?;
        let size = content.len() as u64;
        if size > MAX_UNSIZED_BYTES {
            return Err(failed()(io::Error::other("it goes on and on, and does not say how long it is")));
        }
        let mut header = header(stat, EntryType::Regular);
        header.set_size(size);
        self.archive.append_data(&mut header, path, content.as_slice()).map_err(ArchiveError::stream("write"))?;
        self.summary.bytes += size;
        Ok(())
    }

    /// The name of the next entry, which is too long for its header.
    fn long_name(&mut self, path: &Path) -> io::Result<()> {
        let name = path.as_os_str().as_bytes();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_path("././@LongLink")?;
        header.set_size(name.len() as u64 + 1);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        self.archive.append(&header, name.chain([0].as_slice()))
    }

    fn sparse(&mut self, stat: &Stat, path: &Path, pieces: &[Piece], content: impl Read) -> io::Result<()> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let real = size.to_string();
        let marks = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", &real)];
        // GNU tar wants a header of POSIX's then.
        let mut header = fill(Header::new_ustar(), stat, EntryType::Regular);
        if header.set_path(path).is_err() {
            header.set_path("sparse")?;
            self.long_name(path)?;
        }
        let map = sparse::encode(pieces, size);
        header.set_size(map.len() as u64 + pieces.iter().map(|piece| piece.length).sum::<u64>());
        header.set_cksum();
        self.archive.append_pax_extensions(marks.map(|(key, value)| (key, value.as_bytes())))?;
        self.archive.append(&header, map.as_slice().chain(content))
    }
}

/// The pieces of a file, each in full.
struct Pieces<'a> {
    file: &'a mut File,
    pieces: &'a [Piece],
    /// How much of the first was read.
    at: u64,
    /// The reader's own failure, as distinct from the sink's.
    failure: &'a mut Option<io::Error>,
}

impl Pieces<'_> {
    fn part(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some((piece, rest)) = self.pieces.split_first() else { return Ok(0) };
            let left = piece.length - self.at;
            if left == 0 {
                (self.pieces, self.at) = (rest, 0);
                continue;
            }
            if self.at == 0 {
                self.file.seek(SeekFrom::Start(piece.offset))?;
            }
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = self.file.read(buffer.get_mut(..wanted).unwrap_or_default())?;
            if read == 0 && wanted > 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
            }
            self.at += read as u64;
            return Ok(read);
        }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.part(buffer).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.failure = Some(error);
            }
            kind.into()
        })
    }
}

fn open(folder: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, flags, Mode::empty())?)
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    fill(Header::new_gnu(), stat, kind)
}

fn fill(mut header: Header, stat: &Stat, kind: EntryType) -> Header {
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & PERMISSIONS);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header
}
