//! Processes of a command where there is no control group to hold them.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// Names the command in its environment, and so in that of everything that it starts.
pub(super) const MARK: &str = "NEXUS_EXEC";

/// As many looks are taken, in case processes fork faster than they die.
const MAX_PASSES: usize = 100;

/// Kills every process that carries `mark`, and every one of the session `session`, until there is none.
pub(super) fn kill_marked(mark: &str, session: Option<i32>) {
    let wanted = format!("{MARK}={mark}");
    for _ in 0..MAX_PASSES {
        let mut found = false;
        for pid in pids() {
            if belongs(pid, wanted.as_bytes(), session)
                && let Some(pid) = Pid::from_raw(pid)
            {
                found |= kill_process(pid, Signal::KILL).is_ok();
            }
        }
        if !found {
            break;
        }
    }
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn belongs(pid: i32, wanted: &[u8], session: Option<i32>) -> bool {
    let folder = Path::new("/proc").join(pid.to_string());
    let Some((state, own_session)) = fs::read_to_string(folder.join("stat")).ok().and_then(|stat| parse_stat(&stat))
    else {
        return false;
    };
    // A zombie can't be killed any more.
    state != 'Z'
        && state != 'X'
        && (session == Some(own_session)
            || fs::read(folder.join("environ"))
                .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == wanted)))
}

/// State and session of `/proc/<pid>/stat`, see `proc_pid_stat(5)`. The name before them may hold anything.
fn parse_stat(stat: &str) -> Option<(char, i32)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(2)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat_of_an_odd_name() {
        assert_eq!(parse_stat("12 (a) R 1 (b) S 1 12 11 0 -1 4194560"), Some(('S', 11)));
        assert_eq!(parse_stat("12 (a"), None);
        assert_eq!(parse_stat("12 (a) S 1"), None);
    }
}
