use super::MachinePlan;

/// The root disk is the first virtio block device, of a known kind.
const DISK: &str = "root=/dev/vda rootfstype=ext4 rw";

/// A guest kernel's command line: what every guest of the driver gets, the root disk, and what the plan asks for.
pub(super) fn kernel_args(driver: &str, plan: &MachinePlan) -> String {
    let disk = plan.disk.as_ref().map(|_| DISK);
    let own = Some(plan.kernel_args.trim()).filter(|args| !args.is_empty());
    [Some(driver), disk, own].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
