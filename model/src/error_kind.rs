//! What kinds of failure a caller can tell apart.

use crate::kebab::words;

words! {
    /// The kind of a failure, as the bus names it: `org.workfort.Nexus1.Error.<word>`.
    pub enum ErrorKind {
        /// No such object.
        NotFound = "NotFound",
        /// The name is taken.
        AlreadyExists = "AlreadyExists",
        /// The name is not one that Nexus accepts.
        InvalidName = "InvalidName",
        /// An argument or an option is not understood. On the bus: `org.freedesktop.DBus.Error.InvalidArgs`.
        InvalidArgs = "InvalidArgs",
        /// The object is in a state in which this can't be done.
        InvalidState = "InvalidState",
        /// Another operation on the same object is under way.
        Busy = "Busy",
        /// Something else uses the object.
        InUse = "InUse",
        /// The operation was cancelled.
        Cancelled = "Cancelled",
        /// A deadline passed.
        Timeout = "Timeout",
        /// The guest agent is not there, and has not heard of what was asked: it may be asked again.
        GuestUnavailable = "GuestUnavailable",
        /// The guest agent answered with a failure, or was lost before it answered.
        GuestFailed = "GuestFailed",
        /// The VMM failed, or could not be started.
        HypervisorFailed = "HypervisorFailed",
        /// Disks, file systems or the store failed.
        StorageFailed = "StorageFailed",
        /// Networks failed.
        NetworkFailed = "NetworkFailed",
        /// Content is not what its digest or format says.
        IntegrityFailed = "IntegrityFailed",
        /// Memory, disk, descriptors or ids ran out.
        ResourcesExhausted = "ResourcesExhausted",
        /// This machine can't do that.
        HostUnsupported = "HostUnsupported",
        /// The configuration or the system forbids it.
        PermissionDenied = "PermissionDenied",
        /// Not built.
        NotImplemented = "NotImplemented",
        /// The daemon is going down.
        ShuttingDown = "ShuttingDown",
        /// A defect in Nexus.
        Internal = "Internal",
    }
}
