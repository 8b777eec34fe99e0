//! Which Nexus uses a folder: a file in it for each, `.instance-<id>`.
//!
//! What lies in Nexus' folders mostly has no instance in its name. Two daemons whose state folders differ can still share
//! the others, and then neither can tell what the other one's is: with two marks, nothing there is surely anybody's.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use nexus_model::InstanceId;

use super::ResourceError;

const PREFIX: &str = ".instance-";

/// Marks a folder, which is made if it is not there, as used by an instance.
pub(super) fn set(folder: &Path, instance: InstanceId) -> Result<(), ResourceError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(ResourceError::io("create the folder", folder))?;
    let path = folder.join(format!("{PREFIX}{instance}"));
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(ResourceError::io("create the file", path)(error))
        }
        _ => Ok(()),
    }
}

/// Whether a file of that name is a mark.
pub(super) fn is_one(name: &str) -> bool {
    instance(name).is_some()
}

/// Why what lies in a folder might not be this instance's; none when this instance alone uses it.
pub(super) fn doubt(folder: &Path, ours: InstanceId) -> Result<Option<String>, ResourceError> {
    let unmarked = || format!("{} does not say that this Nexus uses it", folder.display());
    let instances = instances(folder)?;
    Ok(other(folder, &instances, ours).or_else(|| (!instances.contains(&ours)).then(unmarked)))
}

/// Why what lies in a folder might be another instance's; none when no other one uses it.
pub(super) fn shared(folder: &Path, ours: InstanceId) -> Result<Option<String>, ResourceError> {
    Ok(other(folder, &instances(folder)?, ours))
}

fn other(folder: &Path, instances: &[InstanceId], ours: InstanceId) -> Option<String> {
    let other = instances.iter().find(|instance| **instance != ours)?;
    let path = folder.join(format!("{PREFIX}{other}"));
    Some(format!("another Nexus uses its folder, too (if that one is no more, remove {})", path.display()))
}

/// Those who use a folder. One that is not there is nobody's.
fn instances(folder: &Path) -> Result<Vec<InstanceId>, ResourceError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ResourceError::io("read the folder", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(ResourceError::io("read the folder", folder))?.file_name();
        found.extend(name.to_str().and_then(instance));
    }
    Ok(found)
}

fn instance(name: &str) -> Option<InstanceId> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_s_own_until_another_one_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, theirs) = (InstanceId::random().unwrap(), InstanceId::random().unwrap());
        assert!(doubt(folder.path(), mine).unwrap().expect("nobody's").contains("does not say"));
        set(folder.path(), mine).unwrap();
        set(folder.path(), mine).unwrap();
        assert_eq!(doubt(folder.path(), mine).unwrap(), None);
        set(folder.path(), theirs).unwrap();
        for instance in [mine, theirs] {
            assert!(doubt(folder.path(), instance).unwrap().expect("shared").contains("another Nexus"));
        }
    }
}
