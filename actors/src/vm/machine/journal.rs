//! What every record of the journal about a machine has: the VM, its actor, and which incarnation of it.

/// The macro of [`tracing`] that is named so, with these fields of the machine before all others.
macro_rules! journal {
    ($level:ident, $machine:expr, $($rest:tt)+) => {
        tracing::$level!(
            NEXUS_VM = %$machine.vm.name,
            NEXUS_ACTOR = $machine.child.path,
            NEXUS_GENERATION = $machine.child.generation,
            $($rest)+
        )
    };
}

pub(super) use journal;
