use super::MachinePlan;

/// The root disk is the first virtio block device, of a known kind.
const DISK: &str = "root=/dev/vda rootfstype=ext4 rw";

/// A guest kernel's command line: what every guest of the driver gets, the root disk, the host name for the guest agent,
/// and what the plan asks for.
pub(super) fn kernel_args(driver: &str, plan: &MachinePlan) -> String {
    let mut line = driver.to_owned();
    if plan.disk.is_some() {
        line.push(' ');
        line.push_str(DISK);
    }
    line.push_str(" nexus.hostname=");
    line.push_str(plan.name.as_str());
    let own = plan.kernel_args.trim();
    if !own.is_empty() {
        line.push(' ');
        line.push_str(own);
    }
    line
}
