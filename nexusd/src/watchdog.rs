//! systemd's watchdog: told that all is well only while the store answers.

use nexus_actors::Engine;
use sd_notify::NotifyState;
use tracing::warn;

/// Tells the service manager something; without one it goes nowhere.
pub(crate) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("the service manager can't be told: {error}");
    }
}

/// Feeds the watchdog for ever, if the unit has one.
pub(crate) async fn feed(engine: Engine) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(timeout / 3);
    loop {
        ticks.tick().await;
        match tokio::time::timeout(timeout / 3, engine.database()).await {
            Ok(Ok(_)) => notify(&[NotifyState::Watchdog]),
            Ok(Err(error)) => warn!("the store is not well, so the watchdog goes unfed: {}", error.text()),
            Err(_) => warn!("the store does not answer, so the watchdog goes unfed"),
        }
    }
}
