//! `file_delete`.

use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reply;
use crate::files::{FileError, delete};
use nexus_archive::Root;

/// What to delete.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub(in crate::mcp) struct FileDelete {
    /// Absolute path.
    path: String,
    /// Delete a folder, too, with everything in it.
    #[serde(default)]
    recursive: bool,
}

/// What was deleted.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(in crate::mcp) struct Deleted {
    /// The path.
    path: String,
}

impl FileDelete {
    pub(super) fn run(self, root: &Root) -> Result<Reply, String> {
        let Self { path, recursive } = self;
        delete(root, &path, recursive).map_err(|error| match error {
            FileError::Folder(_) => format!("{error}: delete it with recursive"),
            other => other.to_string(),
        })?;
        Ok(Reply::new(vec![format!("Deleted {path}.")], &Deleted { path }))
    }
}
