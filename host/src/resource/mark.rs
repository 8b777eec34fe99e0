//! Which Nexus uses a folder: a file in it for each, `.instance-<id>-<state folder>`.
//!
//! What lies in Nexus' folders mostly has no instance in its name. Two daemons whose state folders differ can still share
//! the others, and then neither can tell what the other one's is: with two marks, nothing there is surely anybody's. A copy
//! of a state folder has the instance of the original; which of them it is is told by the file system that the folder lies
//! on and its inode, which no copy has, and which a reboot and another name leave as they are.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nexus_model::InstanceId;
use rustix::fs::{statfs, statvfs};

use super::ResourceError;

const PREFIX: &str = ".instance-";
/// File systems whose id is the number of their device, which is another one after the next boot: `xfs_fs_statfs` and
/// `f2fs_statfs` of the kernel.
const NUMBERED: [u64; 2] = [0x5846_5342, 0xf2f5_2010];

/// The mark of one Nexus.
#[derive(Debug)]
pub(super) struct Mark {
    name: String,
    state: PathBuf,
}

impl Mark {
    /// That of an instance whose state folder is `state`.
    pub(super) fn of(instance: InstanceId, state: &Path) -> Result<Self, ResourceError> {
        let look = || {
            let system = statfs(state)?;
            let is_numbered = NUMBERED.iter().any(|kind| u64::try_from(system.f_type) == Ok(*kind));
            let system = if is_numbered { 0 } else { statvfs(state)?.f_fsid };
            Ok((system, fs::metadata(state)?.ino()))
        };
        let (system, inode) = look().map_err(ResourceError::io("look at", state))?;
        Ok(Self { name: format!("{PREFIX}{instance}-{system:x}-{inode:x}"), state: state.to_owned() })
    }

    /// Marks a folder, which is made if it is not there. What the mark holds is for people.
    pub(super) fn set(&self, folder: &Path) -> Result<(), ResourceError> {
        make(folder)?;
        let path = folder.join(&self.name);
        let state = [self.state.as_os_str().as_bytes(), b"\n"].concat();
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        match made.and_then(|mut mark| mark.write_all(&state)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(ResourceError::io("create the file", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Why what lies in a folder might not be this Nexus'; none when it alone uses that.
    pub(super) fn doubt(&self, folder: &Path) -> Result<Option<String>, ResourceError> {
        let unmarked = || format!("{} does not say that this Nexus uses it", folder.display());
        let names = names(folder)?;
        Ok(self.other(folder, &names).or_else(|| (!names.contains(&self.name)).then(unmarked)))
    }

    /// Why what lies in a folder might be another Nexus'; none when no other one uses it.
    pub(super) fn shared(&self, folder: &Path) -> Result<Option<String>, ResourceError> {
        Ok(self.other(folder, &names(folder)?))
    }

    fn other(&self, folder: &Path, names: &[String]) -> Option<String> {
        let other = folder.join(names.iter().find(|name| **name != self.name)?);
        Some(format!("another Nexus uses its folder, too (if that one is no more, remove {})", other.display()))
    }
}

/// Makes a folder for this user alone, if it is not there.
pub(super) fn make(folder: &Path) -> Result<(), ResourceError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(ResourceError::io("create the folder", folder))
}

/// Whether a file of that name is a mark.
pub(super) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The marks in a folder. One that is not there is nobody's.
fn names(folder: &Path) -> Result<Vec<String>, ResourceError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ResourceError::io("read the folder", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(ResourceError::io("read the folder", folder))?.file_name();
        found.extend(name.into_string().ok().filter(|name| is_one(name)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_s_own_until_another_one_uses_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("shared");
        let [state, copy] = ["state", "copy"].map(|name| root.path().join(name));
        for folder in [&state, &copy] {
            make(folder).unwrap();
        }
        let (instance, other) = (InstanceId::random().unwrap(), InstanceId::random().unwrap());
        let mine = Mark::of(instance, &state).unwrap();
        // Another store in its place, and a copy of the one there is.
        for theirs in [Mark::of(other, &state).unwrap(), Mark::of(instance, &copy).unwrap()] {
            assert!(mine.doubt(&folder).unwrap().expect("nobody's").contains("does not say"));
            mine.set(&folder).unwrap();
            mine.set(&folder).unwrap();
            assert_eq!(mine.doubt(&folder).unwrap(), None);
            // Before it has said so itself.
            assert!(theirs.doubt(&folder).unwrap().expect("shared").contains("another Nexus"));
            theirs.set(&folder).unwrap();
            for mark in [&mine, &theirs] {
                assert!(mark.doubt(&folder).unwrap().expect("shared").contains("another Nexus"));
            }
            fs::remove_dir_all(&folder).unwrap();
        }
    }

    #[test]
    fn a_state_folder_is_the_same_under_another_name() {
        let root = tempfile::tempdir().unwrap();
        let [state, moved] = ["state", "moved"].map(|name| root.path().join(name));
        make(&state).unwrap();
        let instance = InstanceId::random().unwrap();
        let before = Mark::of(instance, &state).unwrap();
        fs::rename(&state, &moved).unwrap();
        assert_eq!(Mark::of(instance, &moved).unwrap().name, before.name);
        Mark::of(instance, &state).unwrap_err();
    }
}
