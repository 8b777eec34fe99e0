//! Files that a VM is given.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A file that is in the guest before anything else is done there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmFile {
    /// Its absolute path. Folders that are missing are made.
    pub path: String,
    /// What it holds.
    pub content: FileContent,
    /// Its permissions; none is 0644.
    pub mode: Option<u32>,
    /// Its user by name or number; none is root.
    pub owner: Option<String>,
}

/// What a file holds, which may be a secret: it is never printed. Clones are the same.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent(Arc<[u8]>);

/// A file that no VM can be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFile {
    /// Not absolute, without a name at its end, too long, or with a NUL.
    #[error("files has `{0}`, which is no path of a file: that begins with / and ends with a name")]
    Path(String),
    /// Too long, or with a NUL.
    #[error("files has an owner for `{0}` that is no user's name or number")]
    Owner(String),
    /// Two of one path.
    #[error("files has `{0}` twice")]
    Twice(String),
    /// Bits that are no permissions.
    #[error("files has a mode for `{0}` that is none: 0 to 7777 in octal digits")]
    Mode(String),
    /// One is too large.
    #[error("files has {bytes} bytes for `{path}`: at most {max}, copy larger ones in", max = VmFile::MAX_BYTES)]
    TooLarge {
        /// Which.
        path: String,
        /// Its size.
        bytes: usize,
    },
    /// All together are.
    #[error("files has more than {max} bytes altogether: copy larger ones in", max = VmFile::MAX_ALL_BYTES)]
    TooMuch,
}

impl VmFile {
    /// Most bytes of one.
    pub const MAX_BYTES: usize = 256 << 10;
    /// Most bytes of all of a VM.
    pub const MAX_ALL_BYTES: usize = 1 << 20;
    /// Most of them for a VM.
    pub const MAX: usize = 64;
    /// `PATH_MAX` of Linux without the NUL at its end.
    const MAX_PATH: usize = 4095;
    /// `LOGIN_NAME_MAX` of Linux without the NUL at its end.
    const MAX_OWNER: usize = 255;

    /// Checks what can be checked without a guest, for all of a VM.
    pub(super) fn validate(files: &[Self]) -> Result<(), InvalidFile> {
        let mut all = 0;
        for (index, file) in files.iter().enumerate() {
            let path = &file.path;
            let name = path.rsplit('/').next().unwrap_or_default();
            let is_file = path.starts_with('/') && !path.contains('\0') && !matches!(name, "" | "." | "..");
            if !is_file || path.len() > Self::MAX_PATH {
                return Err(InvalidFile::Path(path.chars().take(100).collect()));
            }
            if file.owner.as_ref().is_some_and(|owner| owner.contains('\0') || owner.len() > Self::MAX_OWNER) {
                return Err(InvalidFile::Owner(path.clone()));
            }
            if files.iter().take(index).any(|other| other.path == *path) {
                return Err(InvalidFile::Twice(path.clone()));
            }
            if file.mode.is_some_and(|mode| mode > 0o7777) {
                return Err(InvalidFile::Mode(path.clone()));
            }
            let bytes = file.content.bytes().len();
            if bytes > Self::MAX_BYTES {
                return Err(InvalidFile::TooLarge { path: path.clone(), bytes });
            }
            all += bytes;
        }
        if all > Self::MAX_ALL_BYTES { Err(InvalidFile::TooMuch) } else { Ok(()) }
    }
}

impl FileContent {
    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for FileContent {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for FileContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileContent({} bytes)", self.0.len())
    }
}

impl Serialize for FileContent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for FileContent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self::from).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: usize) -> VmFile {
        VmFile { path: path.to_owned(), content: vec![b'x'; bytes].into(), mode: None, owner: None }
    }

    #[test]
    fn what_no_guest_can_have_is_refused() {
        let few = [file("/etc/motd", 0), file("/srv/a", VmFile::MAX_BYTES)];
        assert_eq!(VmFile::validate(&few), Ok(()));
        for path in ["", "etc/motd", "/", "/etc/", "/etc/..", "/etc/.", "/a\0b", &format!("/{}", "a".repeat(4095))] {
            assert!(matches!(VmFile::validate(&[file(path, 0)]), Err(InvalidFile::Path(_))), "{path}");
        }
        assert!(matches!(VmFile::validate(&[few[0].clone(), few[0].clone()]), Err(InvalidFile::Twice(_))));
        for owner in ["web\0".to_owned(), "w".repeat(256)] {
            let owned = VmFile { owner: Some(owner), ..file("/a", 0) };
            assert!(matches!(VmFile::validate(&[owned]), Err(InvalidFile::Owner(_))));
        }
        let mode = VmFile { mode: Some(0o10000), ..file("/a", 0) };
        assert!(matches!(VmFile::validate(&[mode]), Err(InvalidFile::Mode(_))));
        assert!(matches!(VmFile::validate(&[file("/a", VmFile::MAX_BYTES + 1)]), Err(InvalidFile::TooLarge { .. })));
        let many: Vec<_> = (0..5).map(|number| file(&format!("/{number}"), VmFile::MAX_BYTES)).collect();
        assert_eq!(VmFile::validate(&many), Err(InvalidFile::TooMuch));
    }

    #[test]
    fn content_is_kept_and_not_printed() {
        let file = VmFile { content: b"hunter2\xff".to_vec().into(), ..file("/a", 0) };
        assert!(!format!("{file:?}").contains("hunter2") && !format!("{file:?}").contains("104"));
        let text = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<VmFile>(&text).unwrap(), file);
    }
}
