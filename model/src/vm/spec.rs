//! What a VM is made of.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{InvalidFile, VmFile};
use crate::{ArtifactName, Name, kebab::words, restart::RestartPolicy};

/// Memory of a VM whose creator did not say: 128 MiB.
pub const DEFAULT_MEMORY_BYTES: u64 = 128 << 20;
/// The least memory that a VM can have: 32 MiB. Less does not hold a kernel.
pub const MIN_MEMORY_BYTES: u64 = 32 << 20;
/// Virtual CPUs of a VM whose creator did not say.
pub const DEFAULT_VCPUS: u32 = 1;
/// The most virtual CPUs: Firecracker's limit.
pub const MAX_VCPUS: u32 = 32;
/// The longest kernel command line that a VMM takes: `COMMAND_LINE_SIZE` of x86 is 2048; Nexus adds its own to it.
const MAX_KERNEL_ARGS: usize = 1024;
const MAX_ENV: usize = 256;
/// Most bytes of variables: half of what a command can have with its arguments.
const MAX_ENV_BYTES: usize = 64 << 10;
const MAX_TAGS: usize = 64;

words! {
    /// What runs a VM.
    pub enum VmmKind {
        /// Firecracker, where KVM has hardware virtualization.
        Firecracker = "firecracker",
        /// QEMU's `microvm` machine, with KVM or plain emulation.
        Qemu = "qemu",
        /// The guest agent as a plain process: no isolation, for tests and benches only.
        Process = "process",
    }
}

words! {
    /// Which VMM the creator of a VM asked for.
    pub enum VmmChoice {
        /// The best that this machine has.
        Auto = "auto",
        /// Firecracker or nothing.
        Firecracker = "firecracker",
        /// QEMU or nothing.
        Qemu = "qemu",
        /// A plain process, if the configuration allows it.
        Process = "process",
    }
}

impl VmmChoice {
    /// What that is, unless it is to be chosen.
    #[must_use]
    pub const fn kind(self) -> Option<VmmKind> {
        match self {
            Self::Auto => None,
            Self::Firecracker => Some(VmmKind::Firecracker),
            Self::Qemu => Some(VmmKind::Qemu),
            Self::Process => Some(VmmKind::Process),
        }
    }
}

words! {
    /// What a VM is for, in its user's eyes.
    pub enum Role {
        /// Where a person or an agent enters.
        Portal = "portal",
        /// Where work is done.
        Work = "work",
        /// What others use.
        Service = "service",
    }
}

/// What a VM is made of, fixed when it is created but for what `Reconfigure` and the writable properties change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// The image that its workspace was made from, if Nexus made it for this VM.
    pub image: Option<ArtifactName>,
    /// The workspace that is its root disk. None only for a VM of the `process` driver.
    pub workspace: Option<Name>,
    /// The kernel asset; none is the default one at each start.
    pub kernel: Option<ArtifactName>,
    /// The initrd asset; none is the one of the kernel's version, if there is one.
    pub initrd: Option<ArtifactName>,
    /// The VMM asked for.
    pub vmm: VmmChoice,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Appended to Nexus' own kernel command line.
    pub kernel_args: String,
    /// Environment of every command that is run in the guest.
    pub env: BTreeMap<String, String>,
    /// What is in the guest before the first command.
    #[serde(default, skip_serializing_if = "<[VmFile]>::is_empty", with = "shared_list")]
    pub files: Arc<[VmFile]>,
    /// The user's own words for it.
    pub tags: Vec<String>,
    /// One line of free text.
    pub label: String,
    /// What it is for.
    pub role: Role,
    /// Whether it starts with the daemon.
    pub autostart: bool,
    /// When it is started again after it ended.
    pub restart_policy: RestartPolicy,
    /// Whether it is removed, with its workspace, once it has stopped.
    pub ephemeral: bool,
}

impl Default for VmSpec {
    fn default() -> Self {
        Self {
            image: None,
            workspace: None,
            kernel: None,
            initrd: None,
            vmm: VmmChoice::Auto,
            vcpus: DEFAULT_VCPUS,
            memory_bytes: DEFAULT_MEMORY_BYTES,
            kernel_args: String::new(),
            env: BTreeMap::new(),
            files: Arc::default(),
            tags: Vec::new(),
            label: String::new(),
            role: Role::Work,
            autostart: false,
            restart_policy: RestartPolicy::OnFailure,
            ephemeral: false,
        }
    }
}

impl VmSpec {
    /// Checks what can be checked without looking at the machine.
    ///
    /// # Errors
    /// The first value that no VM can have.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        if self.vcpus == 0 || self.vcpus > MAX_VCPUS {
            return Err(InvalidSpec::Vcpus(self.vcpus));
        }
        if self.memory_bytes < MIN_MEMORY_BYTES || !self.memory_bytes.is_multiple_of(1 << 20) {
            return Err(InvalidSpec::Memory(self.memory_bytes));
        }
        if self.kernel_args.len() > MAX_KERNEL_ARGS || self.kernel_args.chars().any(char::is_control) {
            return Err(InvalidSpec::KernelArgs);
        }
        if self.env.len() > MAX_ENV {
            return Err(InvalidSpec::TooMany { what: "env", max: MAX_ENV });
        }
        if self.env.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>() > MAX_ENV_BYTES {
            return Err(InvalidSpec::EnvBytes);
        }
        let wrong =
            |(name, value): &(&String, &String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        if let Some((name, _)) = self.env.iter().find(wrong) {
            // What comes behind may be a secret.
            return Err(InvalidSpec::EnvName(name.split(['=', '\0']).next().unwrap_or_default().to_owned()));
        }
        if self.files.len() > VmFile::MAX {
            return Err(InvalidSpec::TooMany { what: "files", max: VmFile::MAX });
        }
        VmFile::validate(&self.files)?;
        if self.tags.len() > MAX_TAGS {
            return Err(InvalidSpec::TooMany { what: "tags", max: MAX_TAGS });
        }
        if self.label.len() > 256 || self.label.chars().any(char::is_control) {
            return Err(InvalidSpec::Label);
        }
        Ok(())
    }
}

/// A list of which clones are the same, as serde writes a list.
mod shared_list {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(list: &Arc<[T]>, serializer: S) -> Result<S::Ok, S::Error> {
        list.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<[T]>, D::Error> {
        Vec::deserialize(deserializer).map(Into::into)
    }
}

/// A value that no VM can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// `vcpus` is out of range.
    #[error("{0} virtual CPUs can't be had: use 1 to {MAX_VCPUS}")]
    Vcpus(u32),
    /// `memory-bytes` is too small or not whole MiB.
    #[error("{0} bytes of memory can't be had: use whole MiB, at least {min} of them", min = MIN_MEMORY_BYTES >> 20)]
    Memory(u64),
    /// `kernel-args` is too long or has control characters.
    #[error("kernel-args must be one line of at most {MAX_KERNEL_ARGS} characters")]
    KernelArgs,
    /// A list is too long.
    #[error("{what} has too many entries: at most {max}")]
    TooMany {
        /// The option.
        what: &'static str,
        /// The most entries.
        max: usize,
    },
    /// `env` is too large.
    #[error("env has more than {MAX_ENV_BYTES} bytes altogether: give larger things as files")]
    EnvBytes,
    /// A variable that no environment can hold: its name as far as it is one.
    #[error(
        "env has a variable `{0}` that no environment can hold: a name has no `=`, and neither name nor value a NUL"
    )]
    EnvName(String),
    /// One of `files` can't be had.
    #[error(transparent)]
    File(#[from] InvalidFile),
    /// `label` is too long or has control characters.
    #[error("label must be one line of at most 256 bytes")]
    Label,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_has_bounds() {
        let with = |bytes: usize| {
            let env = BTreeMap::from([("A".to_owned(), "x".repeat(bytes))]);
            VmSpec { env, ..VmSpec::default() }.validate()
        };
        assert_eq!((with(MAX_ENV_BYTES - 3), with(MAX_ENV_BYTES - 2)), (Ok(()), Err(InvalidSpec::EnvBytes)));
    }

    #[test]
    fn a_variable_is_refused_without_its_value() {
        for (name, value) in [("TOKEN=hunter2", ""), ("TOKEN\0hunter2", ""), ("TOKEN", "hunter2\0")] {
            let env = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let refused = VmSpec { env, ..VmSpec::default() }.validate().unwrap_err();
            assert_eq!(refused, InvalidSpec::EnvName("TOKEN".to_owned()));
        }
    }
}
