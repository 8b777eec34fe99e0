//! `file_write`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nexus_archive::Root;
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Encoding, Reply};
use crate::files::{FileError, Write, write};

/// What to write.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct FileWrite {
    /// Absolute path.
    path: String,
    /// What it is to hold.
    content: String,
    /// How content is written; utf-8 unless given.
    #[serde(default)]
    encoding: Encoding,
    /// Permissions in octal digits, as for chmod; those of the file that is there unless given, or 644.
    #[serde(default)]
    mode: Option<String>,
    /// Add to the end of what is there instead; this is not whole or not at all.
    #[serde(default)]
    append: bool,
    /// Make the folders that are missing.
    #[serde(default)]
    create_folders: bool,
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(in crate::mcp) struct Written {
    /// The path.
    path: String,
    /// How much was written, in bytes.
    bytes: u64,
    /// Whether there was no such file before.
    created: bool,
}

impl FileWrite {
    pub(super) fn run(self, root: &Root) -> Result<Reply, String> {
        let Self { path, content, encoding, mode, append, create_folders } = self;
        let content = match encoding {
            Encoding::Utf8 => content.into_bytes(),
            Encoding::Base64 => {
                STANDARD.decode(content).map_err(|error| format!("the content is no base64: {error}"))?
            }
        };
        let mode = mode.as_deref().map(permissions).transpose()?;
        let how = Write { mode, owner: None, append, folders: create_folders };
        let created = write(root, &path, &content, how).map_err(|error| match error {
            FileError::Special(_) => format!("{error}: use run_command"),
            other => other.to_string(),
        })?;
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let text = format!("Wrote {bytes} bytes to {path}.");
        Ok(Reply::new(vec![text], &Written { path, bytes, created }))
    }
}

fn permissions(text: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or_else(|| format!("`{text}` is no mode: give up to four octal digits"))
}
