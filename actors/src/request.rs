//! What can be asked of the engine, and what it answers: the types of [`Engine`](crate::Engine)'s methods.

use std::{collections::BTreeMap, os::fd::OwnedFd, path::PathBuf, time::Duration};

use nexus_model::{
    ArtifactName, AssetKind, ExitStatus, ResourceKind, Timestamp,
    restart::RestartPolicy,
    vm::{Reason, VmSpec, VmState},
};

/// What may be changed on a VM at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmSetting {
    /// One line of free text.
    Label(String),
    /// The user's own words for it.
    Tags(Vec<String>),
    /// Whether it starts with the daemon.
    Autostart(bool),
    /// When it is started again after it ended.
    RestartPolicy(RestartPolicy),
}

impl VmSetting {
    /// What it is called, as a key of `CreateVm`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Label(_) => "label",
            Self::Tags(_) => "tags",
            Self::Autostart(_) => "autostart",
            Self::RestartPolicy(_) => "restart-policy",
        }
    }

    /// Its value in `spec`, for people.
    pub(crate) fn value_in(&self, spec: &VmSpec) -> String {
        match self {
            Self::Label(_) => spec.label.clone(),
            Self::Tags(_) => spec.tags.join(", "),
            Self::Autostart(_) => if spec.autostart { "yes" } else { "no" }.to_owned(),
            Self::RestartPolicy(_) => spec.restart_policy.to_string(),
        }
    }

    /// Sets it in `spec`.
    pub(crate) fn apply(self, spec: &mut VmSpec) {
        match self {
            Self::Label(label) => spec.label = label,
            Self::Tags(tags) => spec.tags = tags,
            Self::Autostart(autostart) => spec.autostart = autostart,
            Self::RestartPolicy(policy) => spec.restart_policy = policy,
        }
    }
}

/// How to stop a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOptions {
    /// How long the guest may take before its VMM is killed; none is the configured time.
    pub timeout: Option<Duration>,
}

/// How to remove a VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its workspaces as well; without it they are detached and stay.
    pub remove_workspaces: bool,
}

/// What to import as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportImage {
    /// A raw ext4 file, or a folder with a root file system.
    pub path: PathBuf,
    /// Name of the image.
    pub name: ArtifactName,
    /// Size of the disk to make from a folder; none is the content and headroom.
    pub size_bytes: Option<u64>,
}

/// What to import as an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportAsset {
    /// What it is for.
    pub kind: AssetKind,
    /// The file.
    pub path: PathBuf,
    /// Its version; none is what the file says of itself.
    pub version: Option<String>,
    /// What its SHA-256 must be, in hexadecimal.
    pub digest: Option<String>,
    /// Whether it becomes the default of its kind; the first of a kind always does.
    pub default: bool,
}

/// Which orphans to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// Those of these kinds; none is all that hold no data. What might be somebody else's is never removed.
    pub kinds: Vec<ResourceKind>,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// A command for a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Added to the VM's own environment.
    pub env: BTreeMap<String, String>,
    /// Where it runs; none is its user's home, or `/` when that is not there.
    pub working_directory: Option<String>,
    /// As whom, by name; none is root.
    pub user: Option<String>,
    /// After how long it is killed with all that it started.
    pub timeout: Option<Duration>,
}

/// A file to be written in a guest.
#[derive(Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Its absolute path.
    pub path: String,
    /// What it is to hold, or what is added.
    pub content: Vec<u8>,
    /// Its permissions; none is those of the file that is there, or 644.
    pub mode: Option<u32>,
    /// Its user by name or number; none is that of the file that is there, or root.
    pub owner: Option<String>,
    /// Add to what is there.
    pub append: bool,
    /// Make the folders that are missing.
    pub create_folders: bool,
}

/// Where in a guest files are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestCopyIn {
    /// An absolute path: of a folder into which they go, or of what they become.
    pub path: String,
    /// What they are called where they come from; none means that `path` is what they become in any case.
    pub name: Option<String>,
    /// A folder may take the place of another one.
    pub replace: bool,
}

/// What a command that ran inline gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestOutcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Whether output was dropped beyond the cap.
    pub truncated: bool,
}

/// A command that runs, and its three streams.
#[derive(Debug)]
pub struct GuestStreams {
    /// Number of the command within its guest.
    pub exec: u64,
    /// Its standard input: written to.
    pub stdin: OwnedFd,
    /// Its standard output: read from, until the end of file.
    pub stdout: OwnedFd,
    /// Its standard error: read from, until the end of file.
    pub stderr: OwnedFd,
}

/// A command for a terminal in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestShell {
    /// What to run; without arguments the user's login shell.
    pub command: GuestCommand,
    /// By which the terminal is found again; without one it ends with its last viewer.
    pub name: Option<String>,
    /// Columns and rows; none is what it is, or 80 by 24.
    pub size: Option<(u32, u32)>,
    /// What is typed is dropped.
    pub read_only: bool,
}

/// A viewer of a terminal.
#[derive(Debug)]
pub struct GuestTerminal {
    /// Number of the command on the terminal within its guest.
    pub exec: u64,
    /// What is typed goes in, what is to be shown comes out.
    pub stream: OwnedFd,
}

/// A terminal in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestTerminalInfo {
    /// Number of the command on it.
    pub exec: u64,
    /// By which it is found again; empty without one.
    pub name: String,
    /// Characters in a row.
    pub columns: u32,
    /// How many rows.
    pub rows: u32,
    /// How many look at it.
    pub viewers: u32,
}

/// A line of a VM's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryLine {
    /// When.
    pub at: Timestamp,
    /// From this state.
    pub from: VmState,
    /// To this state.
    pub to: VmState,
    /// Why.
    pub reason: Reason,
    /// One sentence more, if there is more to say.
    pub detail: String,
}

/// What a workspace takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkspaceUsage {
    /// Size as the guest sees it.
    pub apparent_bytes: u64,
    /// Bytes on the host's disk, shared ones included.
    pub allocated_bytes: u64,
    /// Bytes that removal would free.
    pub exclusive_bytes: u64,
}
