//! What a daemon costs that has nothing to do.

use std::{fs, time::Duration};

use nexus_dbus::client::objects;
use tokio::time::sleep;

use crate::{
    Outcome,
    changes::Changes,
    fleet::{self, AfterDeath},
    machine,
    report::{Report, duration},
    samples::Samples,
    scale::Scale,
    session::{Programs, Session},
};

/// What a process has of the machine.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Resident memory in KiB.
    resident: u64,
    /// The share of it that is the process's own, in KiB.
    proportional: u64,
    /// How often its threads gave the processor back by themselves, so far.
    switches: u64,
    /// Processor time so far.
    cpu: Duration,
}

/// Measures it.
///
/// # Errors
/// When a daemon does not come up, or a VM does not start.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    report.section(
        "An idle daemon",
        "nexusd with `process` VMs, all of them running, against a bare zbus service. Start-up is from the execution of the \
         program until its name is on the bus: with so many rows of VMs that never ran, and with so many VMs that run and are \
         adopted. Memory and voluntary context switches (of all threads) are those of the adopting daemon, once every guest \
         has answered it; meanwhile the only thing that ticks is the heartbeat, every 10 s, and each VM is pinged at that.",
    );
    report.columns(&[
        "",
        "start-up, stopped",
        "start-up, adopting",
        "all guests answer after",
        "RSS",
        "PSS",
        "switches/min",
        "per VM and heartbeat",
        "CPU",
    ]);
    bare(report, scale, programs).await?;
    for count in scale.fleets {
        fleet(report, scale, programs, *count).await?;
    }
    Ok(())
}

async fn bare(report: &mut Report, scale: &Scale, programs: &Programs) -> Outcome<()> {
    let mut session = Session::start(programs, None).await?;
    let mut startup = Samples::default();
    for _ in 0..scale.startups {
        session.end_service().await?;
        startup.push(session.start_service().await?);
    }
    let (before, after) = watch(session.service_pid()?, scale.idle).await?;
    let cells = [duration(startup.median()), "–".to_owned(), "–".to_owned()];
    row(report, scale, "a bare zbus service".to_owned(), cells, before, after, 0);
    Ok(())
}

async fn fleet(report: &mut Report, scale: &Scale, programs: &Programs, count: usize) -> Outcome<()> {
    let mut session = Session::start(programs, None).await?;
    session.start_daemon().await?;
    let vms = fleet::create(&session, count, AfterDeath::Down).await?;
    let mut stopped = Samples::default();
    for _ in 0..scale.startups {
        session.end_daemon().await?;
        stopped.push(session.start_daemon().await?);
    }
    fleet::start(&session, &vms).await?;

    let (mut adopting, mut answering) = (Samples::default(), Samples::default());
    for _ in 0..scale.startups {
        session.end_daemon().await?;
        let mut changes = Changes::follow(&session.connection).await?;
        adopting.push(session.start_daemon().await?);
        let named = std::time::Instant::now();
        changes.all_ready(&session.connection).await?;
        answering.push(named.elapsed());
    }
    let running = objects(&session.connection).await?.into_values().filter_map(|object| object.vm);
    let running = running.filter(|vm| vm.state == "running" && vm.guest_ready).count();
    if running != count {
        return Err(format!("{running} of {count} VMs run").into());
    }
    let (before, after) = watch(session.daemon_pid()?, scale.idle).await?;
    let cells = if count == 0 {
        [duration(stopped.median()), "–".to_owned(), "–".to_owned()]
    } else {
        [duration(stopped.median()), duration(adopting.median()), duration(answering.median())]
    };
    row(report, scale, format!("nexusd, {count} VMs"), cells, before, after, count);
    Ok(())
}

fn row(
    report: &mut Report,
    scale: &Scale,
    what: String,
    startup: [String; 3],
    before: Usage,
    after: Usage,
    count: usize,
) {
    let minutes = scale.idle.as_secs_f64() / 60.0;
    let per_minute = |count: u64| count as f64 / minutes;
    let switches = per_minute(after.switches - before.switches);
    let each = if count == 0 { "–".to_owned() } else { format!("{:.2}", switches / (6.0 * count as f64)) };
    let mebibytes = |kibibytes: u64| format!("{:.1} MiB", kibibytes as f64 / 1024.0);
    let busy = (after.cpu - before.cpu).as_secs_f64() / scale.idle.as_secs_f64();
    let [stopped, adopting, answering] = startup;
    report.row(&[
        what,
        stopped,
        adopting,
        answering,
        mebibytes(after.resident),
        mebibytes(after.proportional),
        format!("{switches:.0}"),
        each,
        format!("{:.2} %", busy * 100.0),
    ]);
}

/// A process that is left alone for a while, before and after.
async fn watch(pid: u32, idle: Duration) -> Outcome<(Usage, Usage)> {
    // What its start has caused is over by then.
    sleep(idle / 20).await;
    let before = Usage::of(pid)?;
    sleep(idle).await;
    Ok((before, Usage::of(pid)?))
}

impl Usage {
    fn of(pid: u32) -> Outcome<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |text: &str, name: &str| -> Outcome<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
            Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
        };
        let mut switches = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            switches += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(Self {
            resident: field(&rollup, "Rss:")?,
            proportional: field(&rollup, "Pss:")?,
            switches,
            cpu: machine::cpu_time(pid)?,
        })
    }
}
