//! Making files of an archive.

use std::{
    cell::Cell,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, linkat,
        mkdirat, mknodat, openat, openat2, statat, symlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use crate::{
    ArchiveError, Limits, Ration, Summary, Target, entry_path,
    pack::PERMISSIONS,
    sparse::{self, Piece},
};

/// What is copied at a time, and the least of zeros that become a hole, in bytes.
const CHUNK: usize = 64 << 10;

/// Later than any time that a file system keeps, in seconds since 1970.
const MAX_TIME: u64 = 1 << 33;

/// Unpacks one file, or one folder with everything in it, so that nothing of it can be anywhere else. The entries of a
/// folder follow it at once, as [`pack`](crate::pack()) writes them.
#[derive(Debug)]
pub struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    target: Option<&'a Target>,
    limits: Limits,
    /// The folders in which the next entry may lie, each in the one before.
    way: Vec<Step>,
    top: Option<Top>,
    summary: Summary,
    length: u64,
    /// Bytes that were written.
    room: u64,
    umask: u32,
}

/// The one thing at the top of an archive, as it was unpacked.
#[derive(Debug)]
pub struct Top {
    /// Its name, in the archive and in the folder into which it was unpacked.
    pub name: OsString,
    /// What a folder has to become when it is moved.
    pub(crate) folder: Option<Attributes>,
}

#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    mode: Mode,
    times: Timestamps,
}

#[derive(Debug)]
struct Step {
    path: PathBuf,
    folder: OwnedFd,
    attributes: Attributes,
}

impl Attributes {
    fn of(entry: &Entry<'_, impl Read>, path: &Path, umask: u32) -> Result<Self, ArchiveError> {
        let bad_number = |_| ArchiveError::entry(path, "its header has a number that is none");
        let mode = entry.header().mode().map_err(bad_number)?;
        let seconds = entry.header().mtime().map_err(bad_number)?.min(MAX_TIME);
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let modified = Timespec { tv_sec: i64::try_from(seconds).unwrap_or(0), tv_nsec: 0 };
        let times = Timestamps { last_access: omitted, last_modification: modified };
        Ok(Self { mode: Mode::from_raw_mode(mode & PERMISSIONS & !umask), times })
    }

    fn set(&self, file: impl AsFd) -> io::Result<()> {
        self.set_with(file, Mode::empty())
    }

    /// Those of a folder that is about to be moved, which its owner must be able to write for that.
    pub(crate) fn set_to_move(&self, folder: impl AsFd) -> io::Result<()> {
        self.set_with(folder, Mode::WUSR)
    }

    /// What is left of them once it has been moved.
    pub(crate) fn set_moved(&self, folder: impl AsFd) -> io::Result<()> {
        if self.mode.contains(Mode::WUSR) { Ok(()) } else { self.set(folder) }
    }

    fn set_with(&self, file: impl AsFd, more: Mode) -> io::Result<()> {
        fchmod(&file, self.mode | more)?;
        // Times are a courtesy: what a file system can't hold is left out.
        let _ = futimens(&file, &self.times);
        Ok(())
    }
}

impl<'a> Unpacker<'a> {
    /// Into that folder, which is empty and nobody else's.
    #[must_use]
    pub const fn new(root: BorrowedFd<'a>, limits: Limits) -> Self {
        let summary = Summary { entries: 0, bytes: 0, left_out: 0 };
        Self { root, target: None, limits, way: Vec::new(), top: None, summary, length: 0, room: 0, umask: 0 }
    }

    /// Without these permissions, whatever the archive says. By itself it keeps all of them but set-user-ID and
    /// set-group-ID.
    #[must_use]
    pub fn without(self, umask: u32) -> Self {
        Self { umask, ..self }
    }

    /// Where it is going to be. What can't be there is refused at its first entry.
    #[must_use]
    pub(crate) fn meant_for(self, target: &'a Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Unpacks an archive to its end, and reads what is behind that.
    ///
    /// # Errors
    /// [`ArchiveError::Entry`] and [`ArchiveError::Archive`] when it is refused; [`ArchiveError::File`] when something
    /// can't be made; [`ArchiveError::Stream`] when it can't be read.
    pub fn unpack(mut self, reader: impl Read) -> Result<(Top, Summary), ArchiveError> {
        let unreadable = || ArchiveError::stream("read");
        let left = Rc::new(Cell::new(Limits::MAX_HEADER_BYTES));
        let mut archive = Archive::new(Ration::new(reader, Rc::clone(&left)));
        for entry in archive.entries().map_err(unreadable())? {
            let mut entry = entry.map_err(unreadable())?;
            self.summary.entries += 1;
            if self.summary.entries > self.limits.entries {
                return Err(ArchiveError::Archive("it has too many files"));
            }
            left.set(u64::MAX);
            self.entry(&mut entry)?;
            left.set(Limits::MAX_HEADER_BYTES);
        }
        // Padding.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(unreadable())?;
        self.leave(Path::new(""))?;
        let top = self.top.ok_or(ArchiveError::Archive("it is empty"))?;
        Ok((top, self.summary))
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let name = entry.path_bytes().into_owned();
        let path = entry_path(&name).map_err(|_| {
            ArchiveError::entry(Path::new(OsStr::from_bytes(&name)), "its name leads out of the archive")
        })?;
        let refuse = |reason| ArchiveError::entry(&path, reason);
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse("it has no name"));
        };
        let attributes = Attributes::of(entry, &path, self.umask)?;
        self.leave(above)?;
        if above.as_os_str().is_empty() {
            let is_folder = entry.header().entry_type() == EntryType::Directory;
            if let Some(target) = self.target {
                target.takes(is_folder)?;
            }
            let top = Top { name: name.to_owned(), folder: is_folder.then(|| attributes.clone()) };
            if self.top.replace(top).is_some() {
                return Err(refuse("there is more than one thing at its top"));
            }
        }
        let folder = match self.way.last() {
            Some(step) if step.path == above => step.folder.as_fd(),
            None if above.as_os_str().is_empty() => self.root,
            _ => return Err(refuse("its folder is not right before it")),
        };
        let made = |made: Result<(), Errno>| match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(ArchiveError::entry(&path, "it is there twice")),
            Err(error) => Err(ArchiveError::file("make", &path)(error.into())),
        };
        match entry.header().entry_type() {
            EntryType::Directory => {
                made(mkdirat(folder, name, Mode::RWXU))?;
                let opened = open(folder, name, OFlags::RDONLY | OFlags::DIRECTORY);
                let folder = opened.map_err(ArchiveError::file("open", &path))?;
                self.way.push(Step { path, folder, attributes });
            }
            EntryType::Regular | EntryType::Continuous => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = match openat(folder, name, flags, Mode::RUSR | Mode::WUSR) {
                    Ok(file) => File::from(file),
                    Err(error) => return made(Err(error)),
                };
                self.content(&file, entry, &path)?;
                attributes.set(&file).map_err(ArchiveError::file("write", &path))?;
                if self.way.is_empty() {
                    file.sync_all().map_err(ArchiveError::file("write", &path))?;
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().filter(|target| !target.is_empty() && !target.contains(&0));
                let target = target.ok_or_else(|| refuse("it is a symbolic link to nowhere"))?;
                made(symlinkat(OsStr::from_bytes(&target), folder, name))?;
                let _ = utimensat(folder, name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW);
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = entry_path(&target).map_err(|_| refuse("it links to what is not in the archive"))?;
                let (from, file) =
                    self.linked(&target).ok_or_else(|| refuse("it links to a file that was not before it"))?;
                made(linkat(&from, file, folder, name, AtFlags::empty()))?;
            }
            EntryType::Fifo => {
                made(mknodat(folder, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0))?;
                let opened = open(folder, name, OFlags::RDONLY | OFlags::NONBLOCK);
                let pipe = opened.map_err(ArchiveError::file("open", &path))?;
                attributes.set(&pipe).map_err(ArchiveError::file("write", &path))?;
            }
            _ => return Err(refuse("it is no file, folder, link or pipe")),
        }
        Ok(())
    }

    /// Ends every folder that `above` does not lie in, as nothing more comes into it.
    fn leave(&mut self, above: &Path) -> Result<(), ArchiveError> {
        while let Some(step) = self.way.pop_if(|step| !above.starts_with(&step.path)) {
            // The first is to be moved.
            if !self.way.is_empty() {
                step.attributes.set(&step.folder).map_err(ArchiveError::file("write", &step.path))?;
            }
        }
        Ok(())
    }

    fn content(&mut self, file: &File, entry: &mut Entry<'_, impl Read>, path: &Path) -> Result<(), ArchiveError> {
        let real_size = real_size(entry).map_err(|reason| ArchiveError::entry(path, reason))?;
        let size = real_size.unwrap_or_else(|| entry.size());
        self.length = self.length.saturating_add(size);
        if self.length > self.limits.length {
            return Err(ArchiveError::Archive("its files are too long"));
        }
        let pieces = match real_size {
            None => vec![Piece { offset: 0, length: size }],
            Some(size) => sparse::decode(&mut *entry, size).map_err(ArchiveError::stream("read"))?,
        };
        let mut buffer = vec![0; CHUNK];
        for piece in pieces {
            let mut output = file;
            output.seek(SeekFrom::Start(piece.offset)).map_err(ArchiveError::file("write", path))?;
            let mut left = piece.length;
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
                let chunk = buffer.get_mut(..wanted).unwrap_or_default();
                entry.read_exact(chunk).map_err(ArchiveError::stream("read"))?;
                left -= wanted as u64;
                self.summary.bytes += wanted as u64;
                if wanted == CHUNK && chunk.iter().all(|byte| *byte == 0) {
                    output
                        .seek_relative(i64::try_from(wanted).unwrap_or(0))
                        .map_err(ArchiveError::file("write", path))?;
                    continue;
                }
                self.room += wanted as u64;
                if self.room > self.limits.bytes {
                    return Err(ArchiveError::NoRoom { bytes: self.limits.bytes });
                }
                output.write_all(chunk).map_err(ArchiveError::file("write", path))?;
            }
        }
        if entry.read(&mut [0]).map_err(ArchiveError::stream("read"))? > 0 {
            return Err(ArchiveError::entry(path, "it holds more than it says"));
        }
        file.set_len(size).map_err(ArchiveError::file("write", path))
    }

    /// Where a file lies that has been unpacked.
    fn linked<'b>(&self, path: &'b Path) -> Option<(OwnedFd, &'b OsStr)> {
        let (above, name) = (path.parent()?, path.file_name()?);
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat2(self.root, above, flags, Mode::empty(), resolve).ok()?;
        let stat = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        (!is_folder).then_some((folder, name))
    }
}

/// The size of a file with holes, whose map is ahead of its content.
fn real_size(entry: &mut Entry<'_, impl Read>) -> Result<Option<u64>, &'static str> {
    let Some(extensions) = entry.pax_extensions().map_err(|_| "its header can't be read")? else { return Ok(None) };
    let (mut size, mut version) = (None, (None, None));
    for extension in extensions {
        let extension = extension.map_err(|_| "its header can't be read")?;
        let number = || extension.value().ok().and_then(|value| value.parse::<u64>().ok());
        match extension.key_bytes() {
            b"GNU.sparse.major" => version.0 = number(),
            b"GNU.sparse.minor" => version.1 = number(),
            b"GNU.sparse.realsize" => size = Some(number().ok_or("its size is no number")?),
            _ => {}
        }
    }
    match (version, size) {
        ((None, None), None) => Ok(None),
        ((Some(1), Some(0)), Some(size)) if i64::try_from(size).is_ok() => Ok(Some(size)),
        _ => Err("its holes are written in a way that is not known"),
    }
}

fn open(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}
