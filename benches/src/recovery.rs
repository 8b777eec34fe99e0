//! How soon a VM runs again whose VMM was killed.

use std::time::Instant;

use nexus_dbus::client::Options;
use zbus::Variant;

use crate::{
    Outcome,
    bare::BareVmm,
    changes::{Change, Changes},
    due,
    fleet::{self, AfterDeath},
    report::{Report, duration},
    samples::Samples,
    scale::Scale,
    session::{Programs, Session, end},
};

/// Measures it.
///
/// # Errors
/// When the VM does not come up again.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "A VMM is started again",
        "The VMM of a `process` VM with restart policy `on-failure` gets SIGKILL, until a client was told that it is `running` \
         again. The policy waits about 1 s before that (±20 %), which is no cost: from when the client was told `crashed` \
         until the `NextRestartAt` that it was told is taken off, and what is left is as long as it were without back-off. \
         Against a loop that kills the same program, waits for its end, executes it again and dials its socket until it \
         listens: no keeper that outlives the loop, no record of it, no log of bounded size. In turns.",
    );
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    let path = fleet::create_one(&session, "mortal", AfterDeath::Again).await?;
    let (vm, actor) = (session.vm(&path).await?, session.actor(&path).await?);
    let mut changes = Changes::follow(&session.connection).await?;
    let mut actors = Changes::follow_actors(&session.connection).await?;
    session.job(vm.start(Options::new()).await?).await?;
    let mut bare_vmm = BareVmm::run(&session, 0)?;

    let (mut whole, mut nexus, mut bare) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..scale.recoveries {
        changes.ready(&session.connection, &path).await?;
        // Each is the first failure, with the shortest wait.
        actor.reset_failed().await?;
        let leader = vm.leader().await?;
        changes.forget();
        actors.forget();
        let killed = Instant::now();
        end(leader);
        let crashed = changes.until(&path, "State", Variant::from("crashed")).await?;
        let mut due = 0;
        let planned = |change: &Change| {
            due = change.number("NextRestartAt").filter(|_| change.path == path).unwrap_or_default();
            due > 0
        };
        actors.first("the VM is to be started again", planned).await?;
        let took = changes.until(&path, "State", Variant::from("running")).await? - killed;
        whole.push(took);
        nexus.push(took.saturating_sub(due::wait(crashed, due)));

        let killed = Instant::now();
        bare_vmm.kill()?;
        bare_vmm.wait()?;
        bare_vmm.spawn()?;
        bare_vmm.wait_ready()?;
        bare.push(killed.elapsed());
    }
    report.comparisons();
    report.compare("SIGKILL → `running`, without the wait ÷ the bare loop", &nexus, &bare, None);
    report.line(format!("\nMedian with the wait: {}.", duration(whole.median())));
    Ok(())
}
