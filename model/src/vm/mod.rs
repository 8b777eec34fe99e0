//! Virtual machines: what one is made of ([`VmSpec`]) and where it is in its life ([`Lifecycle`]).

mod file;
mod lifecycle;
mod spec;

pub use file::{FileContent, InvalidFile, VmFile};
pub use lifecycle::{Desired, IllegalTransition, Lifecycle, Reason, VmState};
pub use spec::{
    DEFAULT_MEMORY_BYTES, DEFAULT_VCPUS, InvalidSpec, MAX_VCPUS, MIN_MEMORY_BYTES, Role, VmSpec, VmmChoice, VmmKind,
};
