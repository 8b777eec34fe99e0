use std::{fs, path::Path};

use nexus_model::kvm;

/// What `/dev/kvm` is worth on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kvm {
    /// It runs guests on hardware virtualization.
    Hardware,
    /// It opens, but the CPU shows neither VMX nor SVM: whatever stands behind it emulates, and stock kernels hang in it.
    Emulated,
    /// It can't be used.
    Absent {
        /// Why.
        reason: String,
    },
}

impl Kvm {
    pub(super) fn detect() -> Self {
        if let Err(error) = fs::OpenOptions::new().read(true).write(true).open(kvm::DEVICE) {
            return Self::Absent { reason: kvm::reason(&error) };
        }
        if has_hardware_virtualization(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()) {
            Self::Hardware
        } else {
            Self::Emulated
        }
    }
}

/// Whether a CPU flag says so: `vmx` (Intel) or `svm` (AMD) in `/proc/cpuinfo`. Other architectures' KVM has no flag.
pub(super) fn has_hardware_virtualization(cpuinfo: &str) -> bool {
    !cfg!(target_arch = "x86_64")
        || cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.trim() == "flags")
            .any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

/// Whether a character device can be opened for reading and writing.
pub(super) fn opens(device: impl AsRef<Path>) -> bool {
    fs::OpenOptions::new().read(true).write(true).open(device).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn hardware_virtualization_is_a_flag_and_not_a_part_of_one() {
        assert!(has_hardware_virtualization("processor\t: 0\nflags\t\t: fpu vme vmx sse\n"));
        assert!(has_hardware_virtualization("flags\t\t: fpu svm\n"));
        assert!(!has_hardware_virtualization("flags\t\t: fpu svm_lock\nvmx flags\t: vnmi ept\n"));
        assert!(!has_hardware_virtualization(""));
    }
}
