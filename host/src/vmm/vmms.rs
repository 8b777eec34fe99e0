use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use nexus_model::{
    Requirement, kvm as device,
    vm::{VmmChoice, VmmKind},
};

use super::{HostCheck, VmmDriver, VmmError, firecracker::Firecracker, kvm::Kvm, process::Process, qemu::Qemu};

/// Which VMMs to look for, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmmConfig {
    /// Firecracker's binary; none is `firecracker` on `PATH`.
    pub firecracker: Option<PathBuf>,
    /// QEMU's binary; none is `qemu-system-x86_64` on `PATH`.
    pub qemu: Option<PathBuf>,
    /// The vsock sidecar's binary; none is `vhost-device-vsock` on `PATH`.
    pub vhost_device_vsock: Option<PathBuf>,
    /// Whether the `process` driver, which isolates nothing, may be used.
    pub allow_process: bool,
}

/// Why a driver is not to be had.
#[derive(Clone, Debug)]
pub(super) enum Missing {
    /// The machine lacks something; in words, with what to do about it.
    Requirement(String),
    /// The configuration forbids it.
    Permission,
}

impl Missing {
    fn into_error(self, kind: VmmKind) -> VmmError {
        match self {
            Self::Requirement(reason) => VmmError::Unavailable { kind, reason },
            Self::Permission => VmmError::NotAllowed { kind },
        }
    }
}

/// What a look at the machine for one VMM gave.
pub(super) struct Detection {
    pub(super) kind: VmmKind,
    pub(super) driver: Result<Arc<dyn VmmDriver>, Missing>,
    /// Whether `auto` may take it.
    pub(super) automatic: bool,
    pub(super) checks: Vec<HostCheck>,
}

/// The VMMs of this machine.
pub struct Vmms {
    /// In the order in which `auto` prefers them.
    detections: Vec<Detection>,
    checks: Vec<HostCheck>,
}

impl Vmms {
    /// Looks at this machine. Blocks for some 10 ms.
    #[must_use]
    pub fn detect(config: &VmmConfig) -> Self {
        let kvm = Kvm::detect();
        let checks = vec![check_kvm(&kvm), check_user_namespaces()];
        let detections = vec![Firecracker::detect(config, &kvm), Qemu::detect(config, &kvm), Process::detect(config)];
        Self { detections, checks }
    }

    /// The VMMs that can be asked for, the one that `auto` prefers first.
    #[must_use]
    pub fn available(&self) -> Vec<VmmKind> {
        let usable = |automatic: bool| {
            self.detections
                .iter()
                .filter(move |detection| detection.driver.is_ok() && detection.automatic == automatic)
                .map(|detection| detection.kind)
        };
        usable(true).chain(usable(false)).collect()
    }

    /// The driver for what somebody asked for.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn choose(&self, choice: VmmChoice) -> Result<Arc<dyn VmmDriver>, VmmError> {
        match choice {
            VmmChoice::Firecracker => self.driver(VmmKind::Firecracker),
            VmmChoice::Qemu => self.driver(VmmKind::Qemu),
            VmmChoice::Process => self.driver(VmmKind::Process),
            VmmChoice::Auto => self
                .detections
                .iter()
                .filter(|detection| detection.automatic)
                .find_map(|detection| detection.driver.as_ref().ok().cloned())
                .ok_or_else(|| VmmError::NoVmm { reasons: self.reasons() }),
        }
    }

    /// The driver of one kind, for a machine that was started with it.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn driver(&self, kind: VmmKind) -> Result<Arc<dyn VmmDriver>, VmmError> {
        match self.detections.iter().find(|detection| detection.kind == kind) {
            Some(Detection { driver: Ok(driver), .. }) => Ok(Arc::clone(driver)),
            Some(Detection { driver: Err(missing), .. }) => Err(missing.clone().into_error(kind)),
            None => Err(VmmError::Unavailable { kind, reason: "this Nexus has no driver for it".to_owned() }),
        }
    }

    /// What was looked for on this machine, and found or not.
    #[must_use]
    pub fn checks(&self) -> Vec<HostCheck> {
        self.checks.iter().chain(self.detections.iter().flat_map(|detection| &detection.checks)).cloned().collect()
    }

    fn reasons(&self) -> String {
        let reason = |detection: &Detection| {
            let Err(missing @ Missing::Requirement(_)) = &detection.driver else { return None };
            Some(missing.clone().into_error(detection.kind).to_string())
        };
        self.detections.iter().filter_map(reason).collect::<Vec<_>>().join("; ")
    }
}

/// The binary that the configuration names, or the one on `PATH`; where it lies behind all links, since that is how it
/// can be had in a sandbox.
pub(super) fn find_program(configured: Option<&Path>, wanted: &Requirement) -> Result<PathBuf, String> {
    let found = match configured {
        Some(path) => which::which(path).map_err(|error| format!("{} cannot be run: {error}", path.display()))?,
        None => which::which(wanted.program).map_err(|_| wanted.not_on_path())?,
    };
    found.canonicalize().map_err(|error| format!("{} cannot be found: {error}", found.display()))
}

fn check_kvm(kvm: &Kvm) -> HostCheck {
    match kvm {
        Kvm::Hardware => HostCheck::found(device::NAME, "/dev/kvm opens, and the CPU has hardware virtualization"),
        Kvm::Emulated => HostCheck::missing(
            device::NAME,
            "/dev/kvm opens, but the CPU shows no hardware virtualization (vmx or svm), and VMs run in plain emulation: \
             switch it on in the firmware, or where this machine is a VM itself, in its host",
        ),
        Kvm::Absent { reason } => HostCheck::missing(device::NAME, device::missing(reason)),
    }
}

/// VMMs are confined in namespaces of their own, which an ordinary user can only make inside a user namespace.
fn check_user_namespaces() -> HostCheck {
    const NAME: &str = "user-namespaces";
    let limit = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    if limit("/proc/sys/user/max_user_namespaces").unwrap_or(0) == 0 {
        return HostCheck::missing(NAME, "the kernel allows none: set the sysctl user.max_user_namespaces");
    }
    // Debian's and Ubuntu's own switches; other kernels have neither.
    if limit("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return HostCheck::missing(
            NAME,
            "only root may make them: set the sysctl kernel.unprivileged_userns_clone to 1",
        );
    }
    if limit("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return HostCheck::missing(
            NAME,
            "AppArmor restricts them: set the sysctl kernel.apparmor_restrict_unprivileged_userns to 0",
        );
    }
    HostCheck::found(NAME, "allowed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(kind: VmmKind, automatic: bool, driver: Result<Arc<dyn VmmDriver>, Missing>) -> Detection {
        Detection { kind, driver, automatic, checks: Vec::new() }
    }

    fn vmms(firecracker: Detection, process: bool) -> Vmms {
        let qemu = detection(VmmKind::Qemu, true, Err(Missing::Requirement("`qemu` is not on PATH".to_owned())));
        let config = VmmConfig { allow_process: process, ..VmmConfig::default() };
        Vmms { detections: vec![firecracker, qemu, Process::detect(&config)], checks: Vec::new() }
    }

    fn nothing(kind: VmmKind) -> Detection {
        detection(kind, true, Err(Missing::Requirement("there is none".to_owned())))
    }

    #[test]
    fn what_isolates_nothing_is_asked_for_by_name_or_not_had() {
        let vmms = |allowed| vmms(nothing(VmmKind::Firecracker), allowed);
        assert_eq!(vmms(true).available(), [VmmKind::Process]);
        assert_eq!(vmms(true).choose(VmmChoice::Process).unwrap().kind(), VmmKind::Process);
        assert!(matches!(vmms(true).choose(VmmChoice::Auto), Err(VmmError::NoVmm { .. })));
        assert!(vmms(false).available().is_empty());
        assert!(matches!(vmms(false).choose(VmmChoice::Process), Err(VmmError::NotAllowed { .. })));
    }

    #[test]
    fn a_vmm_that_stock_kernels_hang_in_is_not_taken_by_itself() {
        let driver = || Ok(Arc::new(Process) as Arc<dyn VmmDriver>);
        let emulated = vmms(detection(VmmKind::Firecracker, false, driver()), false);
        assert!(emulated.choose(VmmChoice::Firecracker).is_ok());
        assert!(matches!(emulated.choose(VmmChoice::Auto), Err(VmmError::NoVmm { .. })));
        let hardware = vmms(detection(VmmKind::Firecracker, true, driver()), false);
        assert!(hardware.choose(VmmChoice::Auto).is_ok());
    }

    #[test]
    fn what_is_missing_is_said() {
        let none = vmms(nothing(VmmKind::Firecracker), false);
        let text = |choice| none.choose(choice).map(|_| ()).unwrap_err().to_string();
        assert_eq!(text(VmmChoice::Qemu), "qemu is not available: `qemu` is not on PATH");
        assert_eq!(
            text(VmmChoice::Auto),
            "no VMM is available on this machine: firecracker is not available: there is none; \
             qemu is not available: `qemu` is not on PATH"
        );
    }

    #[test]
    fn a_program_is_found_behind_its_links() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("vmm");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        let wanted = Requirement { name: "vmm", program: "no-such-vmm", advice: "" };
        assert_eq!(find_program(Some(&link), &wanted).unwrap(), Path::new("/bin/true").canonicalize().unwrap());
        let absent = dir.path().join("absent");
        assert!(find_program(Some(&absent), &wanted).unwrap_err().contains("absent cannot be run"));
        assert_eq!(find_program(None, &wanted).unwrap_err(), "`no-such-vmm` is not on PATH");
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let checks = Vmms::detect(&VmmConfig::default()).checks();
        for name in ["kvm", "user-namespaces", "firecracker", "qemu", "vhost-device-vsock"] {
            let check = checks.iter().find(|check| check.name == name).unwrap();
            assert!(!check.detail.is_empty(), "{name}");
        }
    }
}
