//! What a machine is to have for Nexus: names and advice, said alike by the daemon, which looks closely, and by nexusctl
//! where there is no daemon.

use std::io;

/// A program of others that Nexus runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What `Manager.CheckHost` calls it.
    pub name: &'static str,
    /// The binary's name, as on `PATH`.
    pub program: &'static str,
    /// What to do when it is not there.
    pub advice: &'static str,
}

impl Requirement {
    /// Firecracker.
    pub const FIRECRACKER: Self = Self {
        name: "firecracker",
        program: "firecracker",
        advice: "take it from https://github.com/firecracker-microvm/firecracker/releases, or leave it to QEMU",
    };
    /// QEMU, which has its microvm machine on x86-64 only.
    pub const QEMU: Self = Self { name: "qemu", program: "qemu-system-x86_64", advice: "install qemu-system-x86" };
    /// What QEMU's guests are reached through where the kernel has no vhost-vsock.
    pub const SIDECAR: Self = Self {
        name: "vhost-device-vsock",
        program: "vhost-device-vsock",
        advice: "make build makes it, and make install puts it beside nexusd",
    };

    /// That its binary is nowhere.
    #[must_use]
    pub fn not_on_path(&self) -> String {
        format!("`{}` is not on PATH", self.program)
    }

    /// Why it can't be used, and what to do about it.
    #[must_use]
    pub fn missing(&self, reason: &str) -> String {
        format!("{reason}: {}", self.advice)
    }
}

/// Hardware virtualization.
pub mod kvm {
    use super::io;

    /// What `Manager.CheckHost` calls it.
    pub const NAME: &str = "kvm";
    /// What Linux calls it.
    pub const DEVICE: &str = "/dev/kvm";

    /// Why the device could not be opened, and what to do about it.
    #[must_use]
    pub fn reason(error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound => format!("{DEVICE} does not exist: load the module kvm_intel or kvm_amd"),
            io::ErrorKind::PermissionDenied => format!("{DEVICE} may not be opened: add your user to group kvm"),
            _ => format!("{DEVICE} cannot be opened: {error}"),
        }
    }

    /// What a machine without it is like.
    #[must_use]
    pub fn missing(reason: &str) -> String {
        format!("{reason}; VMs run in plain emulation")
    }
}
