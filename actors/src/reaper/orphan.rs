//! Orphans as the outside sees them.

use std::{fmt, time::Duration};

use nexus_model::ResourceKind;

/// A resource of the host that has no owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// What it is.
    pub kind: ResourceKind,
    /// What it is called: a unit's name, a process id, a path, a device's name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an orphan. Its text is a clause about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is removed, unless an owner turns up.
    Goes {
        /// After this time.
        after: Duration,
    },
    /// It runs, or belongs to what does, and goes when somebody names its kind and that of what runs.
    Runs {
        /// Its kind.
        kind: ResourceKind,
        /// The kind of what runs.
        by: ResourceKind,
    },
    /// It holds data, and goes when somebody names its kind.
    HoldsData {
        /// Its kind.
        kind: ResourceKind,
    },
    /// Nexus never removes it.
    Stays {
        /// What goes on after "because".
        why: String,
    },
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goes { after } => write!(f, "goes in {} s", after.as_secs()),
            Self::Runs { kind, by } if kind == by => write!(f, "runs: it goes only with `nexusctl prune {kind}`"),
            Self::Runs { kind, by } => {
                write!(f, "belongs to what runs: it goes only with `nexusctl prune {by} {kind}`")
            }
            Self::HoldsData { kind } => write!(f, "holds data: it goes only with `nexusctl prune {kind}`"),
            Self::Stays { why } => write!(f, "stays, because {why}"),
        }
    }
}

/// An orphan that was removed, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// What it was.
    pub kind: ResourceKind,
    /// What it was called.
    pub name: String,
    /// What it took on the disk.
    pub bytes: u64,
}
