//! Long operations.

use crate::kebab::words;

words! {
    /// What a job does.
    pub enum JobKind {
        /// Starts a VM.
        StartVm = "start-vm",
        /// Stops a VM.
        StopVm = "stop-vm",
        /// Stops a VM and starts it again.
        RestartVm = "restart-vm",
        /// Creates a VM, with its workspace where it needs one.
        CreateVm = "create-vm",
        /// Removes a VM.
        RemoveVm = "remove-vm",
        /// Copies a disk or a folder into a master image.
        ImportImage = "import-image",
        /// Removes an image.
        RemoveImage = "remove-image",
        /// Hashes an image again and compares.
        VerifyImage = "verify-image",
        /// Makes a workspace from an image.
        CreateWorkspace = "create-workspace",
        /// Removes a workspace.
        RemoveWorkspace = "remove-workspace",
        /// Copies a kernel or an initrd into Nexus' own folder.
        ImportAsset = "import-asset",
        /// Removes an asset.
        RemoveAsset = "remove-asset",
        /// Hashes an asset again and compares.
        VerifyAsset = "verify-asset",
        /// Removes what nothing owns.
        Prune = "prune",
    }
}

words! {
    /// Where a job is in its life.
    pub enum JobState {
        /// Waiting for its turn.
        Queued = "queued",
        /// Under way.
        Running = "running",
        /// Ended well.
        Done = "done",
        /// Ended with an error.
        Failed = "failed",
        /// Ended because somebody cancelled it, or because the daemon ended under it.
        Cancelled = "cancelled",
        /// Ended because its deadline passed.
        Timeout = "timeout",
    }
}

impl JobState {
    /// Whether the job has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled | Self::Timeout)
    }
}
