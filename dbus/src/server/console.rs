//! `Vm.OpenLog`: a console log as a stream, from its last lines on and, where that is asked for, as it grows.
//!
//! The log is a file that is renamed to `<path>.1` when it has grown too large, and begun anew.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::fs::MetadataExt, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use nexus_model::ErrorKind;
use nix::libc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::watch,
};
use tracing::debug;

use crate::Error;

const CHUNK: usize = 64 << 10;

/// What of a log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Go on with what is written from now on.
    pub(super) follow: bool,
    /// Begin with the last so many lines; none is all that is kept.
    pub(super) lines: Option<u32>,
}

/// The reading end of a stream of the log. It ends with the log; when it is followed, with its VM.
pub(super) async fn open<T: Send + Sync + 'static>(
    path: PathBuf,
    tail: Tail,
    vm: Option<watch::Receiver<T>>,
) -> Result<OwnedFd, Error> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::StorageFailed, format!("could not open the console log {}: {error}", path.display()))
    };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = theirs.into_std().and_then(|theirs| theirs.set_nonblocking(false).map(|()| theirs)).map_err(failed)?;
    // Watched before it is read, so that nothing written in between is missed.
    let growth = if tail.follow { Some(Growth::watch(&path).map_err(failed)?) } else { None };
    let log = Log::open(path.clone(), tail.lines).map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = pump(log, growth, ours, vm).await {
            debug!(%error, "a console log ended early");
        }
    });
    Ok(theirs.into())
}

async fn pump<T>(
    mut log: Log,
    mut growth: Option<Growth>,
    mut reader: UnixStream,
    vm: Option<watch::Receiver<T>>,
) -> io::Result<()> {
    let mut removed = Box::pin(async move {
        if let Some(mut vm) = vm {
            while vm.changed().await.is_ok() {}
        }
    });
    let mut chunk = vec![0; CHUNK];
    let mut nothing = [0; 1];
    loop {
        loop {
            let read = log.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            reader.write_all(&chunk[..read]).await?;
        }
        let Some(growth) = &mut growth else { return Ok(()) };
        tokio::select! {
            grown = growth.wait() => grown?,
            // Whoever only reads never sends anything, so this is the end of it.
            _ = reader.read(&mut nothing) => return Ok(()),
            () = &mut removed => return Ok(()),
        }
    }
}

/// The kept log, then what follows it in the file of that name.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    /// What is left of the old file.
    old: Option<File>,
    current: Option<File>,
}

impl Log {
    /// Blocks for as long as it takes to look for the beginning of the last lines.
    fn open(path: PathBuf, lines: Option<u32>) -> io::Result<Self> {
        let mut current = existing(&path)?;
        let mut old = existing(&rotated(&path))?;
        if let Some(lines) = lines {
            let mut wanted = u64::from(lines);
            if let Some(file) = &mut current {
                seek_back(file, &mut wanted)?;
            }
            if wanted == 0 {
                old = None;
            } else if let Some(file) = &mut old {
                seek_back(file, &mut wanted)?;
            }
        }
        Ok(Self { path, old, current })
    }

    /// Reads on; 0 when there is nothing more for now.
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(old) = &mut self.old {
                let read = old.read(chunk)?;
                if read > 0 {
                    return Ok(read);
                }
                self.old = None;
            }
            if let Some(current) = &mut self.current {
                let read = current.read(chunk)?;
                if read > 0 {
                    return Ok(read);
                }
            }
            if !self.begun_anew()? {
                return Ok(0);
            }
        }
    }

    /// Goes on to the file that has taken the name of the one that was read to its end.
    fn begun_anew(&mut self) -> io::Result<bool> {
        let Some(next) = existing(&self.path)? else { return Ok(false) };
        let same = match &self.current {
            Some(current) => current.metadata()?.ino() == next.metadata()?.ino(),
            None => false,
        };
        if same {
            return Ok(false);
        }
        // The writer may have written to the old file after its end was read and before it was renamed.
        self.old = self.current.replace(next);
        Ok(true)
    }
}

/// Moves to where the last `wanted` lines begin, or to the start; takes the lines found off `wanted`.
fn seek_back(file: &mut File, wanted: &mut u64) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if *wanted == 0 {
        return Ok(());
    }
    let mut chunk = vec![0; CHUNK];
    // A line's end at the very end of the file begins no further line.
    let mut last = true;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK as u64);
        let piece = &mut chunk[..usize::try_from(end - begin).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(piece)?;
        for (index, byte) in piece.iter().enumerate().rev() {
            if *byte == b'\n' && !std::mem::take(&mut last) {
                if *wanted <= 1 {
                    *wanted = 0;
                    file.seek(SeekFrom::Start(begin + index as u64 + 1))?;
                    return Ok(());
                }
                *wanted -= 1;
            }
            last = false;
        }
        end = begin;
    }
    if file.metadata()?.len() > 0 {
        *wanted = wanted.saturating_sub(1);
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// The file, unless there is none. A symbolic link is none of ours.
fn existing(path: &Path) -> io::Result<Option<File>> {
    match File::options().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Tells when something is written to a file of one name, whichever file that is.
struct Growth {
    events: EventStream<[u8; 4096]>,
    name: OsString,
}

impl Growth {
    fn watch(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let inotify = Inotify::init()?;
        inotify.watches().add(folder, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVE)?;
        Ok(Self { events: inotify.into_event_stream([0; 4096])?, name: name.to_owned() })
    }

    async fn wait(&mut self) -> io::Result<()> {
        while let Some(event) = self.events.next().await {
            // An event without a name is an overflow of the queue: anything may have happened.
            if event?.name.is_none_or(|name| name == self.name) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::io::AsyncBufReadExt;

    use super::*;

    /// Reads a log to its end.
    async fn all(path: &Path, lines: Option<u32>) -> String {
        let descriptor =
            open(path.to_owned(), Tail { follow: false, lines }, None::<watch::Receiver<()>>).await.unwrap();
        tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            File::from(descriptor).read_to_string(&mut text).map(|_| text)
        })
        .await
        .unwrap()
        .unwrap()
    }

    #[tokio::test]
    async fn the_last_lines_are_counted_back_from_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        for text in ["a\nb\nc\n", "a\nb\nc"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(all(&path, None).await, text);
            assert_eq!(all(&path, Some(2)).await, &text[2..]);
            assert_eq!(all(&path, Some(1)).await, &text[4..]);
            assert_eq!(all(&path, Some(0)).await, "");
            assert_eq!(all(&path, Some(9)).await, text);
        }
    }

    #[tokio::test]
    async fn lines_go_back_beyond_a_chunk_and_into_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let long = "x".repeat(CHUNK + 7);
        std::fs::write(rotated(&path), format!("old 1\nold 2 {long}\n")).unwrap();
        std::fs::write(&path, format!("new 1 {long}\nnew 2\n")).unwrap();
        assert_eq!(all(&path, Some(2)).await, format!("new 1 {long}\nnew 2\n"));
        assert_eq!(all(&path, Some(3)).await, format!("old 2 {long}\nnew 1 {long}\nnew 2\n"));
        assert_eq!(all(&path, None).await, format!("old 1\nold 2 {long}\nnew 1 {long}\nnew 2\n"));
    }

    #[tokio::test]
    async fn a_vm_that_never_ran_has_an_empty_log() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(all(&folder.path().join("console.log"), Some(5)).await, "");
    }

    #[tokio::test]
    async fn what_is_written_is_followed_into_a_new_file_until_the_vm_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        std::fs::write(&path, "one\n").unwrap();
        let (vm, picture) = watch::channel(());
        let tail = Tail { follow: true, lines: Some(1) };
        let descriptor = open(path.clone(), tail, Some(picture)).await.unwrap();
        let stream = std::os::unix::net::UnixStream::from(descriptor);
        stream.set_nonblocking(true).unwrap();
        let mut lines = tokio::io::BufReader::new(UnixStream::from_std(stream).unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "one");
        let append = |text: &str| {
            let mut file = File::options().append(true).create(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        append("two\n");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "two");
        append("three\n");
        std::fs::rename(&path, rotated(&path)).unwrap();
        append("four\n");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "three");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "four");
        drop(vm);
        assert_eq!(lines.next_line().await.unwrap(), None);
    }
}
