//! Guests with an init of their own, whose service the agent is.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::GuestParts;

/// What is process 1 of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init {
    /// busybox.
    Busybox,
    /// systemd.
    Systemd,
    /// openrc-init, of OpenRC.
    OpenRc,
}

impl Init {
    /// A guest under that init with what `dist/guest` has for it, in `folder`; none, with the reason printed, when the
    /// parts are not there.
    pub(crate) fn guest_in(self, folder: &Path) -> Option<GuestParts> {
        let mut guest = GuestParts::find_of(match self {
            Self::Busybox => "rootfs",
            Self::Systemd => "systemd",
            Self::OpenRc => "openrc",
        })?;
        let rootfs = folder.join("rootfs");
        let copied = Command::new("cp").arg("-a").arg(&guest.rootfs).arg(&rootfs).status();
        assert!(copied.expect("cp").success());
        match self {
            Self::Busybox => {
                ship("busybox/inittab", &rootfs.join("etc/inittab"));
                replace_init(&rootfs, "/bin/busybox");
            }
            Self::Systemd => {
                let units = rootfs.join("etc/systemd/system");
                ship("systemd/nexus-agent.service", &units.join("nexus-agent.service"));
                // As `systemctl enable` and `set-default` would.
                let wanted = units.join("multi-user.target.wants");
                fs::create_dir_all(&wanted).expect("a folder");
                symlink("../nexus-agent.service", wanted.join("nexus-agent.service")).expect("a link");
                symlink("/lib/systemd/system/multi-user.target", units.join("default.target")).expect("a link");
            }
            Self::OpenRc => {
                ship("openrc/nexus-agent", &rootfs.join("etc/init.d/nexus-agent"));
                // As `rc-update add` would.
                for (service, level) in [("cgroups", "sysinit"), ("nexus-agent", "default")] {
                    let link = rootfs.join("etc/runlevels").join(level).join(service);
                    symlink(format!("/etc/init.d/{service}"), link).expect("a link");
                }
                replace_init(&rootfs, "openrc-init");
            }
        }
        guest.rootfs = rootfs;
        Some(guest)
    }
}

fn ship(file: &str, to: &Path) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the repository");
    fs::copy(repository.join("dist/guest").join(file), to).expect("a file of dist/guest");
}

fn replace_init(rootfs: &Path, program: &str) {
    let init = rootfs.join("sbin/init");
    fs::remove_file(&init).expect("an init");
    symlink(program, init).expect("a link");
}
