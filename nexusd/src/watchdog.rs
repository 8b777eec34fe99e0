//! Whether the daemon still answers: it asks itself, and tells systemd's watchdog that all is well only then.
//!
//! A store that hangs, actors that keep every thread of theirs, or objects that do not answer on the bus, are no fault
//! that a supervisor sees, and nothing within the process can mend them. So the process ends; whatever started it
//! starts it again, and VMs are adopted. Where even that fails, systemd's watchdog ends it.

use std::{io, thread, time::Duration};

use nexus_actors::Engine;
use nexus_dbus::{SERVICE, client::ManagerProxy};
use sd_notify::NotifyState;
use tokio::{
    runtime::Handle,
    time::{Instant, MissedTickBehavior, timeout_at},
};
use tracing::{error, warn};
use zbus::{
    Connection,
    fdo::DBusProxy,
    names::{BusName, UniqueName},
    proxy::CacheProperties,
};

use crate::bus;

/// Between two looks, where no watchdog wants to hear of them more often. A look takes no longer than that.
const LOOK: Duration = Duration::from_secs(10);
/// So many looks in a row must fail. A disk may well take some seconds for one write.
const PATIENCE: u32 = 3;

/// Tells the service manager something; without one it goes nowhere.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("the service manager can't be told: {error}");
    }
}

/// Looks whether all is well from now on, and feeds the watchdog if the unit has one. In a thread and a runtime of its own,
/// so that whatever blocks the daemon's can't keep it from noticing. Ends the process when something has not answered for
/// too long. `actors` is where the engine's actors run.
///
/// # Errors
/// When the thread can't be started.
pub(crate) fn begin(engine: Engine, actors: Handle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        let (what, silent) = runtime.block_on(look(&engine, &actors));
        error!("{what} not answer for {:.1} s: nexusd ends, to be started again; VMs run on", silent.as_secs_f64());
        #[expect(clippy::exit, reason = "what hangs would not let it end in order")]
        std::process::exit(1);
    })?;
    Ok(())
}

/// Returns what does not answer, and for how long it has not.
async fn look(engine: &Engine, actors: &Handle) -> (&'static str, Duration) {
    // Before systemd loses its patience, so that the journal says what hung.
    let every = sd_notify::watchdog_enabled().map_or(LOOK, |timeout| (timeout / (PATIENCE + 2)).min(LOOK));
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut line = Line::default();
    let (mut misses, mut since) = (0, Instant::now());
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        let end = begun + every;
        let stuck = match timeout_at(end, engine.database()).await {
            Ok(Ok(_)) if timeout_at(end, actors.spawn(async {})).await.is_err() => Some("the actors do"),
            Ok(Ok(_)) => line.is_stuck(end).await.then_some("the objects on the bus do"),
            Ok(Err(error)) => {
                warn!("the store is not well: {}", error.text());
                Some("the store does")
            }
            Err(_) => Some("the store does"),
        };
        let Some(what) = stuck else {
            misses = 0;
            notify(&[NotifyState::Watchdog]);
            continue;
        };
        if misses == 0 {
            since = begun;
        }
        misses += 1;
        warn!("{what} not answer: look {misses} of {PATIENCE}");
        if misses == PATIENCE {
            return (what, since.elapsed());
        }
    }
}

/// The way on which the daemon asks itself, as any client would.
#[derive(Default)]
struct Line(Option<Connection>);

impl Line {
    /// Whether the name on the bus is ours and nobody answers there before `end`. A bus that is gone is the bus'
    /// actor's affair.
    async fn is_stuck(&mut self, end: Instant) -> bool {
        let own = match timeout_at(end, self.own()).await {
            Ok(Ok(own)) => own,
            // The bus, not the daemon.
            Ok(Err(_)) | Err(_) => {
                self.0 = None;
                return false;
            }
        };
        match own {
            Some(manager) => timeout_at(end, manager.state()).await.is_err(),
            None => false,
        }
    }

    /// The daemon's manager, if the name is ours.
    async fn own(&mut self) -> anyhow::Result<Option<ManagerProxy<'static>>> {
        let connection = match &self.0 {
            Some(connection) => connection.clone(),
            None => self.0.insert(bus::connect().await?).clone(),
        };
        let bus = DBusProxy::new(&connection).await?;
        let owner: UniqueName<'_> = bus.get_name_owner(BusName::try_from(SERVICE)?).await?.into_inner();
        let pid = bus.get_connection_unix_process_id(owner.into()).await?;
        if pid != std::process::id() {
            return Ok(None);
        }
        Ok(Some(ManagerProxy::builder(&connection).cache_properties(CacheProperties::No).build().await?))
    }
}
