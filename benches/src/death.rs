//! How soon a client hears of a VMM's death.

use std::time::{Duration, Instant};

use nexus_dbus::client::Options;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use zbus::Variant;

use crate::{
    Outcome,
    changes::Changes,
    fleet::{self, AfterDeath},
    report::Report,
    samples::Samples,
    scale::Scale,
    session::{PATIENCE, Programs, Session},
};

/// Measures it.
///
/// # Errors
/// When a VM does not start or its death is not told.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "A VMM dies",
        "The VMM of a `process` VM gets SIGKILL. Until a client on the bus has received the `PropertiesChanged` that says \
         `crashed` (by then it is in the store, too), against a thread that waits in `poll` on a pidfd of the same process.",
    );
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    let path = fleet::create_one(&session, "mortal", AfterDeath::Down).await?;
    let vm = session.vm(&path).await?;
    let mut changes = Changes::follow(&session.connection).await?;

    let (mut told, mut seen) = (Samples::default(), Samples::default());
    for _ in 0..scale.deaths {
        session.job(vm.start(Options::new()).await?).await?;
        let pid = i32::try_from(vm.leader().await?)?;
        let process = pidfd_open(Pid::from_raw(pid).ok_or("the VM has no VMM")?, PidfdFlags::empty())?;
        let watched = process.try_clone()?;
        let (ready, watching) = tokio::sync::oneshot::channel();
        let watcher = tokio::task::spawn_blocking(move || {
            let limit = Timespec::try_from(PATIENCE).ok();
            let _ = ready.send(());
            let _ = poll(&mut [PollFd::new(&watched, PollFlags::IN)], limit.as_ref());
            Instant::now()
        });
        watching.await?;
        changes.forget();
        // The watcher is in `poll`, and whatever the start has caused is over.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let killed = Instant::now();
        pidfd_send_signal(&process, Signal::KILL)?;
        told.push(changes.until(&path, "State", Variant::from("crashed")).await? - killed);
        seen.push(watcher.await? - killed);
    }
    report.spread("SIGKILL →");
    report.percentiles("`PropertiesChanged` at a client", &told);
    report.percentiles("a bare pidfd watcher", &seen);
    report.ratios("ratio", &told, &seen);
    Ok(())
}
