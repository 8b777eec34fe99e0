//! Drivers: one module per kind of host resource. No actor and no Nexus D-Bus type is known here; whoever calls decides
//! when, and keeps the intent in the store before it does.

pub mod agent;
pub mod asset;
pub mod image;
pub mod memory;
pub mod process;
pub mod resource;
pub mod storage;
pub mod unit;
pub mod vmm;
pub mod vsock;
