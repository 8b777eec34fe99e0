//! Many VMMs are killed at once: how soon all run again, and what a client notices meanwhile.

use std::{
    collections::HashMap,
    thread::sleep,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use nexus_dbus::client::objects;
use zbus::{OwnedObjectPath, Variant};

use crate::{
    Outcome,
    bare::BareVmm,
    caller::Caller,
    changes::{Change, Changes},
    due,
    fleet::{self, AfterDeath},
    report::{Report, duration},
    samples::Samples,
    scale::Scale,
    session::{Programs, Session, end},
};

/// From the first SIGKILL on.
#[derive(Default)]
struct Storms {
    /// Until a client was told of every death.
    told: Samples,
    /// Until the first back-off was over.
    first_due: Samples,
    /// Until the last one was.
    last_due: Samples,
    /// Until all VMs ran.
    running: Samples,
    /// From the end of the last back-off until all VMs ran.
    after: Samples,
    /// When each back-off was over, of each storm.
    schedules: Vec<Vec<Duration>>,
}

/// The same without Nexus.
#[derive(Default)]
struct Bare {
    running: Samples,
    after: Samples,
}

/// Measures it.
///
/// # Errors
/// When a VM does not come up again.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "Many VMMs are killed at once",
        &format!(
            "The VMMs of {} `process` VMs get SIGKILL at once. Their restart policy starts each again after a back-off of its \
             own of about 1 s (±20 %), so they come back within 0.4 s of each other. A bare loop kills as many of the same \
             program at once, waits for their end, executes each again when the back-off of one of the VMs was over, and then \
             dials their sockets until all listen.",
            scale.victims
        ),
    );
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    session.start_service().await?;
    let vms = fleet::create(&session, scale.victims, AfterDeath::Again).await?;
    fleet::start(&session, &vms).await?;
    let witness = vms.first().ok_or("there is no VM")?;
    let client = session.connect().await?;

    let (mut quiet, mut stormy) = (Caller::default(), Caller::default());
    let mut storms = Storms::default();
    for _ in 0..scale.storms {
        let mut changes = Changes::follow(&session.connection).await?;
        changes.all_ready(&session.connection).await?;
        // Each death is the first one, with the shortest wait.
        forgive(&session, &vms).await?;
        let as_long = storms.running.percentile(100).max(Duration::from_secs(2));
        quiet.call_for(as_long, &client, witness).await?;
        tokio::select! {
            outcome = storms.storm(&session, changes) => outcome?,
            outcome = stormy.call(&client, witness) => match outcome? {},
        }
    }
    drop(client);
    session.end_service().await?;
    session.kill_daemon()?;
    let mut bare = Bare::default();
    for schedule in &storms.schedules {
        bare.storm(&session, schedule)?;
    }
    storms.describe(report, &bare);
    compare(report, &quiet, &stormy);
    Ok(())
}

impl Storms {
    /// One storm.
    async fn storm(&mut self, session: &Session, mut changes: Changes) -> Outcome<()> {
        let mut actors = Changes::follow_actors(&session.connection).await?;
        let vms = objects(&session.connection).await?.into_iter().filter_map(|(path, object)| Some((path, object.vm?)));
        let leaders: HashMap<OwnedObjectPath, u32> = vms.map(|(path, vm)| (path, vm.leader)).collect();
        changes.forget();

        let killed = Instant::now();
        leaders.values().copied().for_each(end);
        let mut dues = HashMap::new();
        let planned = |change: &Change| {
            // What is in a VM has an actor, too.
            if let Some(due @ 1..) = change.number("NextRestartAt")
                && leaders.contains_key(&change.path)
            {
                dues.insert(change.path.clone(), due);
            }
            dues.len() == leaders.len()
        };
        let told = actors.first("all VMs are to be started again", planned).await?;
        let running = changes.until_all(leaders.into_keys(), "State", Variant::from("running")).await?;

        let waits = dues.into_values().map(|due| due::instant(due).saturating_duration_since(killed));
        let mut schedule: Vec<_> = waits.collect();
        schedule.sort_unstable();
        let (Some(&first), Some(&last)) = (schedule.first(), schedule.last()) else {
            return Err("there is no VM".into());
        };
        self.told.push(told - killed);
        self.first_due.push(first);
        self.last_due.push(last);
        self.running.push(running - killed);
        self.after.push((running - killed).saturating_sub(last));
        self.schedules.push(schedule);
        Ok(())
    }

    fn describe(&self, report: &mut Report, bare: &Bare) {
        report.columns(&["from the first SIGKILL", "median", "largest"]);
        for (what, samples) in [
            ("until a client was told of every death, and when each is started again", &self.told),
            ("until the first back-off is over", &self.first_due),
            ("until the last back-off is over", &self.last_due),
            ("**until all run**", &self.running),
            ("bare: until all run", &bare.running),
            ("from the end of the last back-off until all run", &self.after),
            ("bare: from then until all run", &bare.after),
        ] {
            let cells = [samples.median(), samples.percentile(100)].map(duration);
            report.row(&[vec![format!("{what} ({})", samples.len())], cells.to_vec()].concat());
        }
        let ratio = self.running.median().as_secs_f64() / bare.running.median().as_secs_f64();
        report.row(&["until all run ÷ bare".to_owned(), format!("{ratio:.2} ×"), "–".to_owned()]);
    }
}

impl Bare {
    /// As a script would bring them back.
    fn storm(&mut self, session: &Session, schedule: &[Duration]) -> Outcome<()> {
        let vmms = (0..schedule.len()).map(|number| BareVmm::run(session, number));
        let mut vmms = vmms.collect::<Outcome<Vec<_>>>()?;
        let killed = Instant::now();
        vmms.iter_mut().try_for_each(BareVmm::kill)?;
        vmms.iter_mut().try_for_each(BareVmm::wait)?;
        for (vmm, due) in vmms.iter_mut().zip(schedule) {
            sleep(due.saturating_sub(killed.elapsed()));
            vmm.spawn()?;
        }
        vmms.iter().try_for_each(BareVmm::wait_ready)?;
        let running = killed.elapsed();
        self.running.push(running);
        self.after.push(running.saturating_sub(schedule.last().copied().unwrap_or_default()));
        Ok(())
    }
}

/// What a client noticed.
fn compare(report: &mut Report, quiet: &Caller, stormy: &Caller) {
    report.line(
        "\nMeanwhile a client on a connection of its own reads the `State` of one of them with `Properties.Get`, over and \
         over, and calls an empty method of a bare service in between: that service has nothing to do with any of it, \
         so what it loses in the storm is the machine's doing. The same before the storm, for as long.\n",
    );
    report.spread("a call");
    report.percentiles("`Get`, quiet", &quiet.get);
    report.percentiles("`Get`, in the storm", &stormy.get);
    report.percentiles("an empty method, quiet", &quiet.empty);
    report.percentiles("an empty method, in the storm", &stormy.empty);
    report.ratios("`Get`: storm ÷ quiet", &stormy.get, &quiet.get);
    report.ratios("an empty method: storm ÷ quiet", &stormy.empty, &quiet.empty);
    report.ratios("in the storm: `Get` ÷ an empty method", &stormy.get, &stormy.empty);
}

/// Has their failures forgotten.
async fn forgive(session: &Session, vms: &[OwnedObjectPath]) -> Outcome<()> {
    let forgiving =
        vms.iter().map(|path| async move { Ok::<_, Box<_>>(session.actor(path).await?.reset_failed().await?) });
    stream::iter(forgiving).buffer_unordered(8).try_collect().await
}
