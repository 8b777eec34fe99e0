//! Workspaces, images and assets as the outside sees them.

use std::path::PathBuf;

use nexus_model::{ArtifactName, AssetKind, BackendKind, ErrorKind, Id, Name, Timestamp, Verification, WorkspaceState};

/// A workspace at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkspaceSnapshot {
    /// Never used twice.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// How it is kept.
    pub backend: BackendKind,
    /// Its folder.
    pub path: PathBuf,
    /// Size of its disk as the guest sees it.
    pub size_bytes: u64,
    /// Whether the guest may write.
    pub read_only: bool,
    /// Whether it is its VM's root disk.
    pub root_device: bool,
    /// The image that it was made from.
    pub base: Option<ArtifactName>,
    /// The VM that has it.
    pub vm: Option<Name>,
    /// Where it is in its life.
    pub state: WorkspaceState,
    /// Why it is failed or missing.
    pub failure: Option<(ErrorKind, String)>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When a VM got it last.
    pub attached_at: Timestamp,
    /// When a VM lost it last.
    pub detached_at: Timestamp,
}

/// A master image at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageSnapshot {
    /// Never used twice.
    pub id: Id,
    /// Its name.
    pub name: ArtifactName,
    /// SHA-256 of its disk, in hexadecimal.
    pub digest: String,
    /// Its folder.
    pub path: PathBuf,
    /// Size of its disk.
    pub size_bytes: u64,
    /// Where it came from.
    pub origin: String,
    /// `NAME` of its os-release.
    pub os_name: String,
    /// `VERSION_ID` of its os-release.
    pub os_version: String,
    /// The workspaces that were made from it.
    pub used_by: Vec<Name>,
    /// When it was imported.
    pub created_at: Timestamp,
}

/// A kernel or an initrd at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetSnapshot {
    /// Never used twice.
    pub id: Id,
    /// What it is for.
    pub kind: AssetKind,
    /// `<kind>-<version>`.
    pub name: ArtifactName,
    /// Its version, as its maker writes it.
    pub version: String,
    /// The processor that it is for, as `uname -m` prints it.
    pub architecture: String,
    /// SHA-256, in hexadecimal.
    pub digest: String,
    /// Where it came from.
    pub source: String,
    /// Where it is.
    pub path: PathBuf,
    /// How it was checked.
    pub verification: Verification,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it is taken where none is named.
    pub default: bool,
    /// The VMs that name it, get it with the kernel that they name, or run with it.
    pub used_by: Vec<Name>,
    /// When it was imported.
    pub created_at: Timestamp,
}
