//! What a test's guest is made of.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

#[path = "../../../tests/harness/required.rs"]
mod required;

pub(crate) use required::not_run;

/// Kernel, initial RAM disk and programs for guests.
pub(crate) struct GuestFiles {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: Option<PathBuf>,
    rootfs: PathBuf,
}

/// The repository's folder for what is built.
pub(crate) fn build_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").join("build")
}

impl GuestFiles {
    /// None, with the reason printed, when they were not built.
    pub(crate) fn find() -> Option<Self> {
        let dir = build_dir().join("guest");
        let files =
            Self { kernel: dir.join("vmlinuz"), initrd: Some(dir.join("initrd.img")), rootfs: dir.join("rootfs") };
        if !files.kernel.is_file() || !files.rootfs.join("bin/busybox").is_file() {
            not_run(&format!("{} has no kernel and no root file system: run `make guest`", dir.display()));
            return None;
        }
        // A kernel with all drivers built in comes without one.
        Some(Self { initrd: files.initrd.filter(|initrd| initrd.is_file()), ..files })
    }

    /// The static guest agent.
    pub(crate) fn agent(&self) -> PathBuf {
        self.rootfs.join("sbin/guest-agent")
    }

    /// A disk whose init is this shell script; busybox and the guest agent are there.
    pub(crate) fn disk(&self, dir: &Path, init: &str) -> PathBuf {
        let tree = dir.join("tree");
        for folder in ["bin", "dev", "etc", "proc", "sbin", "sys", "tmp", "run"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        fs::copy(self.rootfs.join("bin/busybox"), tree.join("bin/busybox")).unwrap();
        fs::copy(self.agent(), tree.join("sbin/guest-agent")).unwrap();
        let script = tree.join("sbin/init");
        fs::write(&script, format!("#!/bin/busybox sh\nexport PATH=/bin:/sbin\n{MOUNTS}{init}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

        let disk = dir.join("disk.ext4");
        fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        let path = format!("{}:/usr/sbin:/sbin", env::var("PATH").unwrap_or_default());
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.env("PATH", path).args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&disk);
        assert!(mke2fs.status().unwrap().success());
        disk
    }
}

const MOUNTS: &str = "\
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
";
