//! Programs of other packages, run so that they can be called off.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};

use super::ImageError;
use crate::storage::{Cancelled, Progress, StorageError};

/// File system tools are in `sbin`, which is not on every user's PATH.
const MORE_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
/// How soon a cancel is seen.
const TICK: Duration = Duration::from_millis(100);
/// How long a program may take to end after it was asked to.
const GRACE_TICKS: u32 = 20;
/// How much of what a program said goes into an error.
const MAX_DETAIL_BYTES: u64 = 2048;

/// A program, and the package that has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    pub(super) purpose: &'static str,
}

/// Makes ext4 file systems.
pub(super) const MKE2FS: Tool =
    Tool { name: "mke2fs", package: "e2fsprogs", purpose: "to build an ext4 image of a folder or an archive" };
/// Lets files belong to whom they should.
pub(super) const FAKEROOT: Tool =
    Tool { name: "fakeroot", package: "fakeroot", purpose: "to give the files of an image their owners" };

impl Tool {
    pub(super) fn locate(self) -> Result<PathBuf, ImageError> {
        let path = std::env::var("PATH").unwrap_or_default();
        which::which_in(self.name, Some(format!("{path}:{MORE_PATH}")), "/").map_err(|_| ImageError::MissingTool {
            tool: self.name,
            package: self.package,
            purpose: self.purpose,
        })
    }

    /// Runs `command`, in a process group of its own, to its end; `tick` is called every now and then. When somebody
    /// calls it off, the group is told to end, and killed if it doesn't.
    ///
    /// Should this process be killed, the program ends by itself soon after: it has nothing to wait for.
    pub(super) fn run(
        self,
        mut command: Command,
        progress: &Progress,
        mut tick: impl FnMut(),
    ) -> Result<(), ImageError> {
        let failed_to_run = |source| ImageError::Run { tool: self.name, source };
        let mut said = tempfile::tempfile().map_err(failed_to_run)?;
        let mut child = command
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone().map_err(failed_to_run)?)
            .process_group(0)
            .spawn()
            .map_err(failed_to_run)?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let (ended, end) = mpsc::channel();
        // Waited for without reaping, so that the pid stays this child's until it is reaped below.
        let waiter = thread::spawn(move || {
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let _ = ended.send(());
        });
        let mut ticks_since_cancel = 0;
        while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(TICK) {
            if progress.is_cancelled() {
                let signal = if ticks_since_cancel < GRACE_TICKS { Signal::SIGTERM } else { Signal::SIGKILL };
                let _ = killpg(pid, signal);
                ticks_since_cancel += 1;
            } else {
                tick();
            }
        }
        let _ = waiter.join();
        let status = child.wait().map_err(failed_to_run)?;
        if progress.is_cancelled() {
            return Err(Cancelled.into());
        }
        if status.success() {
            return Ok(());
        }
        Err(ImageError::Tool { tool: self.name, detail: detail(&mut said).unwrap_or_else(|| status.to_string()) })
    }
}

impl ImageError {
    /// A program that failed for want of space says so in its own words.
    pub(super) fn or_no_space(self, action: &'static str, path: &std::path::Path) -> Self {
        match self {
            Self::Tool { detail, .. } if detail.contains("No space left on device") => {
                StorageError::io(action, path)(std::io::Error::from(std::io::ErrorKind::StorageFull)).into()
            }
            other => other,
        }
    }
}

fn detail(said: &mut File) -> Option<String> {
    let length = said.seek(SeekFrom::End(0)).ok()?;
    said.seek(SeekFrom::Start(length.saturating_sub(MAX_DETAIL_BYTES))).ok()?;
    let mut text = Vec::new();
    said.take(MAX_DETAIL_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}
