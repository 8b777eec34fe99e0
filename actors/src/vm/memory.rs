//! Whether a VM's memory is to be had on this machine.

use nexus_host::memory::{available_bytes, total_bytes};
use nexus_model::{ErrorKind, Name};

use crate::Error;

/// Nexus keeps this much memory of the host free of guests.
const HOST_RESERVE_BYTES: u64 = 128 << 20;

/// Refuses what this machine could never hold.
pub(super) fn check_total(bytes: u64) -> Result<(), Error> {
    let Some(total) = total_bytes() else { return Ok(()) };
    if fits(bytes, total) {
        return Ok(());
    }
    let most = total.saturating_sub(HOST_RESERVE_BYTES) >> 20;
    Err(Error::new(
        ErrorKind::ResourcesExhausted,
        format!("{} MiB of memory are more than this machine has for a VM: use {most} MiB at most", bytes >> 20),
    ))
}

/// Refuses what it can't hold now: a guest too many would take everything else down with it.
pub(super) fn check_available(vm: &Name, bytes: u64) -> Result<(), Error> {
    let Some(available) = available_bytes() else { return Ok(()) };
    if fits(bytes, available) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::ResourcesExhausted,
        format!(
            "VM `{vm}` wants {} MiB of memory and this machine has {} MiB left: stop another VM, or create it with less",
            bytes >> 20,
            available >> 20,
        ),
    ))
}

const fn fits(bytes: u64, room: u64) -> bool {
    bytes.saturating_add(HOST_RESERVE_BYTES) <= room
}
