//! Names in archives.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::limits::{MAX_DEPTH, MAX_PATH_BYTES};

/// Why a name in an archive leads nowhere below the archive's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntryPath {
    /// It begins with a slash.
    #[error("its name is absolute")]
    Absolute,
    /// It holds `..`.
    #[error("its name goes up with `..`")]
    Upwards,
    /// It holds a zero byte.
    #[error("its name has a zero byte")]
    Zero,
    /// It has more parts than [`MAX_DEPTH`](crate::Limits::MAX_DEPTH).
    #[error("it lies too deep")]
    Deep,
    /// It is longer than any path on Linux.
    #[error("its name is too long")]
    Long,
}

/// A name in an archive as a path below the root: empty for the root itself.
///
/// # Errors
/// When it could lead anywhere else.
pub fn entry_path(name: &[u8]) -> Result<PathBuf, BadEntryPath> {
    if name.len() > MAX_PATH_BYTES {
        return Err(BadEntryPath::Long);
    }
    let mut inner = PathBuf::new();
    let mut depth = 0;
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) if part.as_bytes().contains(&0) => return Err(BadEntryPath::Zero),
            Component::Normal(part) => {
                depth += 1;
                inner.push(part);
            }
            Component::ParentDir => return Err(BadEntryPath::Upwards),
            Component::RootDir | Component::Prefix(_) => return Err(BadEntryPath::Absolute),
        }
    }
    if depth > MAX_DEPTH { Err(BadEntryPath::Deep) } else { Ok(inner) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_leads_below_the_root_or_nowhere() {
        assert_eq!(entry_path(b"./a//b/./c/"), Ok(PathBuf::from("a/b/c")));
        assert_eq!(entry_path(b"./"), Ok(PathBuf::new()));
        assert_eq!(entry_path(b"/a"), Err(BadEntryPath::Absolute));
        assert_eq!(entry_path(b"a/../../b"), Err(BadEntryPath::Upwards));
        assert_eq!(entry_path(b"a\0b"), Err(BadEntryPath::Zero));
        assert_eq!(entry_path("a/".repeat(MAX_DEPTH + 1).as_bytes()), Err(BadEntryPath::Deep));
        assert_eq!(entry_path(&[b'a'; MAX_PATH_BYTES + 1]), Err(BadEntryPath::Long));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_plain_path_or_refused(name: Vec<u8>) {
            if let Ok(path) = entry_path(&name) {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
        }
    }
}
