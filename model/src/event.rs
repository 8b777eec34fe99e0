//! What happens.

use crate::kebab::words;

words! {
    /// A kind of event. An open list: new kinds may come.
    pub enum EventKind {
        /// A VM was made.
        VmCreated = "vm-created",
        /// A VM came to another state.
        VmState = "vm-state",
        /// A setting of a VM was changed.
        VmChanged = "vm-changed",
        /// A VM is not started again, although that was waited for.
        VmRestartCalledOff = "vm-restart-called-off",
        /// A VM runs, and its guest agent does not answer any more, or nothing can be asked of it.
        GuestUnreachable = "guest-unreachable",
        /// A guest agent that was unreachable answers again.
        GuestBack = "guest-back",
        /// A VM is gone.
        VmRemoved = "vm-removed",
        /// A workspace was asked for.
        WorkspaceCreated = "workspace-created",
        /// A workspace came to another state.
        WorkspaceState = "workspace-state",
        /// A workspace is gone.
        WorkspaceRemoved = "workspace-removed",
        /// An image was asked for.
        ImageCreated = "image-created",
        /// An image came to another state.
        ImageState = "image-state",
        /// An image is gone.
        ImageRemoved = "image-removed",
        /// An asset was asked for.
        AssetCreated = "asset-created",
        /// An asset came to another state.
        AssetState = "asset-state",
        /// An asset is gone.
        AssetRemoved = "asset-removed",
        /// A job has ended, well or not.
        JobEnded = "job-ended",
        /// An actor panicked, returned an error, did not start, or ended unasked.
        ActorFault = "actor-fault",
        /// An actor is up again, in a new incarnation.
        ActorRestarted = "actor-restarted",
        /// An actor had too many faults, and is not started again for now.
        ActorGaveUp = "actor-gave-up",
        /// A daemon began.
        DaemonStarted = "daemon-started",
        /// A daemon has looked after all that was there before it.
        DaemonReady = "daemon-ready",
        /// A daemon was told to end.
        DaemonStopping = "daemon-stopping",
    }
}
