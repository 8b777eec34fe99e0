//! What a keeper leaves in the runtime folder for whoever comes next, and what it says to the nexusd that started it.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nexus_model::{ExitStatus, ProcessIdentity, Timestamp};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Launch, ProgramRole, StartFailure};
use crate::vsock::Endpoint;

/// The Unix socket on which nexusd listens during a start, and at no other time.
pub const START_SOCKET: &str = "start.sock";
/// The longest message on it: a launch is a command line and some paths, and Linux takes command lines of 2 MiB.
pub const MESSAGE_MAX_BYTES: u64 = 4 << 20;

const PROCESS: &str = "process.json";
const EXIT: &str = "exit.json";
/// A folder in it that the VMM can write.
pub const VMM_FOLDER: &str = "vmm";
/// What the agent of a run wants to be told, out of the VMM's reach.
pub const TOKEN: &str = "token";
/// All that there can be in a runtime folder.
pub(crate) const RUNTIME_CONTENT: [&str; 7] =
    [VMM_FOLDER, TOKEN, START_SOCKET, PROCESS, EXIT, "process.json.tmp", "exit.json.tmp"];
/// No record is anywhere near this long.
const RECORD_MAX_BYTES: u64 = 64 << 10;

/// What nexusd tells a keeper that has connected: one line of JSON. When nexusd closes the connection before it is answered,
/// the keeper undoes what it did and ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartRequest {
    /// The systemd unit that the keeper is the main process of; empty without a manager.
    pub unit: String,
    /// What to start.
    pub launch: Launch,
}

/// What the keeper answers, as one line of JSON.
pub type StartAnswer = Result<ProcessRecord, StartFailure>;

/// A program that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRecord {
    /// What it is to the VM.
    pub role: ProgramRole,
    /// Its process.
    pub process: ProcessIdentity,
}

/// `process.json`: the processes of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// The systemd unit; empty without a manager.
    pub unit: String,
    /// systemd's id of this run.
    pub invocation_id: Option<String>,
    /// The keeper.
    pub keeper: ProcessIdentity,
    /// The VMM.
    pub leader: ProcessIdentity,
    /// The other programs.
    pub others: Vec<ProgramRecord>,
    /// How the guest's vsock ports are reached.
    pub endpoint: Endpoint,
}

/// `exit.json`: how a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The program that ended first; the VMM when that can't be told.
    pub who: ProgramRole,
    /// How it ended.
    pub status: ExitStatus,
    /// When.
    pub at: Timestamp,
}

/// The folder with a unit's records. A record is there wholly or not at all, whatever happens while it is written.
#[derive(Debug)]
pub struct Records {
    dir: OwnedFd,
    path: PathBuf,
}

impl Records {
    /// Opens a runtime folder; none when it is not there.
    ///
    /// # Errors
    /// When it can't be opened or is no folder.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(Self { dir, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The processes; none when there was no start, or it was collected.
    ///
    /// # Errors
    /// When the record can't be read or is none.
    pub fn process(&self) -> io::Result<Option<ProcessRecord>> {
        self.read(PROCESS)
    }

    /// How it ended; none while its keeper lives, or died without a word.
    ///
    /// # Errors
    /// When the record can't be read or is none.
    pub fn exit(&self) -> io::Result<Option<ExitRecord>> {
        self.read(EXIT)
    }

    /// Records the processes.
    ///
    /// # Errors
    /// When it can't be written; the record that was there is then unchanged.
    pub fn write_process(&self, record: &ProcessRecord) -> io::Result<()> {
        self.write(PROCESS, record)
    }

    /// Takes back the record of the processes: they are gone, and were not to be adopted.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn withdraw_process(&self) -> io::Result<()> {
        self.unlink(PROCESS)
    }

    /// Records the end.
    ///
    /// # Errors
    /// When it can't be written; the record that was there is then unchanged.
    pub fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        self.write(EXIT, record)
    }

    /// Removes all that a keeper or a start left, the record of the end last: until then it still says what happened.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub fn remove(&self) -> io::Result<()> {
        for name in [START_SOCKET, &temporary(PROCESS), &temporary(EXIT), PROCESS, EXIT] {
            self.unlink(name)?;
        }
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut text = Vec::new();
        file.take(RECORD_MAX_BYTES).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    fn write<T: Serialize>(&self, name: &str, record: &T) -> io::Result<()> {
        let text = serde_json::to_vec(record)?;
        let temporary = temporary(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file.write_all(&text).and_then(|()| file.sync_all()).and_then(|()| {
            rustix::fs::renameat(&self.dir, &temporary, &self.dir, name)?;
            rustix::fs::fsync(&self.dir).map_err(io::Error::from)
        });
        if written.is_err() {
            // Of the two errors the first one tells why.
            let _ = rustix::fs::unlinkat(&self.dir, &temporary, AtFlags::empty());
        }
        written
    }
}

impl AsFd for Records {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn temporary(name: &str) -> String {
    format!("{name}.tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: ExitRecord = ExitRecord { who: ProgramRole::Vmm, status: ExitStatus::Signal(9), at: Timestamp(7) };

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap().expect("the folder is there");
        assert_eq!(records.exit().unwrap(), None);
        records.write_exit(&RECORD).unwrap();
        assert_eq!(records.exit().unwrap(), Some(RECORD));
        records.remove().unwrap();
        records.remove().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap().expect("the folder is there");
        records.write_exit(&RECORD).unwrap();
        std::fs::create_dir(folder.path().join(temporary(EXIT))).unwrap();
        records.write_exit(&ExitRecord { at: Timestamp(8), ..RECORD }).unwrap_err();
        assert_eq!(records.exit().unwrap(), Some(RECORD));
    }

    #[test]
    fn neither_a_link_nor_rubbish_is_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap().expect("the folder is there");
        std::fs::write(folder.path().join("elsewhere"), serde_json::to_vec(&RECORD).unwrap()).unwrap();
        std::os::unix::fs::symlink("elsewhere", folder.path().join(EXIT)).unwrap();
        records.exit().unwrap_err();
        std::fs::write(folder.path().join(PROCESS), b"{\"unit\":").unwrap();
        records.process().unwrap_err();
    }

    #[test]
    fn no_folder_has_no_records() {
        assert!(Records::open(Path::new("/nonexistent/folder")).unwrap().is_none());
    }
}
