//! What a process runs, and to which unit of systemd it belongs.

use std::{fs, io, path::PathBuf};

/// The program that a process runs, as `/proc/<pid>/exe` says.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// The systemd unit that a process is in: that of the user's manager, where there is one, else the system's. None where
/// systemd does not run, or there is no such process.
#[must_use]
pub fn unit(pid: u32) -> Option<String> {
    unit_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// What units that can hold processes end with, see `systemd.unit(5)`.
const SUFFIXES: [&str; 5] = [".service", ".scope", ".socket", ".mount", ".swap"];

/// Reads what `cgroups(7)` says of `/proc/<pid>/cgroup`: systemd keeps processes in its own hierarchy of version 1, or in
/// that of version 2. Its names are those of the folders, slices above units; what is below a unit is the unit's own affair.
fn unit_of(cgroups: &str) -> Option<String> {
    let path = |controllers: &str| {
        cgroups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.strip_prefix(controllers)
        })
    };
    let path = path("name=systemd:").or_else(|| path(":"))?;
    // Names that the kernel would take for its own files begin with an underscore.
    let mut names = path.split('/').map(|name| name.strip_prefix('_').unwrap_or(name));
    let mut next = || names.find(|name| SUFFIXES.iter().any(|suffix| name.ends_with(suffix)));
    let unit = next()?;
    let manager = unit.strip_prefix("user@").is_some_and(|rest| rest.ends_with(".service"));
    let inner = if manager { next() } else { None };
    Some(inner.unwrap_or(unit).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_read_as_systemd_writes_it() {
        for (cgroups, unit) in [
            ("0::/system.slice/cron.service\n", Some("cron.service")),
            ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-foot-1.scope\n", Some("app-foot-1.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", Some("init.scope")),
            ("0::/user.slice/user-1000.slice/session-2.scope\n", Some("session-2.scope")),
            ("0::/user.slice/user-1000.slice/user@1000.service/nexus.slice/a.service/payload\n", Some("a.service")),
            ("12:cpu:/x\n1:name=systemd:/system.slice/ssh.service\n0::/\n", Some("ssh.service")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(cgroups).as_deref(), unit, "{cgroups}");
        }
    }

    #[test]
    fn this_process_runs_this_program() {
        let own = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(executable(std::process::id()).ok(), Some(own));
        assert!(executable(0).is_err());
        assert!(unit(0).is_none());
    }
}
