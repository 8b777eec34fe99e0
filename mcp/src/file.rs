//! What `file_read`, `file_write` and `file_delete` take and answer.

use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a file's bytes are put into a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// As text.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// As base64 with padding (RFC 4648, section 4).
    Base64,
}

/// What to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct FileRead {
    /// Absolute path.
    pub path: String,
    /// Where to begin, in bytes.
    #[serde(default)]
    pub offset: u64,
    /// How much to read at most, in bytes: 1 to 1048576, 262144 unless given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub limit: Option<u64>,
    /// utf-8 unless given; base64 takes any bytes.
    #[serde(default)]
    pub encoding: Encoding,
}

/// What was read.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct FileContent {
    /// The content of that part.
    pub content: String,
    /// How content is written.
    pub encoding: Encoding,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How much of the file it is, in bytes.
    pub bytes: u64,
    /// Size of the file, in bytes; 0 for some that the kernel makes up.
    pub size: u64,
    /// Where to go on, or null at the end of the file.
    pub next_offset: Option<u64>,
}

/// What to write.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct FileWrite {
    /// Absolute path.
    pub path: String,
    /// What it is to hold.
    pub content: String,
    /// How content is written; utf-8 unless given.
    #[serde(default)]
    pub encoding: Encoding,
    /// Permissions in octal digits, as for chmod; those of the file that is there unless given, or 644.
    #[serde(default)]
    pub mode: Option<String>,
    /// Add to the end of what is there instead; this is not whole or not at all.
    #[serde(default)]
    pub append: bool,
    /// Make the folders that are missing.
    #[serde(default)]
    pub create_folders: bool,
}

/// What was written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Written {
    /// The path.
    pub path: String,
    /// How much was written, in bytes.
    pub bytes: u64,
    /// Whether there was no such file before.
    pub created: bool,
}

/// What to delete.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct FileDelete {
    /// Absolute path.
    pub path: String,
    /// Delete a folder, too, with everything in it.
    #[serde(default)]
    pub recursive: bool,
}

/// What was deleted.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct Deleted {
    /// The path.
    pub path: String,
}
