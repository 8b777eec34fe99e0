use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::VmmError;

/// The name of the console of the run before, beside that of the run that is or was last.
pub const PREVIOUS_CONSOLE: &str = "console.previous.log";

/// How much of the console's end is looked at. The kernel's last line is within the last few hundred bytes; a panic's
/// first line stands before its stack traces.
const TAIL_BYTES: u64 = 64 * 1024;

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestEnd {
    /// It powered off.
    Poweroff,
    /// It rebooted; no VMM here is let do that by itself, so it ended instead.
    Reboot,
    /// Its kernel panicked.
    Panic,
}

/// The kernel's own lines: `kernel/reboot.c` and `kernel/panic.c` of Linux. All are printed at level `emerg`, so they
/// come even with `quiet`.
const LAST_WORDS: [(&str, GuestEnd); 3] = [
    ("reboot: Power down", GuestEnd::Poweroff),
    ("reboot: Restarting system", GuestEnd::Reboot),
    ("Kernel panic - not syncing", GuestEnd::Panic),
];

/// The last of the kernel's last words in a console log.
pub(super) fn guest_end(log: &Path) -> Result<Option<GuestEnd>, VmmError> {
    let failed = |source| VmmError::File { action: "read", path: log.to_owned(), source };
    let mut text = tail(log).map_err(failed)?.unwrap_or_default();
    if (text.len() as u64) < TAIL_BYTES
        && let Some(mut rotated) = tail(&previous(log)).map_err(failed)?
    {
        rotated.append(&mut text);
        text = rotated;
    }
    let text = String::from_utf8_lossy(&text);
    Ok(LAST_WORDS
        .into_iter()
        .filter_map(|(words, end)| text.rfind(words).map(|position| (position, end)))
        .max_by_key(|(position, _)| *position)
        .map(|(_, end)| end))
}

/// The log's older half, as [`unit`](crate::unit) rotates it.
fn previous(log: &Path) -> PathBuf {
    let mut name = OsString::from(log);
    name.push(".1");
    name.into()
}

fn tail(log: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut file: File = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut text = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut text)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn log(text: &str) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("console.log");
        fs::write(&log, text).unwrap();
        (dir, log)
    }

    #[test]
    fn the_last_words_count() {
        for (text, end) in [
            ("[    5.1] reboot: Power down\r\n", Some(GuestEnd::Poweroff)),
            ("[    5.1] reboot: Restarting system\r\n", Some(GuestEnd::Reboot)),
            ("[1] Kernel panic - not syncing: x\r\n[1] Rebooting in 1 seconds..\r\n", Some(GuestEnd::Panic)),
            ("[1] reboot: Power down\r\nLinux version 6\r\n[2] reboot: Restarting system\r\n", Some(GuestEnd::Reboot)),
            ("login: ", None),
            ("", None),
        ] {
            let (_dir, log) = log(text);
            assert_eq!(guest_end(&log).unwrap(), end, "{text:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_nothing() {
        let (_dir, log) = log("");
        fs::write(&log, b"\xff\xfe\x00reboot: Power down\r\n\xc3").unwrap();
        assert_eq!(guest_end(&log).unwrap(), Some(GuestEnd::Poweroff));
    }

    #[test]
    fn a_log_that_was_just_begun_anew_is_read_with_the_one_before() {
        let (_dir, log) = log(" down\r\n");
        fs::write(previous(&log), "x".repeat(100_000) + "[    5.1] reboot: Power").unwrap();
        assert_eq!(guest_end(&log).unwrap(), Some(GuestEnd::Poweroff));
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let (_dir, log) = log(&("reboot: Power down\r\n".to_owned() + &"x".repeat(100_000)));
        assert_eq!(guest_end(&log).unwrap(), None);
    }

    #[test]
    fn a_log_that_is_not_there_says_nothing() {
        let (dir, _) = log("");
        assert_eq!(guest_end(&dir.path().join("other.log")).unwrap(), None);
    }
}
