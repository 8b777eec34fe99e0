//! Mounts below Nexus' folders. Nexus makes none there: what its sandboxes mount is theirs alone.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

use nexus_model::ResourceKind;

use super::{Owner, Place, Resource, ResourceError, Standing};

const TABLE: &str = "/proc/thread-self/mountinfo";

/// Where something is mounted below any of `folders`, which may be mount points themselves.
pub(super) fn list(folders: &[&Path]) -> Result<Vec<Resource>, ResourceError> {
    // The table has real paths.
    let real: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    let below = |point: &PathBuf| real.iter().any(|folder| point.starts_with(folder)) && !real.contains(point);
    let mut points: Vec<PathBuf> = table()?.into_iter().filter(below).collect();
    points.sort();
    points.dedup();
    let resource = |point| Resource {
        kind: ResourceKind::Mount,
        place: Place::Mount(point),
        owner: Owner::Nobody,
        standing: Standing::Doubtful("Nexus mounts nothing there".to_owned()),
    };
    Ok(points.into_iter().map(resource).collect())
}

/// Something that is mounted at a path or below it, if anything is: to remove the folder would remove what that holds.
pub(super) fn within(path: &Path) -> Result<Option<PathBuf>, ResourceError> {
    let real = path.canonicalize().map_err(ResourceError::io("find", path))?;
    Ok(table()?.into_iter().find(|point| point.starts_with(&real)))
}

fn table() -> Result<Vec<PathBuf>, ResourceError> {
    let table = fs::read(TABLE).map_err(ResourceError::io("read", TABLE))?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(mount_point).collect())
}

/// The fifth field of a line, see `proc_pid_mountinfo(5)`; a blank, a tab, a line feed and a backslash are three octal
/// digits after a backslash.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let mut field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        field = rest;
        match (first, rest) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                field = after;
            }
            _ => path.push(*first),
        }
    }
    Some(OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_can_have_any_name() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c\011 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/mnt/a b\\c\t")));
        assert_eq!(mount_point(b""), None);
    }
}
