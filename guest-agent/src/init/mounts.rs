//! The file systems that every program expects.

use std::{fs, os::unix::fs::symlink, path::Path};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use super::note;

struct Mount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
}

const NO_DEVICES: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
const NO_PROGRAMS: MsFlags = NO_DEVICES.union(MsFlags::MS_NOEXEC);

const MOUNTS: [Mount; 8] = [
    Mount { kind: "proc", target: "/proc", flags: NO_PROGRAMS, data: "" },
    Mount { kind: "sysfs", target: "/sys", flags: NO_PROGRAMS, data: "" },
    Mount { kind: "devtmpfs", target: "/dev", flags: MsFlags::MS_NOSUID, data: "mode=0755" },
    Mount { kind: "devpts", target: "/dev/pts", flags: MsFlags::MS_NOSUID, data: "mode=0620,gid=5,ptmxmode=0666" },
    Mount { kind: "tmpfs", target: "/dev/shm", flags: NO_DEVICES, data: "mode=1777" },
    Mount { kind: "tmpfs", target: "/run", flags: NO_DEVICES, data: "mode=0755" },
    Mount { kind: "tmpfs", target: "/tmp", flags: NO_DEVICES, data: "mode=1777" },
    Mount { kind: "cgroup2", target: "/sys/fs/cgroup", flags: NO_PROGRAMS, data: "" },
];

/// Links that programs expect in `/dev` and the kernel does not make.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Never unmounted: the agent needs them to its last instruction.
const KEPT: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

/// Mounts whatever the kernel or an initrd has not mounted before.
pub(super) fn mount_all() {
    for Mount { kind, target, flags, data } in &MOUNTS {
        if !Path::new(target).is_dir() {
            note(&format!("make the folder {target}"), fs::create_dir_all(target));
        }
        if *target != "/proc" && is_mounted(target) {
            continue;
        }
        match mount(Some(*kind), *target, Some(*kind), *flags, Some(*data)) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(error) => note(&format!("mount {target}"), Err::<(), _>(error)),
        }
    }
    for (original, link) in LINKS {
        if fs::symlink_metadata(link).is_err() {
            note(&format!("make the link {link}"), symlink(original, link));
        }
    }
}

fn is_mounted(target: &str) -> bool {
    targets().iter().any(|mounted| mounted == target)
}

/// Unmounts what can be, newest first, and makes the root file system read-only: its disk is clean then.
pub(super) fn unmount_all() {
    for target in targets().iter().rev().filter(|target| !KEPT.contains(&target.as_str())) {
        // Kernel file systems that something below uses stay, and have nothing to lose.
        let _ = umount2(target.as_str(), MntFlags::empty());
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    note("make the root file system read-only", mount(None::<&str>, "/", None::<&str>, flags, None::<&str>));
}

/// Where something is mounted, oldest first.
fn targets() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(unescape).collect()
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits after a backslash.
fn unescape(field: &str) -> String {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                plain.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_what_the_kernel_escapes() {
        assert_eq!(unescape("/mnt/a\\040b\\134c"), "/mnt/a b\\c");
        assert_eq!(unescape("/x\\04"), "/x\\04");
    }
}
