//! vsock to a real guest.

use std::time::{Duration, Instant};

use nexus_host::vsock::{Stream, VsockError};
use nexus_protocol::CONTROL_PORT;

use crate::machine::{Machine, PATIENCE, Running};

/// Connects as soon as the guest lets it.
pub(crate) async fn connect(running: &Running, port: u32) -> Stream {
    let start = Instant::now();
    let endpoint = &running.started.endpoint;
    loop {
        match endpoint.connect(port).await {
            Ok(stream) => return stream,
            // Its driver is not loaded, or the agent does not listen yet.
            Err(VsockError::Refused { .. } | VsockError::Timeout { .. }) if start.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error:?}: {}", running.machine.console()),
        }
    }
}

#[tokio::test]
async fn a_guest_is_reached_on_a_port_where_somebody_listens_and_on_no_other() {
    let Some(machine) = Machine::qemu("guest-agent & exec busybox sleep 1000").await else { return };
    let running = machine.start().await;
    let _stream = connect(&running, CONTROL_PORT).await;
    let endpoint = &running.started.endpoint;
    assert!(matches!(endpoint.connect(4242).await, Err(VsockError::Refused { port: 4242 })));
    // That did not disturb the others.
    let _another = connect(&running, CONTROL_PORT).await;
}

/// The sidecar must not be dialled while the device is handed over to it: see `host/src/vsock/sidecar.rs`.
#[tokio::test]
async fn a_guest_that_is_dialled_without_pause_while_it_boots_is_reached() {
    let Some(machine) = Machine::qemu("guest-agent & exec busybox sleep 1000").await else { return };
    let running = machine.start().await;
    tokio::join!(
        connect(&running, CONTROL_PORT),
        connect(&running, CONTROL_PORT),
        connect(&running, CONTROL_PORT),
        connect(&running, CONTROL_PORT)
    );
}
