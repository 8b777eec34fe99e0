//! Virtual machines: what one is made of ([`VmSpec`]) and where it is in its life ([`Lifecycle`]).

mod lifecycle;
mod spec;

pub use lifecycle::{Desired, IllegalTransition, Lifecycle, Reason, VmState};
pub use spec::{
    DEFAULT_MEMORY_BYTES, DEFAULT_VCPUS, InvalidSpec, MAX_VCPUS, MIN_MEMORY_BYTES, Role, VmSpec, VmmChoice, VmmKind,
};
