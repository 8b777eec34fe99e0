//! Control groups (v2, see `cgroups(7)`) that hold what a command starts.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use nexus_protocol::Role;
use rustix::process::{Pid, Signal, kill_process};

/// Names of the agent's groups begin so.
const PREFIX: &str = "nexus-exec-";

/// As many looks at a group that has no `cgroup.kill` (before Linux 5.14) are taken, in case it grows meanwhile.
const MAX_PASSES: usize = 100;

/// The group below which the agent makes one for each command.
#[derive(Debug)]
pub(super) struct Parent {
    path: PathBuf,
}

impl Parent {
    /// The place for groups, if there is one that the agent may use. A mere process uses its own group only if that is
    /// a unit of Nexus', which goes with it: nobody would remove what it leaves elsewhere.
    pub(super) fn find(role: Role) -> Option<Self> {
        let mount = mount_point(&fs::read_to_string("/proc/self/mounts").ok()?)?;
        let path = if role == Role::Init {
            let path = mount.join("nexus");
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => return None,
            }
            path
        } else {
            let own = own_group(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
            let is_unit = own.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nexus-"));
            if role == Role::Process && !is_unit {
                return None;
            }
            mount.join(own.strip_prefix("/").ok()?)
        };
        let parent = Self { path };
        parent.remove_leftovers();
        Some(parent)
    }

    /// A folder that is taken for one of control groups.
    #[cfg(test)]
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Removes empty groups of an earlier run, and lets go on what is in others.
    fn remove_leftovers(&self) {
        self.set_frozen(false);
        for group in self.groups() {
            // One in use stays.
            let _ = fs::remove_dir(group);
        }
    }

    /// Those of commands, also of an earlier run.
    fn groups(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)).map(|entry| entry.path())
    }

    /// Has everything in the groups come to a stop, or go on.
    pub(super) fn set_frozen(&self, frozen: bool) {
        for group in self.groups() {
            // It may have been removed since.
            let _ = fs::write(group.join("cgroup.freeze"), if frozen { "1" } else { "0" });
        }
    }

    /// Whether everything in the groups has come to a stop.
    pub(super) fn stands_still(&self) -> bool {
        let moves = |group: PathBuf| {
            fs::read_to_string(group.join("cgroup.events"))
                .is_ok_and(|events| events.lines().all(|line| line != "frozen 1"))
        };
        !self.groups().any(moves)
    }

    /// A new, empty group.
    pub(super) fn create(&self, name: &str) -> io::Result<Cgroup> {
        let path = self.path.join(format!("{PREFIX}{name}"));
        fs::create_dir(&path)?;
        Ok(Cgroup { path })
    }
}

/// The control group of one command.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// The file to which a process writes `0` to move into the group.
    pub(super) fn entrance(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Kills everything in the group.
    pub(super) fn kill(&self) -> io::Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_one_by_one(),
            result => result,
        }
    }

    fn kill_one_by_one(&self) -> io::Result<()> {
        for _ in 0..MAX_PASSES {
            let members = fs::read_to_string(self.path.join("cgroup.procs"))?;
            let pids = members.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
            let mut found = false;
            for pid in pids {
                // It may have ended since.
                let _ = kill_process(pid, Signal::KILL);
                found = true;
            }
            if !found {
                break;
            }
        }
        Ok(())
    }

    /// Removes the group unless something is in it; whether it is gone.
    pub(super) fn remove(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| Path::new(path).to_owned())
    })
}

fn own_group(memberships: &str) -> Option<PathBuf> {
    memberships.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_place() {
        let mounts = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("cgroup /sys/fs/cgroup cgroup rw 0 0\n"), None);
        assert_eq!(own_group("3:cpu:/\n0::/user.slice/nexus-1.service\n"), Some("/user.slice/nexus-1.service".into()));
        assert_eq!(own_group("3:cpu:/\n"), None);
    }
}
