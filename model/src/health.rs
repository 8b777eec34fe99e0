//! How well a supervised thing is, apart from what state it is in.

use crate::kebab::words;

words! {
    /// Health of an actor and of the thing that it stands for.
    pub enum Health {
        /// As it should be.
        Ok = "ok",
        /// Its actor is in back-off or starting again, or its VM is about to.
        Restarting = "restarting",
        /// It works, but something that it asked for is missing.
        Degraded = "degraded",
        /// The VMM runs, but its guest agent is silent, or nothing can be asked of it.
        Unreachable = "unreachable",
        /// Its actor gave up; the VMM was left running.
        Unmanaged = "unmanaged",
        /// Its actor gave up, or its thing could not be had, or its VM has ended in a way that nobody wanted.
        Failed = "failed",
    }
}
