//! Where Nexus keeps things, by the XDG Base Directory Specification.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::getuid;

/// The longest runtime folder, in bytes: below it come `nexus/vm/<16 digits>/vmm/<socket>`, and a Unix socket's path
/// ends at 107 bytes (`unix(7)`).
const MAX_RUNTIME: usize = 60;

/// The folders of one Nexus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct XdgFolders {
    /// The configuration file, if there is one.
    pub(crate) config_file: PathBuf,
    /// The store, and consoles.
    pub(crate) state: PathBuf,
    /// Images, assets and workspaces.
    pub(crate) data: PathBuf,
    /// Sockets.
    pub(crate) runtime: PathBuf,
    /// The user's home, if the environment says where that is.
    pub(crate) home: Option<PathBuf>,
}

/// Why there is no place for Nexus.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// `HOME` is not set.
    #[error("HOME is not set, so there is no place for Nexus' things: set it, or the XDG_*_HOME variables")]
    NoHome,
    /// The runtime folder's path is too long for sockets.
    #[error(
        "the path of {} is too long for sockets: set XDG_RUNTIME_DIR to a folder of at most {MAX_RUNTIME} characters",
        .0.display()
    )]
    RuntimeTooLong(PathBuf),
    /// The fallback for the runtime folder belongs to somebody else.
    #[error("{} belongs to somebody else: set XDG_RUNTIME_DIR to a folder of your own", .0.display())]
    NotOurs(PathBuf),
    /// A folder can't be made.
    #[error("cannot make the folder {}", path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl XdgFolders {
    /// Reads the environment. Makes nothing.
    ///
    /// # Errors
    /// When a folder has no place, or the one for sockets a path that is too long.
    pub(crate) fn from_environment() -> Result<Self, FolderError> {
        let home = absolute("HOME");
        let under = |variable: &str, default: &str| {
            absolute(variable)
                .or_else(|| home.as_ref().map(|home| home.join(default)))
                .map(|folder| folder.join("nexus"))
                .ok_or(FolderError::NoHome)
        };
        let base = absolute("XDG_RUNTIME_DIR").unwrap_or_else(fallback_runtime);
        if base.as_os_str().len() > MAX_RUNTIME {
            return Err(FolderError::RuntimeTooLong(base));
        }
        Ok(Self {
            config_file: under("XDG_CONFIG_HOME", ".config")?.join("nexus.yaml"),
            state: under("XDG_STATE_HOME", ".local/state")?,
            data: under("XDG_DATA_HOME", ".local/share")?,
            runtime: base.join("nexus"),
            home,
        })
    }

    /// Makes what is not there, for this user alone.
    ///
    /// # Errors
    /// When one can't be made, or is not this user's.
    pub(crate) fn make(&self) -> Result<(), FolderError> {
        if let Some(base) = self.runtime.parent().filter(|base| *base == fallback_runtime()) {
            make(base)?;
            let metadata =
                fs::symlink_metadata(base).map_err(|source| FolderError::Make { path: base.to_owned(), source })?;
            if !metadata.is_dir() || metadata.uid() != getuid().as_raw() || metadata.permissions().mode() & 0o077 != 0 {
                return Err(FolderError::NotOurs(base.to_owned()));
            }
        }
        [&self.state, &self.data, &self.runtime].into_iter().try_for_each(|folder| make(folder))
    }
}

/// Without a login session there is no XDG_RUNTIME_DIR.
fn fallback_runtime() -> PathBuf {
    env::temp_dir().join(format!("nexus-{}", getuid()))
}

/// The specification wants relative paths ignored.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

fn make(folder: &Path) -> Result<(), FolderError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).map_err(|source| FolderError::Make { path: folder.to_owned(), source })
}
