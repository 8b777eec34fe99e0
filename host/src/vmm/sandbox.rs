use std::path::{Path, PathBuf};

use super::MachinePlan;
use crate::unit::Sandbox;

/// What a VMM may see: its programs and what it reads, its runtime folder, its disk and the devices it needs.
pub(super) fn new<'a>(
    plan: &'a MachinePlan,
    programs: impl IntoIterator<Item = &'a Path>,
    read_only: impl IntoIterator<Item = &'a Path>,
    devices: impl IntoIterator<Item = &'static str>,
) -> Sandbox {
    // `/usr` is in every sandbox.
    let programs = programs.into_iter().filter(|program| !program.starts_with("/usr"));
    Sandbox {
        read_only: programs.chain(read_only).map(Path::to_owned).collect(),
        read_write: [Some(&plan.runtime_dir), plan.disk.as_ref()].into_iter().flatten().cloned().collect(),
        devices: devices.into_iter().map(PathBuf::from).collect(),
    }
}
