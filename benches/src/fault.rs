//! How soon a VM is looked after again when its actor is restarted, or panics.

use std::time::{Duration, Instant};

use nexus_dbus::client::{Options, Row, VmProperties};
use zbus::OwnedObjectPath;

use crate::{
    Outcome, bare,
    changes::{Change, Changes},
    due,
    fleet::{self, AfterDeath},
    report::Report,
    samples::Samples,
    scale::Scale,
    session::{Programs, Session},
};

/// Has the actor of a VM panic at the next message.
const PANIC: &str = "actor.machine=1*panic";

/// Measures it.
///
/// # Errors
/// When an actor does not come up again, or the VM notices.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "A VM's actor is restarted, or panics",
        "The actor of a `process` VM is restarted by `Supervised.RestartActor`; then it panics at a message (in a daemon with \
         failpoints). Until a client was told that the next `Generation` is up: it has read the VM's row, looked at the \
         machine, and adopted the VMM, which is the same. After a panic its supervisor waits about 50 ms first (±20 %); what is \
         left without the wait that `NextRestartAt` names is the second row of it. The bare baseline opens a pidfd of the \
         VMM and connects to the guest's agent.",
    );
    let (mut restarted, mut bare) = (Samples::default(), Samples::default());
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    let mut ward = Ward::start(&session).await?;
    for _ in 0..scale.restarts {
        restarted.push(ward.restart(&session).await?);
        bare.push(bare::reach(ward.vm.leader, ward.vm.vsock_path.as_ref())?);
    }
    drop(session);

    let (mut panicked, mut without_wait) = (Samples::default(), Samples::default());
    let mut session = Session::start(programs, None).await?;
    session.start_breakable_daemon().await?;
    let mut ward = Ward::start(&session).await?;
    for _ in 0..scale.panics {
        let (whole, wait) = ward.panic(&session).await?;
        panicked.push(whole);
        without_wait.push(whole.saturating_sub(wait));
    }
    report.spread("until its next incarnation is up, from");
    report.percentiles("`RestartActor`", &restarted);
    report.percentiles("a panic", &panicked);
    report.percentiles("a panic, without the wait", &without_wait);
    report.percentiles("bare: a pidfd and a connection", &bare);
    report.ratios("`RestartActor` ÷ bare", &restarted, &bare);
    report.ratios("a panic, without the wait ÷ bare", &without_wait, &bare);
    Ok(())
}

/// A VM, and what is told of its actor.
struct Ward {
    path: OwnedObjectPath,
    vm: VmProperties,
    changes: Changes,
    actors: Changes,
}

impl Ward {
    async fn start(session: &Session) -> Outcome<Self> {
        let path = fleet::create_one(session, "ward", AfterDeath::Down).await?;
        let mut changes = Changes::follow(&session.connection).await?;
        let actors = Changes::follow_actors(&session.connection).await?;
        session.job(session.vm(&path).await?.start(Options::new()).await?).await?;
        changes.ready(&session.connection, &path).await?;
        let vm = VmProperties::read(&session.connection, &path).await?;
        Ok(Self { path, vm, changes, actors })
    }

    /// Restarts the actor.
    async fn restart(&mut self, session: &Session) -> Outcome<Duration> {
        let actor = session.actor(&self.path).await?;
        let next = actor.generation().await? + 1;
        self.actors.forget();
        let begin = Instant::now();
        actor.restart_actor(Options::new()).await?;
        let up = self.up(next, |_| {}).await?;
        self.settle(session).await?;
        Ok(up - begin)
    }

    /// Has the actor panic; returns how long it took, and how much of that was the wait of its supervisor.
    async fn panic(&mut self, session: &Session) -> Outcome<(Duration, Duration)> {
        let actor = session.actor(&self.path).await?;
        let next = actor.generation().await? + 1;
        session.set_failpoints(PANIC).await?;
        self.actors.forget();
        let begin = Instant::now();
        if session.vm(&self.path).await?.set_label("panic").await.is_ok() {
            return Err("the actor did not panic at a message".into());
        }
        let mut told = None;
        let up = self.up(next, |change| {
            if let Some(due @ 1..) = change.number("NextRestartAt") {
                told = Some((change.at, due));
            }
        });
        let up = up.await?;
        let (told, due) = told.ok_or("the supervisor did not say when it starts the actor again")?;
        // A number of them in a row would have it give up.
        actor.reset_failed().await?;
        self.settle(session).await?;
        Ok((up - begin, due::wait(told, due)))
    }

    /// Waits until that incarnation of the actor is up, and shows what is told of it until then.
    async fn up(&mut self, generation: u64, mut watch: impl FnMut(&Change)) -> Outcome<Instant> {
        let path = &self.path;
        let mut begun = false;
        let is_up = |change: &Change| {
            if change.path != *path {
                return false;
            }
            watch(change);
            begun |= change.number("Generation") == Some(generation);
            begun && change.number("StartedAt").is_some_and(|at| at > 0)
        };
        self.actors.first("the actor is up again", is_up).await
    }

    /// Waits until the guest has answered again, and makes sure that the VM has not noticed.
    async fn settle(&mut self, session: &Session) -> Outcome<()> {
        self.changes.ready(&session.connection, &self.path).await?;
        let now = VmProperties::read(&session.connection, &self.path).await?;
        if now.leader == self.vm.leader && now.state == "running" {
            return Ok(());
        }
        Err(format!("the VM is {} with process {}, no longer {}", now.state, now.leader, self.vm.leader).into())
    }
}
