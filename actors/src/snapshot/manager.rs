//! The daemon as the outside sees it.

use std::path::PathBuf;

use nexus_model::{ArtifactName, BackendKind, vm::VmmKind};

/// What holds for the whole daemon. Counts and the root's state are derived from the other objects by whoever shows them.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagerSnapshot {
    /// What can run VMs here, the best first.
    pub vmm_available: Vec<VmmKind>,
    /// Where images and workspaces are.
    pub storage_path: PathBuf,
    /// How they are kept.
    pub storage_backend: BackendKind,
    /// The store's file.
    pub database_path: PathBuf,
    /// The store's schema.
    pub schema_version: u32,
    /// How many tables that has.
    pub table_count: u32,
    /// The kernel taken where none is named.
    pub default_kernel: Option<ArtifactName>,
    /// Whether the daemon is going down.
    pub draining: bool,
}
