//! `file_read`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nexus_archive::Root;
use nexus_mcp::{Encoding, FileContent, FileRead, Reply};

use crate::files::{FileError, Part, read};

/// Most that is read at a time, in bytes: as JSON, and twice, it is less than
/// [`MAX_TOOLS_LINE_BYTES`](nexus_protocol::MAX_TOOLS_LINE_BYTES) whatever it holds.
const MAX_BYTES: u64 = 1024 * 1024;

/// What is read unless something is asked for, in bytes.
const USUAL_BYTES: u64 = 256 * 1024;

/// Longest character but its last byte.
const MAX_BEGUN_BYTES: usize = 3;

pub(super) fn run(arguments: FileRead, root: &Root) -> Result<Reply, String> {
    let FileRead { path, offset, limit, encoding } = arguments;
    let limit = limit.unwrap_or(USUAL_BYTES);
    if !(1..=MAX_BYTES).contains(&limit) {
        return Err(format!("limit is 1 to {MAX_BYTES}, not {limit}"));
    }
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
