//! How every supervised actor is, for whoever shows it.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use nexus_model::{Health, Timestamp, restart::Intensity};
use tokio::sync::mpsc;

use super::Strategy;

/// Takes every change of every status in a tree, in order and without loss.
pub type StatusSink = mpsc::UnboundedSender<StatusChange>;

/// How one supervised actor is. Counters only ever go up while it is in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildStatus {
    /// Its place in the tree, such as `root/vms/vm-web/machine`.
    pub path: String,
    /// The path of its supervisor; none at the root.
    pub supervisor: Option<String>,
    /// Its place among its supervisor's children, which are started in this order. A number that grows with each actor
    /// that comes into the tree, and stays the same for as long as the actor is in it.
    pub order: u64,
    /// When it is a supervisor, and has started.
    pub strategy: Option<Strategy>,
    /// How many faults it may have; none at the root.
    pub intensity: Option<Intensity>,
    /// How it is: [`Health::Ok`] when it is up and has reported nothing else.
    pub health: Health,
    /// The number of its current or last incarnation; 0 before the first. A start that failed has a number, too.
    pub generation: u64,
    /// How often it was started again, for whatever reason.
    pub restart_count: u64,
    /// Failures of the thing that it stands for, as it [reported](Reporter::count_failure) them.
    pub failure_count: u64,
    /// Its own faults: it panicked, returned an error, did not start, or ended unasked.
    pub fault_count: u64,
    /// When the last fault was.
    pub last_fault_at: Timestamp,
    /// What the last fault was; empty before the first.
    pub last_fault_reason: String,
    /// When it, or the thing that it stands for, is started again, while that is waited for.
    pub next_restart_at: Timestamp,
    /// When its incarnation came up; never while it is not up.
    pub started_at: Timestamp,
}

/// What happened to a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusChange {
    /// There is a new actor in the tree.
    Added(ChildStatus),
    /// At least one field differs from what was sent before.
    Changed(ChildStatus),
    /// The actor of this path is gone for good; whatever was below it was removed before.
    Removed(String),
}

/// The statuses of a whole tree: readable at any time, each change sent to one [`StatusSink`]. Clones are the same board.
///
/// A row belongs to the supervisor of its actor and lives until that forgets the child. It survives a restart of the
/// supervisor itself: the rows below show [`Health::Restarting`] meanwhile, and the generation goes on from there.
#[derive(Clone)]
pub struct StatusBoard {
    table: Arc<Mutex<Table>>,
}

struct Table {
    rows: BTreeMap<String, Row>,
    /// How many there ever were.
    added: u64,
    sink: StatusSink,
}

struct Row {
    status: ChildStatus,
    /// What the incarnation said of itself.
    reported: Option<Health>,
    /// Whether the incarnation of `status.generation` may still say something.
    open: bool,
    /// Whether it is up, so that what it says shows.
    up: bool,
}

impl StatusBoard {
    /// An empty board. A sink whose receiver is gone is no error.
    #[must_use]
    pub fn new(sink: StatusSink) -> Self {
        Self { table: Arc::new(Mutex::new(Table { rows: BTreeMap::new(), added: 0, sink })) }
    }

    /// The status of the actor at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<ChildStatus> {
        self.lock().rows.get(path).map(|row| row.status.clone())
    }

    /// Every status, ordered by path.
    #[must_use]
    pub fn all(&self) -> Vec<ChildStatus> {
        self.lock().rows.values().map(|row| row.status.clone()).collect()
    }

    /// Adds a row, or takes it over from an earlier incarnation of the supervisor. Returns the generation of the child's
    /// next incarnation, at least `generation`.
    pub(super) fn add(
        &self,
        path: &str,
        supervisor: Option<&str>,
        intensity: Option<Intensity>,
        generation: u64,
    ) -> u64 {
        let mut table = self.lock();
        if let Some(row) = table.rows.get(path) {
            let next = row.status.generation.saturating_add(1).max(generation);
            table.change(path, |row| {
                row.status.intensity = intensity;
                row.end(Health::Restarting);
            });
            return next;
        }
        table.added += 1;
        let status = ChildStatus {
            path: path.to_owned(),
            supervisor: supervisor.map(str::to_owned),
            order: table.added,
            strategy: None,
            intensity,
            health: Health::Restarting,
            generation: 0,
            restart_count: 0,
            failure_count: 0,
            fault_count: 0,
            last_fault_at: Timestamp::NEVER,
            last_fault_reason: String::new(),
            next_restart_at: Timestamp::NEVER,
            started_at: Timestamp::NEVER,
        };
        table.send(StatusChange::Added(status.clone()));
        table.rows.insert(path.to_owned(), Row { status, reported: None, open: false, up: false });
        generation
    }

    /// An incarnation is being started.
    pub(super) fn starting(&self, path: &str, generation: u64) {
        self.lock().change(path, |row| {
            if row.status.generation != 0 {
                row.status.restart_count += 1;
            }
            row.status.generation = generation;
            row.end(Health::Restarting);
            row.reported = None;
            row.open = true;
        });
    }

    /// The incarnation is up.
    pub(super) fn up(&self, path: &str, now: Timestamp) {
        self.lock().change(path, |row| {
            row.up = true;
            row.status.started_at = now;
            row.status.health = row.reported.unwrap_or(Health::Ok);
        });
    }

    /// The actor is not up, and neither is anything below it.
    pub(super) fn down(&self, path: &str, health: Health, next_restart_at: Timestamp) {
        let mut table = self.lock();
        table.change(path, |row| {
            row.end(health);
            row.status.next_restart_at = next_restart_at;
        });
        for below in table.below(path) {
            table.change(&below, |row| row.end(health));
        }
    }

    /// Counts a fault and ends the incarnation, as [`down`](Self::down) does.
    pub(super) fn fault(&self, path: &str, reason: &str, now: Timestamp, health: Health, next_restart_at: Timestamp) {
        let mut table = self.lock();
        table.change(path, |row| {
            row.status.fault_count += 1;
            row.status.last_fault_at = now;
            reason.clone_into(&mut row.status.last_fault_reason);
            row.end(health);
            row.status.next_restart_at = next_restart_at;
        });
        for below in table.below(path) {
            table.change(&below, |row| row.end(health));
        }
    }

    /// A supervisor has started here, with these children; rows of children that it doesn't have any more go.
    pub(super) fn supervises(&self, path: &str, strategy: Strategy, children: &HashSet<&str>) {
        let mut table = self.lock();
        table.change(path, |row| row.status.strategy = Some(strategy));
        let forgotten: Vec<String> = table
            .below(path)
            .into_iter()
            .filter(|below| {
                let child = below[path.len() + 1..].split('/').next().unwrap_or_default();
                !children.contains(child)
            })
            .collect();
        for below in forgotten.iter().rev() {
            table.remove(below);
        }
    }

    /// The actor at `path` is forgotten, with whatever is below it.
    pub(super) fn remove(&self, path: &str) {
        let mut table = self.lock();
        for below in table.below(path).iter().rev() {
            table.remove(below);
        }
        table.remove(path);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code of others runs under the lock, so a poisoned table is still whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for StatusBoard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lock().rows.keys()).finish()
    }
}

impl Row {
    fn end(&mut self, health: Health) {
        self.open = false;
        self.up = false;
        self.status.health = health;
        self.status.started_at = Timestamp::NEVER;
        self.status.next_restart_at = Timestamp::NEVER;
    }
}

impl Table {
    fn change(&mut self, path: &str, change: impl FnOnce(&mut Row)) {
        let Some(row) = self.rows.get_mut(path) else { return };
        let before = row.status.clone();
        change(row);
        if row.status != before {
            let status = row.status.clone();
            self.send(StatusChange::Changed(status));
        }
    }

    fn remove(&mut self, path: &str) {
        if self.rows.remove(path).is_some() {
            self.send(StatusChange::Removed(path.to_owned()));
        }
    }

    /// The paths below `path`, parents before their children.
    fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        self.rows
            .range::<str, _>((Bound::Excluded(prefix.as_str()), Bound::Unbounded))
            .map(|(below, _)| below)
            .take_while(|below| below.starts_with(&prefix))
            .cloned()
            .collect()
    }

    fn send(&self, change: StatusChange) {
        // Nobody may be listening any more, as at the end of the process.
        let _ = self.sink.send(change);
    }
}

/// Lets an actor say how it is. What it says counts for its incarnation only: from one that has ended, or is being
/// replaced, it is ignored.
#[derive(Clone, Debug)]
pub struct Reporter {
    board: StatusBoard,
    path: String,
    generation: u64,
}

impl Reporter {
    pub(super) const fn new(board: StatusBoard, path: String, generation: u64) -> Self {
        Self { board, path, generation }
    }

    /// The actor is up and as well as this. Said before it is up, it shows when it is.
    pub fn set_health(&self, health: Health) {
        self.change(|row| {
            row.reported = Some(health);
            if row.up {
                row.status.health = health;
            }
        });
    }

    /// The thing that the actor stands for is started again at that time; [`Timestamp::NEVER`] when it isn't. Forgotten
    /// with the incarnation.
    pub fn set_next_restart(&self, at: Timestamp) {
        self.change(|row| row.status.next_restart_at = at);
    }

    /// The thing that the actor stands for has failed so often before, as whoever remembers it knows.
    pub fn set_failures(&self, count: u64) {
        self.change(|row| row.status.failure_count = count);
    }

    /// The thing that the actor stands for has failed. Counted apart from the actor's own faults; restarts nothing.
    pub fn count_failure(&self) {
        self.change(|row| row.status.failure_count += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Row)) {
        self.board.lock().change(&self.path, |row| {
            if row.open && row.status.generation == self.generation {
                change(row);
            }
        });
    }
}
