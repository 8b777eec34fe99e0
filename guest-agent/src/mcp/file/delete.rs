//! `file_delete`.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use rmcp::schemars::JsonSchema;
use rustix::{
    fs::{AtFlags, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{Reply, failed, is_absolute};
use crate::root::{Place, Root};

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
        is_absolute(&path)?;
        let failed = failed("delete", &path);
        let place = root.place(Path::new(&path), false).map_err(&failed)?;
        match unlinkat(&place.folder, &place.name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) if recursive => remove_all(&place).map_err(&failed)?,
            Err(Errno::ISDIR) => return Err(format!("`{path}` is a folder: delete it with recursive")),
            Err(error) => return Err(failed(error.into())),
        }
        Ok(Reply::new(vec![format!("Deleted {path}.")], &Deleted { path }))
    }
}

/// Removes a folder. What takes a folder's place meanwhile is not followed, see [`fs::remove_dir_all`].
fn remove_all(place: &Place) -> io::Result<()> {
    let folder = PathBuf::from(format!("/proc/self/fd/{}", place.folder.as_raw_fd()));
    fs::remove_dir_all(folder.join(&place.name))
}
