//! A session with the tools of a VM's guest.

use std::{os::fd::OwnedFd, time::Duration};

use nexus_dbus::client::{GuestProxy, Options};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    bus::{Bus, DEADLINE},
    exec::is_absent,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    vm::{
        self,
        ready::{self, NotReady},
    },
};

/// Between two tries to begin a session with a guest that is told to be there and is not.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of a new one, as soon as the guest of the VM of this name or id answers, for which it has the time `boot`.
pub(super) async fn open(
    bus: &Bus,
    name: &str,
    boot: Duration,
    interrupts: &mut Interrupts,
) -> Result<OwnedFd, Failure> {
    let what = format!("open the tools of VM {name}");
    let path = bus.patiently(vm::find(bus, name, &what)).await?;
    let proxy =
        GuestProxy::builder(bus.connection()).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No);
    let guest = bus.ask("reach the guest", proxy.build()).await?;
    let until = Instant::now() + boot;
    let mut waited = false;
    loop {
        let answer = tokio::select! {
            answer = bus.patiently(timeout(DEADLINE, guest.open_tools(Options::new()))) => answer,
            number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
        };
        let left = until.saturating_duration_since(Instant::now());
        match answer {
            Ok(Ok(stream)) => return Ok(stream.into()),
            Ok(Err(error)) if is_absent(&error) && !left.is_zero() => {
                // What is told of a guest that has just gone may be older than that answer.
                if waited {
                    sleep(PAUSE).await;
                }
                ready::wait(bus, &path, name, left, interrupts).await.map_err(NotReady::of_lasting)?;
                waited = true;
            }
            Ok(Err(error)) => return Err(bus.explain(&what, &error).await),
            Err(_) => {
                let why = format!("There was no answer within {} s.", DEADLINE.as_secs());
                return Err(Failure::new(format!("cannot {what}")).because(why));
            }
        }
    }
}
