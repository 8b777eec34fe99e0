//! Network devices that name this Nexus in their `ifalias`, as its links and networks do.

use std::{fs, io, path::Path};

use nexus_model::{InstanceId, ResourceKind};

use super::{Owner, Place, Resource, ResourceError, Standing};

/// Lists them, in a folder like `/sys/class/net`. A system without one has none.
pub(super) fn list(devices: &Path, instance: InstanceId) -> Result<Vec<Resource>, ResourceError> {
    let entries = match fs::read_dir(devices) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ResourceError::io("read the folder", devices))?,
    };
    let mark = format!("nexus-{instance}");
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // One that went meanwhile has none.
        let Ok(alias) = fs::read_to_string(entry.path().join("ifalias")) else { continue };
        let rest = alias.trim_end().strip_prefix(&mark);
        if rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric())) {
            found.push(Resource {
                kind: ResourceKind::Device,
                place: Place::Device(entry.file_name().to_string_lossy().into_owned()),
                owner: Owner::Nobody,
                standing: Standing::Doubtful("nexusd removes no network devices (`ip link delete` does)".to_owned()),
            });
        }
    }
    found.sort_by(|one, other| one.place.cmp(&other.place));
    Ok(found)
}
