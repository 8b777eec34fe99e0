//! Processes that have ended and may not have been seen to yet.

use std::fs;

use super::{Signal, stat};

/// `PF_EXITING` of the kernel's `include/linux/sched.h`: it executes nothing of its own any more.
const PF_EXITING: u64 = 0x4;

/// Whether a process has ended, is ending, or is about to because somebody has sent it SIGKILL: a large one takes its time
/// until it is gone. True where there is none; what can't be read is taken for one that lives.
#[must_use]
pub fn is_ending(pid: u32) -> bool {
    match (fs::read_to_string(format!("/proc/{pid}/status")), fs::read(format!("/proc/{pid}/stat"))) {
        (Ok(status), Ok(stat)) => is_to_be_killed(&status) || is_exiting(&stat),
        (Err(_), _) | (_, Err(_)) => !fs::exists(format!("/proc/{pid}")).unwrap_or(true),
    }
}

/// What is on its way to the leader, and to all threads: `SigPnd` and `ShdPnd` of `proc_pid_status(5)`, a bit for each signal.
fn is_to_be_killed(status: &str) -> bool {
    let pending = |name| {
        let mask = status.lines().find_map(|line: &str| line.strip_prefix(name))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    let kill = 1 << (Signal::SIGKILL as u64 - 1);
    ["SigPnd:", "ShdPnd:"].into_iter().filter_map(pending).any(|mask| mask & kill != 0)
}

/// Fields 3 and 9 of `proc_pid_stat(5)`: the state and the kernel's flags.
fn is_exiting(stat: &[u8]) -> bool {
    let Some(mut fields) = stat::from_third(stat) else { return false };
    let is_dead = matches!(fields.next(), Some("Z" | "X"));
    let flags = fields.nth(9 - 4).and_then(|flags| flags.parse::<u64>().ok());
    is_dead || flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn one_that_was_killed_is_ending_from_then_on() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id();
        assert!(!is_ending(pid));
        child.kill().unwrap();
        assert!(is_ending(pid));
        child.wait().unwrap();
        assert!(is_ending(u32::MAX));
        assert!(!is_ending(std::process::id()));
    }

    #[test]
    fn what_is_pending_is_a_bit_for_each_signal() {
        let status = |mask: &str| format!("Name:\tqemu\nSigQ:\t1/2\nSigPnd:\t{mask}\nShdPnd:\t0000000000000000\n");
        assert!(is_to_be_killed(&status("0000000000000100")));
        assert!(!is_to_be_killed(&status("0000000000004000")));
        assert!(is_exiting(b"7 (a) b) R 1 7 7 0 -1 4194308 0"));
        assert!(!is_exiting(b"7 (a) b) R 1 7 7 0 -1 4194560 0"));
        assert!(is_exiting(b"7 (a) Z 1 7 7 0 -1 4194560 0"));
    }
}
