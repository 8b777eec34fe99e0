//! Long operations as the outside sees them.

use std::collections::BTreeMap;

use nexus_model::{ArtifactName, ErrorKind, JobKind, JobState, Name, Timestamp};

use crate::Pruned;

/// Number of a job, never used twice.
pub type JobId = u32;

/// An object by its kind and name; the D-Bus crate makes a path of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectRef {
    /// `vm/<name>`
    Vm(Name),
    /// `workspace/<name>`
    Workspace(Name),
    /// `image/<name>`
    Image(ArtifactName),
    /// `asset/<name>`
    Asset(ArtifactName),
}

impl ObjectRef {
    /// What it is called in a sentence.
    pub(crate) fn noun_and_name(&self) -> (&'static str, &str) {
        match self {
            Self::Vm(name) => ("VM", name.as_str()),
            Self::Workspace(name) => ("workspace", name.as_str()),
            Self::Image(name) => ("image", name.as_str()),
            Self::Asset(name) => ("asset", name.as_str()),
        }
    }
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vm(name) => write!(f, "vm/{name}"),
            Self::Workspace(name) => write!(f, "workspace/{name}"),
            Self::Image(name) => write!(f, "image/{name}"),
            Self::Asset(name) => write!(f, "asset/{name}"),
        }
    }
}

/// A value in a job's result.
#[derive(Clone, Debug, PartialEq)]
pub enum ResultValue {
    /// An object.
    Object(ObjectRef),
    /// Text.
    Text(String),
    /// A number; its key names the unit.
    Number(u64),
    /// A truth value.
    Flag(bool),
    /// Orphans that were removed, or would be.
    Orphans(Vec<Pruned>),
}

/// A job at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSnapshot {
    /// Its number.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// What it does it to.
    pub objects: Vec<ObjectRef>,
    /// Where it is in its life.
    pub state: JobState,
    /// What it is doing now, as one word.
    pub stage: String,
    /// Share done, 0 to 1; none when unknown.
    pub progress: Option<f64>,
    /// Bytes done, 0 when bytes are not what it counts.
    pub completed_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Whether it can be cancelled.
    pub cancellable: bool,
    /// Whether it ends when its caller leaves the bus.
    pub bound: bool,
    /// Who asked for it.
    pub sender: String,
    /// Why it failed.
    pub error: Option<(ErrorKind, String)>,
    /// What it gave, by kebab-case keys.
    pub result: BTreeMap<&'static str, ResultValue>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}
