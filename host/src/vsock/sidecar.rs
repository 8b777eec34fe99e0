//! `vhost-device-vsock` speaks the hybrid protocol, but dies of being dialled at the wrong moment.
//!
//! While QEMU hands a device over whose driver has just started, the sidecar knows the guest's memory and not yet its
//! queues. Anything that happens on its socket then ends the thread that does all its work; the process stays, accepts,
//! and answers nobody ever again (0.3.0: `handle_event` of `vhu_vsock.rs` fails, and `run` of vhost-user-backend's
//! `event_loop.rs` returns). A host that dials a guest until it answers hits that moment in one start of five.
//!
//! So the sidecar's socket is bound under another name, and gets the one that is dialled once QEMU says that the driver
//! is ready. The name lasts as long as the machine, whoever gave it: nothing needs to be remembered. `tools/vsock-device`
//! builds one that outlives it, but the one of a distribution may be used as well.
//!
//! QEMU shows the driver as ready once it has *sent* the last message of that, and nothing tells when the sidecar has taken
//! it: 0.3.0 offers neither `REPLY_ACK` nor `STATUS` (`protocol_features` of `vhu_vsock.rs`), so none of the messages that set
//! up the queues is answered; what QEMU could be asked for that is (`GET_VRING_BASE`, by `x-query-virtio-queue-status`)
//! stops the queue; and a dial can't be tried and repeated, because the wrong one is the sidecar's end. A packet of the
//! guest's would be proof, but the guest never dials. Hence [`SETTLE`]. Should it
//! ever be too short, the VM runs and its guest is never ready; starting it again mends that.

use std::{fs, io, path::Path, time::Duration};

use tokio::time::sleep;

use super::VsockError;
use crate::vmm::Qmp;

/// The vsock device's path in QEMU's object tree.
pub(crate) const DEVICE: &str = "vsock";
/// How often QEMU is asked while a guest boots.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the sidecar may take for the last messages that QEMU sent it before it called the driver ready: they are not
/// answered. It takes them in less than a millisecond, but for a busy host.
const SETTLE: Duration = Duration::from_millis(100);

/// Waits until the guest's driver is ready and gives the socket its name.
pub(super) async fn open(socket: &Path, closed: &Path, monitor: &Path) -> Result<(), VsockError> {
    while !is_ready(monitor).await? {
        sleep(PAUSE).await;
    }
    sleep(SETTLE).await;
    match fs::rename(closed, socket) {
        // Somebody else who waited was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(socket).is_ok() => Ok(()),
        renamed => renamed.map_err(|source| VsockError::Socket { socket: closed.to_owned(), source }),
    }
}

async fn is_ready(monitor: &Path) -> Result<bool, VsockError> {
    let mut qmp = match Qmp::connect(monitor).await {
        Ok(qmp) => qmp,
        // QEMU talks to one at a time and lets one wait.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(source) => return Err(VsockError::Socket { socket: monitor.to_owned(), source }),
    };
    qmp.is_driver_ready(DEVICE).await.map_err(|source| VsockError::Monitor { source: Box::new(source) })
}
