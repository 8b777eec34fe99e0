//! `file_write`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nexus_archive::Root;
use nexus_mcp::{Encoding, FileWrite, Reply, Written};
use nexus_protocol::octal_mode;

use crate::files::{FileError, Write, write};

pub(super) fn run(arguments: FileWrite, root: &Root) -> Result<Reply, String> {
    let FileWrite { path, content, encoding, mode, append, create_folders } = arguments;
    let content = match encoding {
        Encoding::Utf8 => content.into_bytes(),
        Encoding::Base64 => STANDARD.decode(content).map_err(|error| format!("the content is no base64: {error}"))?,
    };
    let mode = match mode {
        Some(mode) => {
            Some(octal_mode(&mode).ok_or_else(|| format!("`{mode}` is no mode: give up to four octal digits"))?)
        }
        None => None,
    };
    let how = Write { mode, owner: None, append, folders: create_folders };
    let created = write(root, &path, &content, how).map_err(|error| match error {
        FileError::Special(_) => format!("{error}: use run_command"),
        other => other.to_string(),
    })?;
    let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let text = format!("Wrote {bytes} bytes to {path}.");
    Ok(Reply::new(vec![text], &Written { path, bytes, created }))
}
