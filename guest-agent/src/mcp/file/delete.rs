//! `file_delete`.

use nexus_archive::Root;
use nexus_mcp::{Deleted, FileDelete, Reply};

use crate::files::{FileError, delete};

pub(super) fn run(arguments: FileDelete, root: &Root) -> Result<Reply, String> {
    let FileDelete { path, recursive } = arguments;
    delete(root, &path, recursive).map_err(|error| match error {
        FileError::Folder(_) => format!("{error}: delete it with recursive"),
        other => other.to_string(),
    })?;
    Ok(Reply::new(vec![format!("Deleted {path}.")], &Deleted { path }))
}
