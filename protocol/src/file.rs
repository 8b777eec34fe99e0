//! Files of the guest, in frames.

use serde::{Deserialize, Serialize};

use crate::Blob;

/// What to read. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// Which file. Links are followed.
    pub path: String,
    /// Where to begin, in bytes.
    #[serde(default)]
    pub offset: u64,
}

/// Outcome of [`Call::ReadFile`](crate::Call::ReadFile).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileContent {
    /// At most [`MAX_FILE_BYTES`](crate::MAX_FILE_BYTES) of it.
    pub data: Blob,
    /// Size of the whole file, in bytes; 0 for some that the kernel makes up.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
    /// Whether there is more behind that.
    pub more: bool,
}

/// What to write, whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteFile {
    /// Which file. A link at the end is replaced.
    pub path: String,
    /// Its content, at most [`MAX_FILE_BYTES`](crate::MAX_FILE_BYTES).
    pub data: Blob,
    /// Its permissions; those of the file that is there when there are none, or 644.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Name or number of its user; that of the file that is there when there is none, or root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Add it to the end of what is there, which is not whole or not at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub append: bool,
    /// Make the folders that are missing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub folders: bool,
}

/// Permissions as chmod takes them, up to four octal digits; none for anything else.
#[must_use]
pub fn octal_mode(text: &str) -> Option<u32> {
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_up_to_four_octal_digits() {
        assert_eq!(["0", "644", "0600", "7777"].map(octal_mode), [Some(0), Some(0o644), Some(0o600), Some(0o7777)]);
        assert_eq!(["", "rwx", "8", "+644", "-1", "10000", "00644", " 644"].map(octal_mode), [None; 8]);
    }
}
