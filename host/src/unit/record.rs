//! What a keeper leaves on disk for whoever comes next.

use nexus_model::{ExitStatus, Timestamp};
use serde::{Deserialize, Serialize};

use super::ProgramRole;

/// How a unit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The program that ended first.
    pub who: ProgramRole,
    /// How it ended.
    pub status: ExitStatus,
    /// When.
    pub at: Timestamp,
}
