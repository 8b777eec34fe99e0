//! What there is on the machine under the names of one Nexus, and how it goes.
//!
//! A [`Ground`] is the folders and the instance id of one Nexus. It lists every [`Resource`] there is under them, whoever
//! owns it: what is an orphan is for those to say who know the owners. What can be told from the machine alone is the
//! [`Standing`]: whether this Nexus made it, whether it runs, and whether it holds data. Whatever is in doubt is never
//! removed.
//!
//! Files and processes are listed by calls that block.

mod device;
mod error;
mod folder;
mod ground;
mod mark;
mod mount;
mod opened;
mod process;
mod removal;
mod running;

use std::{fmt, path::PathBuf};

use nexus_model::{ArtifactName, Id, Name, ProcessIdentity, ResourceKind};

pub use error::ResourceError;
pub use ground::Ground;

/// One resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// What identifies it.
    pub place: Place,
    /// Whose it is, by its name.
    pub owner: Owner,
    /// Whether it may be removed.
    pub standing: Standing,
}

/// What identifies a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A unit's name, without its suffix.
    Unit(String),
    /// The unit that a keeper keeps, and the keeper's process.
    Process(String, ProcessKey),
    /// A file or folder, and its inode: another one at the same path is another resource.
    Path(PathBuf, Inode),
    /// Where something is mounted.
    Mount(PathBuf),
    /// A network device's name.
    Device(String),
}

/// A process, for comparison.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    pid: u32,
    start_ticks: u64,
    boot_id: String,
}

/// A file on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    device: u64,
    number: u64,
}

/// Whose a resource is, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The VM with this id.
    Vm(Id),
    /// The workspace of this name.
    Workspace(Name),
    /// The image of this name.
    Image(ArtifactName),
    /// The asset with this id.
    Asset(Id),
    /// Nobody's.
    Nobody,
}

/// What may become of a resource that has no owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This Nexus made it, and without an owner it is of no use to anybody.
    Ours,
    /// This Nexus made it, and it runs, or belongs to what does: somebody may be at work in it.
    Runs {
        /// The kind of what runs.
        by: ResourceKind,
    },
    /// This Nexus made it, and there is data in it.
    Data,
    /// It might be somebody else's: why, in words that go on after "because".
    Doubtful(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "{unit}.service"),
            Self::Process(unit, process) => write!(f, "{} ({unit})", process.pid),
            Self::Path(path, _) | Self::Mount(path) => path.display().fmt(f),
            Self::Device(device) => f.write_str(device),
        }
    }
}

impl From<&ProcessIdentity> for ProcessKey {
    fn from(process: &ProcessIdentity) -> Self {
        Self { pid: process.pid, start_ticks: process.start_ticks, boot_id: process.boot_id.clone() }
    }
}

impl ProcessKey {
    fn identity(&self) -> ProcessIdentity {
        let Self { pid, start_ticks, boot_id } = self.clone();
        ProcessIdentity { pid, start_ticks, boot_id, pidfd_inode: None }
    }
}
