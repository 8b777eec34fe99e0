//! Whether bus, store and machine agree, and nothing is down or up that should not be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use nexus_dbus::client::{Interfaces, ManagerProxy, SupervisedProperties, VmProperties, objects};
use rusqlite::{Connection as Database, OpenFlags};
use zbus::{Connection, OwnedObjectPath};

use crate::{Vmm, world::World};

/// Ten times what a guest's boot was seen to take.
const BOOT: Duration = Duration::from_secs(60);

/// What must never be.
#[derive(Debug)]
pub(crate) enum Violation {
    /// A call that nobody answered.
    NoReply(String),
    /// It does not come to rest.
    Restless(Vec<String>),
    /// It is at rest, and not as it should be.
    Wrong(Vec<String>),
    /// What was told of a VM's states is not what happened.
    Untold(String),
    /// Something is left over.
    Leak(String),
    /// A process was killed that was none of ours.
    Harmed,
    /// Somebody wants no more of it.
    Interrupted,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoReply(call) => write!(f, "no reply to {call}"),
            Self::Restless(what) => write!(f, "it does not come to rest:\n  {}", what.join("\n  ")),
            Self::Wrong(what) => write!(f, "it is not as it should be:\n  {}", what.join("\n  ")),
            Self::Untold(what) => write!(f, "signals and history differ: {what}"),
            Self::Leak(what) => write!(f, "something is left: {what}"),
            Self::Interrupted => f.write_str("it was interrupted"),
            Self::Harmed => f.write_str("a stranger that got a VMM's process id was killed"),
        }
    }
}

/// A VM as the store has it.
#[derive(Clone, Debug)]
pub(crate) struct VmRow {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) desired: String,
    pub(crate) policy: String,
    /// Whether the next nexusd starts it by itself.
    pub(crate) starts_with_daemon: bool,
    leader: Option<u32>,
}

/// Everything at one instant.
pub(crate) struct Observation {
    pub(crate) objects: HashMap<OwnedObjectPath, Interfaces>,
    pub(crate) rows: BTreeMap<String, VmRow>,
    workspaces: BTreeMap<String, PathBuf>,
    images: BTreeSet<String>,
    unfinished_jobs: u32,
    orphans: Vec<(String, String, String)>,
}

impl Observation {
    pub(crate) async fn take(world: &World, bus: &Connection) -> Result<Self, String> {
        let objects = objects(bus).await.map_err(|error| error.to_string())?;
        let manager = ManagerProxy::new(bus).await.map_err(|error| error.to_string())?;
        let orphans = manager.list_orphans().await.map_err(|error| error.to_string())?;
        let path = world.home.database();
        let read = tokio::task::spawn_blocking(move || read(&path)).await.map_err(|error| error.to_string())?;
        let (rows, workspaces, images, unfinished_jobs) = read.map_err(|error| error.to_string())?;
        Ok(Self { objects, rows, workspaces, images, unfinished_jobs, orphans })
    }

    pub(crate) fn vms(&self) -> impl Iterator<Item = (&OwnedObjectPath, &VmProperties)> {
        self.objects.iter().filter_map(|(path, object)| Some((path, object.vm.as_ref()?)))
    }

    /// When the VM is to be started again; 0 when it is not.
    pub(crate) fn next_restart_at(&self, path: &OwnedObjectPath) -> u64 {
        let actor = self.objects.get(path).and_then(|object| object.supervised.as_ref());
        actor.map_or(0, |actor| actor.next_restart_at)
    }

    /// What is still under way.
    pub(crate) fn busy(&self, world: &World) -> Vec<String> {
        let jobs = self.objects.values().filter_map(|object| object.job.as_ref());
        let jobs = jobs.filter(|job| job.finished_at == 0).map(|job| format!("job {} ({})", job.id, job.kind));
        let vms = self.vms().filter(|(_, vm)| matches!(vm.state.as_str(), "starting" | "stopping"));
        let vms = vms.map(|(_, vm)| format!("VM {} is {}", vm.name, vm.state));
        // A kernel takes its time, without hardware virtualization more of it.
        let boots = |vm: &VmProperties| vm.state == "running" && !vm.guest_ready && age(vm.started_at) < BOOT;
        let booting = self.vms().filter(|(_, vm)| world.vmm == Vmm::Qemu && boots(vm));
        let booting = booting.map(|(_, vm)| format!("VM {} boots", vm.name));
        let waits = self.vms().filter(|(path, _)| self.next_restart_at(path) != 0);
        let waits = waits.map(|(_, vm)| format!("VM {} is about to start", vm.name));
        let actors = self.objects.iter().filter(|(_, object)| {
            let vm = object.vm.is_some();
            let waits = |actor: &SupervisedProperties| actor.health == "restarting" || actor.next_restart_at != 0;
            object.supervised.as_ref().is_some_and(|actor| !vm && waits(actor))
        });
        let actors = actors.map(|(path, _)| format!("{path} is being restarted"));
        let disks = self.objects.values().filter_map(|object| object.workspace.as_ref());
        let disks = disks.filter(|disk| matches!(disk.state.as_str(), "creating" | "removing"));
        let disks = disks.map(|disk| format!("workspace {} is {}", disk.name, disk.state));
        jobs.chain(vms).chain(booting).chain(waits).chain(actors).chain(disks).collect()
    }

    /// Actors that have given up.
    pub(crate) fn given_up(&self) -> Vec<OwnedObjectPath> {
        let unwell = self.objects.iter().filter(|(_, object)| {
            let (Some(actor), vm) = (&object.supervised, &object.vm) else { return false };
            let broken = object.workspace.as_ref().is_some_and(|disk| disk.state == "failed");
            actor.health == "unmanaged" || (actor.health == "failed" && vm.is_none() && !broken)
        });
        unwell.map(|(path, _)| path.clone()).collect()
    }

    /// Everything that is not as it should be.
    pub(crate) fn wrong(&self, world: &World) -> Vec<String> {
        let mut wrong = Vec::new();
        self.compare_vms(&mut wrong);
        self.compare_actors(&mut wrong);
        self.compare_processes(world, &mut wrong);
        self.compare_files(world, &mut wrong);
        let orphans = self.orphans.iter();
        wrong.extend(orphans.map(|(kind, name, fate)| format!("orphan: {kind} {name} ({fate})")));
        if self.unfinished_jobs > 0 {
            wrong.push(format!("{} jobs have not ended in the store, and nobody does them", self.unfinished_jobs));
        }
        wrong
    }

    fn compare_vms(&self, wrong: &mut Vec<String>) {
        let shown: BTreeMap<&str, _> = self.vms().map(|(path, vm)| (vm.name.as_str(), (path, vm))).collect();
        for (name, (path, vm)) in &shown {
            let Some(row) = self.rows.get(*name) else {
                wrong.push(format!("VM {name} is on the bus and not in the store"));
                continue;
            };
            if row.state != vm.state || row.id != vm.id {
                wrong.push(format!("VM {name} is {} on the bus and {} in the store", vm.state, row.state));
            }
            let runs = matches!(vm.state.as_str(), "running" | "paused");
            if runs != (vm.leader != 0) || row.leader.unwrap_or_default() != vm.leader {
                wrong.push(format!("VM {name} is {} with process {} ({:?})", vm.state, vm.leader, row.leader));
            }
            if runs && !alive(vm.leader) {
                wrong.push(format!("VM {name} is {}, but process {} is not there", vm.state, vm.leader));
            }
            let next = self.next_restart_at(path) != 0;
            if row.desired == "running" && !runs && !next {
                wrong.push(format!("VM {name} should run, is {} ({}), and nothing follows", vm.state, vm.state_reason));
            }
            if row.desired != "running" && (runs || next) {
                wrong.push(format!("VM {name} should not run and is {} (to be started: {next})", vm.state));
            }
            if runs && !vm.guest_ready && vm.state == "running" {
                wrong.push(format!("VM {name} runs and its guest does not answer"));
            }
        }
        for name in self.rows.keys().filter(|name| !shown.contains_key(name.as_str())) {
            wrong.push(format!("VM {name} is in the store and not on the bus"));
        }
    }

    /// Every thing has its actors, and there are no others.
    fn compare_actors(&self, wrong: &mut Vec<String>) {
        for (path, vm) in self.vms() {
            let object = self.objects.get(path);
            let health = object.and_then(|object| object.supervised.as_ref()).map(|actor| actor.health.as_str());
            let expected = if matches!(vm.state.as_str(), "crashed" | "failed") { "failed" } else { "ok" };
            if health != Some(expected) {
                wrong.push(format!("VM {} is {} and its health {health:?}", vm.name, vm.state));
            }
            let prefix = format!("{path}/connection/");
            let connections = self.objects.iter().filter(|(other, _)| other.starts_with(&prefix));
            let mut kept: Vec<(&str, &str)> = connections
                .filter_map(|(_, object)| object.connection.as_ref().filter(|connection| connection.owner == "nexusd"))
                .map(|connection| (connection.kind.as_str(), connection.state.as_str()))
                .collect();
            kept.sort_unstable();
            let is_whole = kept.iter().map(|(kind, _)| *kind).eq(["agent", "bulk", "stdio", "terminal", "tools"]);
            let is_ready = vm.guest_ready && vm.state == "running";
            if !is_whole || (is_ready && kept.iter().any(|(_, state)| *state != "open")) {
                wrong.push(format!("VM {} is {} and has the connections {kept:?}", vm.name, vm.state));
            }
            let streams = vm.connections.len().saturating_sub(kept.len());
            if streams > 0 {
                wrong.push(format!("VM {} has {streams} streams of clients that are gone", vm.name));
            }
        }
        let shown: BTreeSet<&str> =
            self.objects.values().filter_map(|object| Some(object.workspace.as_ref()?.name.as_str())).collect();
        let stored: BTreeSet<&str> = self.workspaces.keys().map(String::as_str).collect();
        if shown != stored {
            wrong.push(format!("workspaces on the bus {shown:?}, in the store {stored:?}"));
        }
        let shown: BTreeSet<&str> =
            self.objects.values().filter_map(|object| Some(object.image.as_ref()?.name.as_str())).collect();
        let stored: BTreeSet<&str> = self.images.iter().map(String::as_str).collect();
        if shown != stored {
            wrong.push(format!("images on the bus {shown:?}, in the store {stored:?}"));
        }
        let supervisors = self.objects.keys().filter(|path| path.contains("/supervisor/vms_2f")).count();
        // Each has one, and its connections have another.
        if supervisors != 2 * self.rows.len() {
            wrong.push(format!("{supervisors} supervisors of {} VMs", self.rows.len()));
        }
    }

    /// Every process is some VM's.
    fn compare_processes(&self, world: &World, wrong: &mut Vec<String>) {
        let leaders: BTreeSet<i32> =
            self.vms().filter_map(|(_, vm)| i32::try_from(vm.leader).ok()).filter(|pid| *pid != 0).collect();
        for pid in world.home.processes() {
            let lineage = lineage(pid);
            // Its keeper is the parent of a leader.
            let ours = lineage.iter().any(|ancestor| leaders.contains(ancestor))
                || leaders.iter().any(|leader| parent(*leader) == Some(pid))
                || leaders.iter().filter_map(|leader| parent(*leader)).any(|keeper| lineage.contains(&keeper));
            if !ours && Some(pid) != world.pid() {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                if !line.is_empty() {
                    wrong.push(format!("process {pid} is no VM's: {line}"));
                }
            }
        }
    }

    /// Every file is some row's.
    fn compare_files(&self, world: &World, wrong: &mut Vec<String>) {
        let home = world.home.path();
        let ids: BTreeSet<&str> = self.rows.values().map(|row| row.id.as_str()).collect();
        for folder in ["run/nexus/vm", "state/nexus/vm"] {
            for name in nexus_tests::entries(&home.join(folder)).iter().filter(|name| !ids.contains(name.as_str())) {
                wrong.push(format!("{folder}/{name} is no VM's"));
            }
        }
        for (name, row) in self.rows.iter().filter(|(_, row)| row.leader.is_none()) {
            let left = nexus_tests::entries(&home.join("run/nexus/vm").join(&row.id));
            let records = left.iter().filter(|file| file.ends_with(".json") || file.ends_with(".sock"));
            let records: Vec<&String> = records.collect();
            if !records.is_empty() {
                wrong.push(format!("VM {name} is {} and has left {records:?}", row.state));
            }
        }
        let paths: BTreeSet<&Path> = self.workspaces.values().map(PathBuf::as_path).collect();
        let folder = home.join("data/nexus/workspaces");
        for name in nexus_tests::entries(&folder).iter().filter(|name| !paths.contains(folder.join(name).as_path())) {
            wrong.push(format!("workspaces/{name} is no workspace's"));
        }
        for name in
            nexus_tests::entries(&home.join("data/nexus/images")).iter().filter(|name| !self.images.contains(*name))
        {
            wrong.push(format!("images/{name} is no image's"));
        }
    }
}

type Rows = (BTreeMap<String, VmRow>, BTreeMap<String, PathBuf>, BTreeSet<String>, u32);

fn read(path: &Path) -> rusqlite::Result<Rows> {
    let database = Database::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let vms = "SELECT name, id, state, desired, spec ->> 'restart_policy', process ->> '$.leader.pid',
        spec ->> 'autostart' AND desired = 'resting' AND state <> 'crashed'
        FROM vm";
    let vm = |row: &rusqlite::Row<'_>| {
        let (state, desired, policy) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let (leader, starts_with_daemon) = (row.get(5)?, row.get(6)?);
        Ok((row.get(0)?, VmRow { id: row.get(1)?, state, desired, policy, starts_with_daemon, leader }))
    };
    let rows = database.prepare(vms)?.query_map([], vm)?.collect::<rusqlite::Result<_>>()?;
    let workspace = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, PathBuf::from(row.get::<_, String>(1)?)));
    let workspaces = database
        .prepare("SELECT name, path FROM workspace")?
        .query_map([], workspace)?
        .collect::<rusqlite::Result<_>>()?;
    let images = database
        .prepare("SELECT name FROM image")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let jobs = database.query_row("SELECT count(*) FROM job WHERE finished_at = 0", [], |row| row.get(0))?;
    Ok((rows, workspaces, images, jobs))
}

fn age(at_usec: u64) -> Duration {
    let at = UNIX_EPOCH + Duration::from_micros(at_usec);
    at.elapsed().unwrap_or_default()
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A process, its parent, and so on.
fn lineage(pid: i32) -> Vec<i32> {
    std::iter::successors(Some(pid), |pid| parent(*pid).filter(|parent| *parent > 1)).collect()
}
