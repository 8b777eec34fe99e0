use std::path::{Path, PathBuf};

use nexus_model::{Id, Name};

/// Everything that a driver needs to know to run one machine. The same plan gives the same launch, so it need not be
/// stored beyond what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachinePlan {
    /// The VM.
    pub vm: Id,
    /// Its name, which the guest agent makes the guest's host name.
    pub name: Name,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory of the guest.
    pub memory_bytes: u64,
    /// The kernel, a bzImage or an ELF `vmlinux`.
    pub kernel: PathBuf,
    /// The same kernel as an uncompressed ELF file, which Firecracker needs.
    pub kernel_elf: Option<PathBuf>,
    /// The initial RAM disk.
    pub initrd: Option<PathBuf>,
    /// Appended to the driver's own kernel command line. Never shown in the process list.
    pub kernel_args: String,
    /// The root disk: a raw ext4 image, writable.
    pub disk: Option<PathBuf>,
    /// The guest's vsock context id, 3 or more.
    pub cid: u32,
    /// Folder for sockets and the VMM's own configuration, used by this machine alone and writable for its VMM. Its
    /// path should stay below 80 bytes: a Unix socket's address ends at 107.
    pub runtime_dir: PathBuf,
    /// Where the console goes, by way of the VMM's standard output. It lies outside of what the VMM can write.
    pub console_log: PathBuf,
    /// How large the console log may grow before it is begun anew; twice that is kept, see [`Log`](crate::unit::Log).
    pub console_max_bytes: u64,
    /// The guest agent's binary, for the `process` driver.
    pub agent: PathBuf,
}

impl MachinePlan {
    /// The socket of the hybrid vsock protocol.
    pub(super) fn vsock_socket(&self) -> PathBuf {
        self.runtime_dir.join("vsock.sock")
    }

    /// A file in the runtime folder.
    pub(super) fn runtime_file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.runtime_dir.join(name)
    }
}

#[cfg(test)]
pub(in crate::vmm) mod tests {
    use super::*;

    /// A plan whose files need not exist.
    pub(in crate::vmm) fn plan() -> MachinePlan {
        MachinePlan {
            vm: 0x0123_4567_89ab_cdef.into(),
            name: "web-1".parse().unwrap(),
            vcpus: 2,
            memory_bytes: 256 << 20,
            kernel: "/k/vmlinuz".into(),
            kernel_elf: None,
            initrd: None,
            kernel_args: String::new(),
            disk: Some("/w/disk.ext4".into()),
            cid: 7,
            runtime_dir: "/run/nexus/1/s".into(),
            console_log: "/s/console.log".into(),
            console_max_bytes: 1 << 20,
            agent: "/usr/bin/guest-agent".into(),
        }
    }
}
