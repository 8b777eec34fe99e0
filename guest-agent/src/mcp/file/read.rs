//! `file_read`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Encoding, Reply};
use crate::files::{FileError, Part, read};
use nexus_archive::Root;

/// Most that is read at a time, in bytes: as JSON, and twice, it is less than
/// [`MAX_TOOLS_LINE_BYTES`](nexus_protocol::MAX_TOOLS_LINE_BYTES) whatever it holds.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is read unless something is asked for, in bytes.
const USUAL_BYTES: u64 = 256 * 1024;

/// Longest character but its last byte.
const MAX_BEGUN_BYTES: usize = 3;

/// What to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct FileRead {
    /// Absolute path.
    path: String,
    /// Where to begin, in bytes.
    #[serde(default)]
    offset: u64,
    /// How much to read at most, in bytes: 1 to 1048576, 262144 unless given.
    #[serde(default)]
    limit: Option<u64>,
    /// utf-8 unless given; base64 takes any bytes.
    #[serde(default)]
    encoding: Encoding,
}

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(in crate::mcp) struct FileContent {
    /// The content of that part.
    content: String,
    /// How content is written.
    encoding: Encoding,
    /// Where it begins, in bytes.
    offset: u64,
    /// How much of the file it is, in bytes.
    bytes: u64,
    /// Size of the file, in bytes; 0 for some that the kernel makes up.
    size: u64,
    /// Where to go on, or null at the end of the file.
    next_offset: Option<u64>,
}

impl FileRead {
    pub(super) fn run(self, root: &Root) -> Result<Reply, String> {
        let Self { path, offset, limit, encoding } = self;
        let limit = limit.unwrap_or(USUAL_BYTES).clamp(1, MAX_BYTES);
        let Part { mut bytes, size, is_more, .. } = read(root, &path, offset, limit).map_err(|error| match error {
            FileError::Folder(_) => format!("{error}: list it with run_command"),
            FileError::Special(_) => format!("{error}: see it with run_command"),
            other => other.to_string(),
        })?;
        let content = match encoding {
            Encoding::Base64 => STANDARD.encode(&bytes),
            Encoding::Utf8 => {
                if is_more
                    && let Err(error) = str::from_utf8(&bytes)
                    && error.error_len().is_none()
                    && error.valid_up_to() > 0
                    && bytes.len() - error.valid_up_to() <= MAX_BEGUN_BYTES
                {
                    bytes.truncate(error.valid_up_to());
                }
                String::from_utf8(bytes.clone())
                    .map_err(|_| format!("that part of `{path}` is not UTF-8: read it with the encoding base64"))?
            }
        };
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let next_offset = is_more.then(|| offset.saturating_add(count));
        let mut texts = vec![content.clone()];
        if let Some(next) = next_offset {
            texts.push(format!("[there is more: go on at offset {next}]"));
        }
        Ok(Reply::new(texts, &FileContent { content, encoding, offset, bytes: count, size, next_offset }))
    }
}
