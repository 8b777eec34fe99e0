//! How soon all is as it was when nexusd is killed and started again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nexus_dbus::client::{VmProperties, objects};
use tokio::time::sleep;
use zbus::OwnedObjectPath;

use crate::{
    Outcome, bare,
    changes::Changes,
    fleet::{self, AfterDeath},
    report::{Report, duration},
    samples::Samples,
    scale::Scale,
    session::{PATIENCE, Programs, Session},
};

/// From the SIGKILL on.
#[derive(Default)]
struct Restarts {
    /// Until the name is on the bus again.
    named: Samples,
    /// Until a client has seen that every VM is adopted.
    adopted: Samples,
    /// Until every guest has answered.
    answering: Samples,
    /// What it takes at least to have the VMs.
    bare: Samples,
}

/// Measures it.
///
/// # Errors
/// When a VM is not adopted.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "The daemon is killed",
        "nexusd gets SIGKILL and is executed again, with `process` VMs that run. From the SIGKILL until its name is on the bus \
         again; until a client that then reads everything (`GetManagedObjects`) has read of every VM that it is adopted, with \
         the `Leader` that it had; and until every guest has answered. The bare loop opens a pidfd of every one of the same \
         VMMs and connects to its agent, one after the other. The ratio is between what a VM adds to a restart without any, \
         until it is read as adopted, and its share of the loop.",
    );
    let columns =
        ["median of", "name is back", "all adopted", "all guests answer", "bare loop", "per VM", "bare", "ratio"];
    report.columns(&columns);
    let mut alone = Duration::ZERO;
    for count in scale.fleets.iter().copied() {
        let restarts = restarts(scale, programs, count).await?;
        if count == 0 {
            alone = restarts.adopted.median();
        }
        row(report, &restarts, count, alone);
    }
    Ok(())
}

fn row(report: &mut Report, restarts: &Restarts, count: usize, alone: Duration) {
    let Restarts { named, adopted, answering, bare } = restarts;
    let mut cells =
        vec![format!("{count} VMs ({})", named.len()), duration(named.median()), duration(adopted.median())];
    if let Ok(vms @ 1..) = u32::try_from(count) {
        let (each, bare_each) = (adopted.median().saturating_sub(alone) / vms, bare.median() / vms);
        cells.extend([answering.median(), bare.median(), each, bare_each].map(duration));
        cells.push(format!("{:.1} ×", each.as_secs_f64() / bare_each.as_secs_f64()));
    } else {
        cells.extend(["–"; 5].map(str::to_owned));
    }
    report.row(&cells);
}

async fn restarts(scale: &Scale, programs: &Programs, count: usize) -> Outcome<Restarts> {
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    let mut changes = Changes::follow(&session.connection).await?;
    let vms = fleet::create(&session, count, AfterDeath::Again).await?;
    fleet::start(&session, &vms).await?;
    changes.all_ready(&session.connection).await?;
    let running = running(&session).await?;

    let mut restarts = Restarts::default();
    for _ in 0..scale.startups {
        let bare = running.values().map(|vm| bare::reach(vm.leader, vm.vsock_path.as_ref()));
        restarts.bare.push(bare.sum::<Outcome<Duration>>()?);
        changes.forget();
        let killed = Instant::now();
        session.kill_daemon()?;
        session.start_daemon().await?;
        restarts.named.push(killed.elapsed());
        restarts.adopted.push(adopted(&session, &running).await? - killed);
        changes.all_ready(&session.connection).await?;
        restarts.answering.push(killed.elapsed());
    }
    Ok(restarts)
}

/// The VMs.
async fn running(session: &Session) -> Outcome<HashMap<OwnedObjectPath, VmProperties>> {
    let objects = objects(&session.connection).await?.into_iter();
    Ok(objects.filter_map(|(path, object)| Some((path, object.vm?))).collect())
}

/// Returns when it was read that all of them are looked after, and that their VMMs are who they were.
async fn adopted(session: &Session, before: &HashMap<OwnedObjectPath, VmProperties>) -> Outcome<Instant> {
    let limit = Instant::now() + PATIENCE;
    loop {
        let objects = objects(&session.connection).await?;
        let read = Instant::now();
        let mut pending = 0;
        for (path, vm) in before {
            let object = objects.get(path);
            let adopted =
                object.and_then(|object| object.supervised.as_ref()).is_some_and(|actor| actor.started_at > 0);
            match object.and_then(|object| object.vm.as_ref()).map(|now| now.leader) {
                Some(leader) if leader == vm.leader && adopted => {}
                Some(leader) if leader == vm.leader => pending += 1,
                _ => return Err(format!("{} was not adopted", vm.name).into()),
            }
        }
        if pending == 0 {
            return Ok(read);
        }
        if read > limit {
            return Err(format!("{pending} VMs are not adopted").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
}
