//! Nexus' own programs that nexusd starts.

use std::{
    env, io,
    path::{Path, PathBuf},
};

/// What is found beside nexusd, or where `make install` puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Programs {
    /// Holds the processes of a VM.
    pub(crate) shim: PathBuf,
    /// The guest agent, for the `process` driver. It need not be there.
    pub(crate) agent: PathBuf,
    /// The vsock sidecar that came with nexusd. Without one, PATH is for the VMM's driver to search.
    pub(crate) vhost_device_vsock: Option<PathBuf>,
}

/// Why a program is missing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The system does not say where nexusd itself is.
    #[error("cannot find out where nexusd is")]
    Unknown(#[source] io::Error),
    /// It is not there.
    #[error("cannot find `{name}`: it belongs beside nexusd, or into ../libexec/nexus from there (make install)")]
    Missing {
        /// Which.
        name: &'static str,
    },
}

impl Programs {
    /// Looks for them.
    ///
    /// # Errors
    /// When there is no shim.
    pub(crate) fn find() -> Result<Self, ProgramError> {
        let own = env::current_exe().map_err(ProgramError::Unknown)?;
        // A binary that was replaced under its process is shown with this suffix; the new one is beside it.
        let own = own.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(own.clone(), PathBuf::from);
        let folder = own.parent().unwrap_or(Path::new("/"));
        let candidates = [folder.to_owned(), folder.join("../libexec/nexus")];
        let find = |name: &str| candidates.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let shim = find("nexus-shim").ok_or(ProgramError::Missing { name: "nexus-shim" })?;
        Ok(Self {
            shim,
            agent: find("guest-agent").unwrap_or_else(|| folder.join("guest-agent")),
            vhost_device_vsock: find("vhost-device-vsock"),
        })
    }
}
