//! Rounds: everybody acts and breaks at once, everything heals, everything is looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use nexus_dbus::client::{ImageProxy, Options, VmProxy, WorkspaceProxy};
use zbus::{Connection, proxy::CacheProperties};

use crate::{
    Order, PATIENCE, Vmm,
    check::{Observation, Violation},
    client::{Record, act, supervised, wait},
    ear::Ear,
    expectation::Expectations,
    fault,
    level::{Level, trend},
    plan::Round,
    world::World,
};

/// How long everything may take to be at rest once it can be: a restart may be waited for, up to its longest back-off.
const REST: Duration = Duration::from_secs(200);
/// How long clients get to come by a failpoint.
const COME_BY: Duration = Duration::from_secs(2);
/// After how many rounds nexusd is emptied, and what it still holds is compared.
const LEVEL_EVERY: usize = 20;
/// The same where that takes a minute: see [`Course::jobs_forgotten`].
const STEADY_LEVEL_EVERY: usize = 50;
/// How fast the heap may grow while nexusd is emptied every few rounds, in bytes a round.
const HEAP_SLOPE: f64 = 2048.0;

/// How a run went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rounds: usize,
    calls: usize,
    refused: usize,
    faults: usize,
    starts: usize,
    strangers: usize,
    /// Rounds in which one client heard the same nexusd from beginning to end.
    heard: usize,
    settle_max: Duration,
    /// What it waited for in the one that took longest.
    settle_reason: Vec<String>,
    heap: Vec<(usize, i64)>,
    took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds in {:.0} s: {} calls ({} failed or were refused), {} faults, {} starts of nexusd, {} reused process \
             ids; {} rounds were heard from beginning to end; at rest it was well within {:.2} s",
            self.rounds,
            self.took.as_secs_f64(),
            self.calls,
            self.refused,
            self.faults,
            self.starts,
            self.strangers,
            self.heard,
            self.settle_max.as_secs_f64(),
        )?;
        if !self.settle_reason.is_empty() {
            write!(f, " ({})", self.settle_reason.join("; "))?;
        }
        if let Some(slope) = trend(&self.heap) {
            write!(f, "; the heap grows by {slope:.0} bytes a round")?;
        }
        Ok(())
    }
}

/// The round that went wrong, and how.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) round: usize,
    pub(crate) violation: Violation,
    pub(crate) log: String,
}

/// Runs them one after the other.
pub(crate) async fn run(rounds: &[Round], order: &Order) -> Result<Report, Failure> {
    let world = World::new(order.vmm).await;
    world.furnish().await;
    let world = Arc::new(world);
    let mut course = Course {
        vms: if order.vmm == Vmm::Qemu { 2 } else { 4 },
        steady: order.steady,
        settle: order.settle,
        world: world.clone(),
        expectations: Expectations::default(),
        ear: Ear::listen(world.clone()),
        level: None,
        heap_of: 0,
        report: Report::default(),
    };
    let begun = Instant::now();
    let mut result = Ok(());
    let mut interrupted = std::pin::pin!(crate::interrupted());
    for (number, round) in rounds.iter().enumerate() {
        let last = number + 1 == rounds.len();
        let done = tokio::select! {
            done = course.round(number, round, last) => done,
            violation = &mut interrupted => Err(violation),
        };
        if rounds.len() > 30 && number % LEVEL_EVERY == 0 {
            course.report.took = begun.elapsed();
            course.report.starts = world.starts.load(Ordering::SeqCst);
            course.report.strangers = world.strangers.load(Ordering::SeqCst);
            eprintln!("round {number} of {}: {}", rounds.len(), course.report);
        }
        if let Err(violation) = done {
            let log = fs::read_to_string(world.log_file()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(150).collect();
            let log = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            result = Err(Failure { round: number, violation, log });
            break;
        }
    }
    let mut report = std::mem::take(&mut course.report);
    report.took = begun.elapsed();
    report.starts = world.starts.load(Ordering::SeqCst);
    report.strangers = world.strangers.load(Ordering::SeqCst);
    drop(course);
    if let Ok(mut world) = Arc::try_unwrap(world) {
        world.end().await;
    }
    result?;
    if rounds.len() >= 10 && report.heard == 0 {
        let violation = Violation::Untold("no round was heard from beginning to end".to_owned());
        return Err(Failure { round: rounds.len(), violation, log: String::new() });
    }
    Ok(report)
}

struct Course {
    vms: u8,
    steady: bool,
    settle: Duration,
    world: Arc<World>,
    expectations: Expectations,
    ear: Ear,
    level: Option<Level>,
    /// Whose heap the report has.
    heap_of: i32,
    report: Report,
}

impl Course {
    async fn round(&mut self, number: usize, round: &Round, last: bool) -> Result<(), Violation> {
        // Only the newest log matters.
        let _ = fs::OpenOptions::new().write(true).truncate(true).open(self.world.log_file());
        let bus = self.world.connect().await;
        let owner = self.ear.begin();
        let before = self.histories(&bus).await;
        let clients = round.clients.iter().map(|ops| tokio::spawn(act(self.world.clone(), ops.clone())));
        let mut clients = tokio::spawn(join_all(clients.collect::<Vec<_>>()));
        fault::strike(self.world.clone(), round.faults.clone()).await;
        let software = round.faults.iter().any(|(_, fault)| fault.is_fault_of_software());
        // A place may be reached only when the clients come by, which may stand still there.
        let acted = if software { tokio::time::timeout(COME_BY, &mut clients).await.ok() } else { None };
        fault::heal(&self.world);
        let acted = match acted {
            Some(acted) => acted,
            None => clients.await,
        };
        let mut records = Vec::new();
        for client in acted.expect("nobody panics") {
            records.extend(client.expect("a client does not panic")?);
        }
        // Whatever was set off late.
        fault::heal(&self.world);
        self.count(round, &records);
        self.expectations.learn(&records);
        let seen = self.settled(software).await?;
        if self.world.strangers_harmed.load(Ordering::SeqCst) > 0 {
            return Err(Violation::Harmed);
        }
        self.compare_signals().await?;
        if owner.is_some() && self.ear.owner() == owner {
            self.compare_states(&before).await?;
            self.report.heard += 1;
        }
        self.expectations.take_over(&seen, self.vms);
        let every = if self.steady { STEADY_LEVEL_EVERY } else { LEVEL_EVERY };
        if number % every == every - 1 || number == 0 || last {
            self.compare_levels(number).await?;
        }
        Ok(())
    }

    fn count(&mut self, round: &Round, records: &[Record]) {
        self.report.rounds += 1;
        self.report.calls += records.len();
        self.report.refused += records.iter().filter(|record| record.result.is_err()).count();
        self.report.faults += round.faults.len();
    }

    /// Waits until everything is at rest and well. Only what had more faults of its `software` than it may have waits to be
    /// told to go on; whatever else befell it, it does so by itself.
    async fn settled(&mut self, software: bool) -> Result<Observation, Violation> {
        let end = Instant::now() + REST;
        let mut at_rest: Option<Instant> = None;
        let mut reset = BTreeSet::new();
        let mut last_wrong = Vec::new();
        let mut bus = self.world.connect().await;
        loop {
            let look = tokio::time::timeout(PATIENCE, Observation::take(&self.world, &bus)).await;
            let (busy, wrong) = match look {
                Ok(Ok(seen)) => {
                    let busy = seen.busy(&self.world);
                    let mut wrong = seen.wrong(&self.world);
                    wrong.extend(self.expectations.broken(&seen));
                    if busy.is_empty() && wrong.is_empty() {
                        let settled = at_rest.map_or(Duration::ZERO, |since| since.elapsed());
                        if settled > self.report.settle_max {
                            (self.report.settle_max, self.report.settle_reason) = (settled, last_wrong);
                        }
                        return Ok(seen);
                    }
                    for path in seen.given_up() {
                        if software
                            && reset.insert(path.as_str().to_owned())
                            && let Ok(actor) = supervised(&bus, &path).await
                        {
                            let _ = actor.reset_failed().await;
                            at_rest = None;
                        }
                    }
                    (busy, wrong)
                }
                Ok(Err(error)) => {
                    bus = self.world.connect().await;
                    (vec![error], Vec::new())
                }
                Err(_) => return Err(Violation::NoReply("GetManagedObjects".to_owned())),
            };
            if busy.is_empty() {
                let since = *at_rest.get_or_insert_with(Instant::now);
                if since.elapsed() > self.settle {
                    return Err(Violation::Wrong(wrong));
                }
                last_wrong = wrong;
            } else {
                at_rest = None;
                if Instant::now() > end {
                    return Err(Violation::Restless(busy.into_iter().chain(wrong).collect()));
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many transitions each VM has had, by its id.
    async fn histories(&self, bus: &Connection) -> BTreeMap<String, (String, Vec<String>)> {
        let mut histories = BTreeMap::new();
        let Ok(seen) = Observation::take(&self.world, bus).await else { return histories };
        for (path, vm) in seen.vms() {
            let builder = VmProxy::builder(bus).path(path.clone()).cache_properties(CacheProperties::No);
            let Ok(proxy) = builder.build().await else { continue };
            let Ok(history) = proxy.get_history(0).await else { continue };
            let states = history.into_iter().rev().map(|(_, state, ..)| state).collect();
            histories.insert(path.as_str().to_owned(), (vm.id.clone(), states));
        }
        histories
    }

    /// Whoever only listens knows what is there.
    async fn compare_signals(&self) -> Result<(), Violation> {
        let end = Instant::now() + self.settle;
        loop {
            let untold = match self.ear.untold(&self.world.connect().await).await {
                Ok(untold) if untold.is_empty() => return Ok(()),
                Ok(untold) => untold,
                Err(error) => vec![error.to_string()],
            };
            if Instant::now() > end {
                return Err(Violation::Untold(untold.join("\n  ")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Each transition of each VM that is there was told once, and in order.
    async fn compare_states(&self, before: &BTreeMap<String, (String, Vec<String>)>) -> Result<(), Violation> {
        let after = self.histories(&self.world.connect().await).await;
        for (path, (id, now)) in after {
            // Of a thousand events of a VM the oldest are forgotten.
            if now.len() >= 300 {
                continue;
            }
            let old = before.get(&path).filter(|(same, _)| *same == id).map(|(_, states)| states);
            let mut happened = now[old.map_or(0, Vec::len)..].to_vec();
            happened.dedup();
            let mut told = self.ear.states(&path);
            match old.map(|states| states.last()) {
                Some(before) if before.is_some() && happened.first() == before => drop(happened.remove(0)),
                Some(_) => {}
                // What it is when it is shown is told with it, and that it was created is no transition.
                None if told.first().is_some_and(|state| state == "created") => drop(told.remove(0)),
                None => drop(happened.drain(..happened.len().saturating_sub(told.len()))),
            }
            if told != happened {
                return Err(Violation::Untold(format!("{path} was {happened:?}, and was told to be {told:?}")));
            }
        }
        Ok(())
    }

    /// Empties nexusd, and compares what it holds then.
    async fn compare_levels(&mut self, number: usize) -> Result<(), Violation> {
        self.empty().await.map_err(|error| Violation::Wrong(vec![format!("it can't be emptied: {error}")]))?;
        self.expectations.forget();
        if self.steady {
            self.jobs_forgotten().await?;
        }
        let end = Instant::now() + self.settle;
        loop {
            let seen = self.settled(false).await?;
            let Some(level) = Level::take(&self.world, &seen).await else { continue };
            let above = self.level.as_ref().and_then(|before| level.above(before));
            match above {
                Some(above) if Instant::now() > end => return Err(Violation::Leak(above)),
                Some(_) => tokio::time::sleep(Duration::from_millis(200)).await,
                None => {
                    if self.heap_of != level.pid {
                        (self.heap_of, self.report.heap) = (level.pid, Vec::new());
                    }
                    self.report.heap.push((number, level.heap_bytes));
                    // The first is what all others are compared with.
                    self.level.get_or_insert(level);
                    break;
                }
            }
        }
        if self.steady
            && self.report.heap.len() >= 12
            && let Some(slope) = trend(&self.report.heap)
            && slope > HEAP_SLOPE
        {
            return Err(Violation::Leak(format!("the heap grows by {slope:.0} bytes a round: {:?}", self.report.heap)));
        }
        Ok(())
    }

    /// Jobs that have ended are shown for a minute more, and how many those are depends on how fast rounds go.
    async fn jobs_forgotten(&mut self) -> Result<(), Violation> {
        let end = Instant::now() + 2 * PATIENCE;
        while self.settled(false).await?.objects.values().any(|object| object.job.is_some()) {
            if Instant::now() > end {
                return Err(Violation::Leak("jobs that have ended".to_owned()));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    async fn empty(&self) -> Result<(), nexus_dbus::Error> {
        let bus = self.world.connect().await;
        let all = nexus_dbus::client::objects(&bus).await?;
        for (path, _) in all.iter().filter(|(_, object)| object.vm.is_some()) {
            let vm = VmProxy::builder(&bus).path(path.clone()).cache_properties(CacheProperties::No).build().await?;
            let options = Options::from([("force", true.into()), ("remove-workspaces", true.into())]);
            wait(&bus, vm.remove(options).await?).await?;
        }
        let all = nexus_dbus::client::objects(&bus).await?;
        for (path, _) in all.iter().filter(|(_, object)| object.workspace.is_some()) {
            let disk =
                WorkspaceProxy::builder(&bus).path(path.clone()).cache_properties(CacheProperties::No).build().await?;
            wait(&bus, disk.remove(Options::new()).await?).await?;
        }
        for (path, object) in &all {
            if object.image.as_ref().is_some_and(|image| image.name != "base") {
                let image =
                    ImageProxy::builder(&bus).path(path.clone()).cache_properties(CacheProperties::No).build().await?;
                wait(&bus, image.remove(Options::new()).await?).await?;
            }
        }
        Ok(())
    }
}
