//! Programs of other packages, run so that they can be called off.

use std::{
    fs::{self, File},
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
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use rustix::process::{self, PidfdFlags, pidfd_open, pidfd_send_signal};

use super::ImageError;
use crate::storage::{Cancelled, Progress, StorageError};

/// File system tools are in `sbin`, which is not on every user's PATH.
const MORE_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
/// How soon a cancel is seen.
const TICK: Duration = Duration::from_millis(100);
/// How long a script may take to end after the program in it was killed.
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
    /// calls it off, this program is killed wherever in the group it is, so that a script around it can put away what
    /// it made: `fakeroot` has a daemon that nothing else would end. The group is killed if that takes too long.
    ///
    /// Should this process be killed, the program ends by itself soon after: it has nothing to wait for.
    pub(super) fn run(
        self,
        mut command: Command,
        progress: &Progress,
        mut tick: impl FnMut(),
    ) -> Result<(), ImageError> {
        let failed_to_run = |source| ImageError::Run { tool: self.name, source };
        let said = memfd_create("said", MFdFlags::MFD_CLOEXEC).map_err(|errno| failed_to_run(errno.into()))?;
        let mut said = File::from(said);
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
                self.kill_in(pid);
                ticks_since_cancel += 1;
                if ticks_since_cancel > GRACE_TICKS {
                    let _ = killpg(pid, Signal::SIGKILL);
                }
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

impl Tool {
    /// Kills every process of this program in a group.
    fn kill_in(self, group: Pid) {
        let Ok(processes) = fs::read_dir("/proc") else { return };
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        for pid in pids.filter_map(process::Pid::from_raw) {
            // Opened before it is looked at: what is killed is what was seen, whoever gets the number next.
            let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            if name_and_group(&stat) == Some((self.name, group.as_raw())) {
                let _ = pidfd_send_signal(&descriptor, process::Signal::KILL);
            }
        }
    }
}

/// `comm` and `pgrp` of `proc_pid_stat(5)`.
fn name_and_group(stat: &str) -> Option<(&str, i32)> {
    let (head, tail) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1;
    Some((name, tail.split(' ').nth(2)?.parse().ok()?))
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

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    const SLEEP: Tool = Tool { name: "sleep", package: "coreutils", purpose: "to test" };

    /// Processes that inherited this mark.
    fn marked(mark: &str) -> Vec<PathBuf> {
        let has_mark = |environment: Vec<u8>| environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        processes.filter(|process| fs::read(process.join("environ")).is_ok_and(has_mark)).collect()
    }

    /// Runs something that sleeps, calls it off, and says how long it took to end.
    fn cancelled(mut command: Command) -> Duration {
        let mark = format!("NEXUS_TEST_MARK={:x}", fastrand::u64(..));
        let (name, value) = mark.split_once('=').unwrap();
        command.env(name, value);
        let progress = Progress::default();
        let mut since = Instant::now();
        let sleeps = |process: &PathBuf| fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "sleep\n");
        let result = SLEEP.run(command, &progress, || {
            if marked(&mark).iter().any(sleeps) {
                since = Instant::now();
                progress.cancel();
            }
        });
        assert!(matches!(result, Err(ImageError::Cancelled(_))), "{result:?}");
        let elapsed = since.elapsed();
        let patience = Instant::now() + Duration::from_secs(20);
        while !marked(&mark).is_empty() {
            assert!(Instant::now() < patience, "left: {:?}", marked(&mark));
            thread::yield_now();
        }
        elapsed
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_cancel_ends_the_program() {
        let mut sleep = Command::new("sleep");
        sleep.arg("300");
        assert!(cancelled(sleep) < Duration::from_secs(1));
    }

    /// fakeroot's daemon is in a session of its own, and only the script's exit trap ends it.
    #[test]
    fn a_cancel_ends_the_daemon_of_fakeroot() {
        let mut fakeroot = Command::new(FAKEROOT.locate().unwrap());
        fakeroot.args(["--", "sleep", "300"]);
        assert!(cancelled(fakeroot) < Duration::from_secs(2));
    }

    #[test]
    fn a_script_that_goes_on_is_killed() {
        let elapsed = cancelled(shell("trap '' TERM INT; while :; do sleep 300; done"));
        assert!(elapsed > TICK * (GRACE_TICKS - 2) && elapsed < TICK * GRACE_TICKS * 10, "{elapsed:?}");
    }

    #[test]
    fn processes_are_told_by_name_and_group() {
        assert_eq!(name_and_group("7 (mke2fs) S 6 5 4 0 -1"), Some(("mke2fs", 5)));
        assert_eq!(name_and_group("7 (a) S 1 (b) R 6 5 4"), Some(("a) S 1 (b", 5)));
        assert_eq!(name_and_group(""), None);
    }

    #[test]
    fn a_failure_is_told_in_the_words_of_the_program() {
        let run = |script: &str| SLEEP.run(shell(script), &Progress::default(), || {});
        run("echo noise >&2").unwrap();
        let said = |result: Result<(), ImageError>| result.unwrap_err().to_string();
        assert_eq!(said(run("echo; echo one >&2; echo two >&2; exit 3")), "`sleep` failed: one; two");
        assert_eq!(said(run("exit 3")), "`sleep` failed: exit status: 3");
        let long = said(run("yes word | head -c 1000000 >&2; echo end >&2; exit 1"));
        assert!(long.len() < 2 * MAX_DETAIL_BYTES as usize && long.ends_with("word; end"), "{long}");
        let absent = SLEEP.run(Command::new("/absent"), &Progress::default(), || {});
        assert!(matches!(absent, Err(ImageError::Run { .. })), "{absent:?}");
    }
}
