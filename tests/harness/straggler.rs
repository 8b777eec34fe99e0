//! What a command leaves behind that became a daemon.

use std::{fs, path::Path};

use crate::PATIENCE;

/// A script whose child leaves session and process group, writes its pid into `note`, and stays.
#[must_use]
pub fn daemonises(note: &Path) -> String {
    format!("setsid -f sh -c 'echo $$ >{}; exec sleep 1000' >&- 2>&-", note.display())
}

/// The pid in `note`, once it is there.
///
/// # Panics
/// When it does not come.
pub async fn pid_in(note: &Path) -> u32 {
    let read = async {
        loop {
            if let Some(pid) = fs::read_to_string(note).ok().and_then(|text| text.strip_suffix('\n')?.parse().ok()) {
                return pid;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a pid is written")
}

/// Waits until there is no such process, or only what is left of one.
///
/// # Panics
/// When it does not die.
pub async fn has_died(pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    let dead = async {
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, dead).await.expect("it dies");
}
