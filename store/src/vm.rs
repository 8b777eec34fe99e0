//! VMs.

use std::{ops::RangeInclusive, time::Duration};

use nexus_model::{
    ArtifactName, EventKind, ExitStatus, Id, InstanceId, Name, ProcessIdentity, Timestamp,
    vm::{Desired, Lifecycle, VmSpec, VmmKind},
};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::{Deserialize, Serialize};

use crate::{
    Error, HistoryEntry, NewEvent, Noun, Store, VmOf,
    column::{At, Json, Micros, Text},
    event, history,
};

/// The vsock context ids at which an instance may begin. Below lie those that other programs give out from 3 up, such as
/// libvirt; above, as many again for an instance that begins last.
const FIRST_CIDS: RangeInclusive<u32> = 0x1_0000..=0x7fff_ffff;
/// The last context id that a guest can have: `VMADDR_CID_ANY` is 2³² − 1, see `vsock(7)`.
const LAST_CID: u32 = u32::MAX - 1;

/// A VM that is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewVm {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// What it is made of.
    pub spec: VmSpec,
    /// What somebody wants of it.
    pub desired: Desired,
    /// When it was asked for.
    pub created_at: Timestamp,
}

/// What is remembered of a VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmRow {
    /// Its id. Never changes.
    pub id: Id,
    /// Its name, unique among VMs. Never changes.
    pub name: Name,
    /// What it is made of.
    pub spec: VmSpec,
    /// What somebody wants of it; stored before anything is done about it.
    pub desired: Desired,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// What runs it, as chosen at its last start.
    pub vmm: Option<VmmKind>,
    /// The kernel of its last start.
    pub kernel: Option<ArtifactName>,
    /// The initrd of its last start, if it had one.
    pub initrd: Option<ArtifactName>,
    /// Its vsock context id: at least 3, unique here and very likely on this machine, given out by the store. Never
    /// changes.
    pub cid: u32,
    /// Its VMM, while there is one.
    pub process: Option<ProcessRow>,
    /// How its VMM last ended.
    pub exit: Option<ExitStatus>,
    /// The same for people; empty when it never ran.
    pub exit_reason: String,
    /// When it was made. Never changes.
    pub created_at: Timestamp,
    /// When it was last started.
    pub started_at: Timestamp,
    /// When its VMM last ended.
    pub stopped_at: Timestamp,
    /// From its last start to the VMM being up.
    pub boot_duration: Option<Duration>,
    /// From its last start to the guest agent's answer.
    pub ready_duration: Option<Duration>,
    /// Failures since it was made.
    pub failure_count: u64,
    /// The failures that its restart policy still counts, oldest first.
    pub recent_failures: Vec<Timestamp>,
    /// What its guest agent said of itself at its last handshake.
    pub agent: Option<AgentRow>,
    /// Which incarnation of its actor may write this row: see [`Store::claim_vm`].
    pub generation: u64,
}

/// A VMM and who holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRow {
    /// The VMM.
    pub leader: ProcessIdentity,
    /// The shim that holds it and tells its exit status; the VMM itself where a systemd unit does that.
    pub keeper: ProcessIdentity,
    /// The systemd unit that it runs in; empty without one.
    pub unit: String,
    /// That unit's invocation, under which the journal has it.
    pub invocation_id: Option<String>,
}

/// What a guest agent said of itself. Nothing of it is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentRow {
    /// Version of the agent.
    pub version: String,
    /// Revision of the protocol that was agreed on.
    pub protocol_revision: u32,
    /// The guest's host name.
    pub hostname: String,
    /// The guest's boot id.
    pub boot_id: String,
    /// The guest's operating system: `NAME` of `os-release(5)`.
    pub os_name: String,
    /// Its version: `VERSION_ID` of `os-release(5)`.
    pub os_version: String,
    /// When it said so.
    pub connected_at: Timestamp,
}

impl Store {
    /// Stores a new VM, created and with generation 1, and gives it the lowest vsock context id of this instance that is
    /// free.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, `ResourcesExhausted` when there is no context id or no room,
    /// `StorageFailed` when the database fails.
    pub fn insert_vm(&mut self, new: &NewVm) -> Result<VmRow, Error> {
        const DOING: &str = "store a new VM";
        let (first, bounds) = (first_cid(self.instance), self.bounds);
        self.write(DOING, |transaction| {
            if name_taken(transaction, &new.name).map_err(Error::doing(DOING))? {
                return Err(Error::AlreadyExists { noun: Noun::Vm, name: new.name.to_string() });
            }
            let cid = free_cid(transaction, first).map_err(Error::doing(DOING))?.ok_or(Error::CidsExhausted)?;
            let row = VmRow {
                id: new.id,
                name: new.name.clone(),
                spec: new.spec.clone(),
                desired: new.desired,
                lifecycle: Lifecycle::created(new.created_at),
                vmm: None,
                kernel: None,
                initrd: None,
                cid,
                process: None,
                exit: None,
                exit_reason: String::new(),
                created_at: new.created_at,
                started_at: Timestamp::NEVER,
                stopped_at: Timestamp::NEVER,
                boot_duration: None,
                ready_duration: None,
                failure_count: 0,
                recent_failures: Vec::new(),
                agent: None,
                generation: 1,
            };
            insert(transaction, &row)
                .and_then(|()| {
                    event::append(transaction, bounds, &happened(EventKind::VmCreated, &row, row.created_at))
                })
                .map_err(Error::doing(DOING))?;
            Ok(row)
        })
    }

    /// Takes over the row of a VM for a new incarnation of its actor: the row's generation goes up by one, and from
    /// then on whatever the incarnation before it still tries to write is refused.
    ///
    /// # Errors
    /// `NotFound`, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn claim_vm(&mut self, id: Id) -> Result<VmRow, Error> {
        const DOING: &str = "claim a VM";
        self.write(DOING, |transaction| {
            transaction
                .prepare_cached("UPDATE vm SET generation = generation + 1 WHERE id = :id RETURNING *")
                .and_then(|mut statement| statement.query_row(named_params! { ":id": Text(id) }, read).optional())
                .map_err(Error::doing(DOING))?
                .ok_or_else(|| not_found(id))
        })
    }

    /// Stores a VM as it is now, and the transition that brought it there. A new state needs its history entry, and a
    /// history entry needs to be about that change: a transition is exactly one row of history.
    ///
    /// # Errors
    /// `NotFound`, `Internal` when `row.generation` is not the row's (its actor was replaced) or the history entry does
    /// not fit, `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn update_vm(&mut self, row: &VmRow, history: Option<&HistoryEntry>) -> Result<(), Error> {
        const DOING: &str = "store a VM";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = owned(transaction, row.id, row.generation, DOING)?;
            let (from, to) = (stored.lifecycle.state(), row.lifecycle.state());
            let told = history.map_or(from == to, |entry| entry.from == from && entry.to == to);
            if !told {
                return Err(Error::Untold { name: stored.name.to_string(), from, to });
            }
            update(transaction, row).map_err(Error::doing(DOING))?;
            match history {
                Some(entry) => history::append(transaction, bounds, &stored, entry).map_err(Error::doing(DOING)),
                None => Ok(()),
            }
        })
    }

    /// The VM with this id.
    ///
    /// # Errors
    /// `NotFound`, or `StorageFailed` when the database can't be read.
    pub fn vm(&self, id: Id) -> Result<VmRow, Error> {
        find(&self.connection, id).map_err(Error::doing("read a VM"))?.ok_or_else(|| not_found(id))
    }

    /// Every VM, by name.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn vms(&self) -> Result<Vec<VmRow>, Error> {
        let doing = Error::doing("read the VMs");
        let mut statement = self.connection.prepare_cached("SELECT * FROM vm ORDER BY name").map_err(&doing)?;
        let rows = statement.query_map([], read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// Forgets a VM; its events stay. Its workspaces stay, detached at `at` and owned by nobody.
    ///
    /// # Errors
    /// `NotFound`, `Internal` when `generation` is not the row's, `ResourcesExhausted` when there is no room,
    /// `StorageFailed` when the database fails.
    pub fn delete_vm(&mut self, id: Id, generation: u64, at: Timestamp) -> Result<(), Error> {
        const DOING: &str = "remove a VM";
        let bounds = self.bounds;
        self.write(DOING, |transaction| {
            let stored = owned(transaction, id, generation, DOING)?;
            let delete = || {
                crate::workspace::detach_all(transaction, bounds, &stored, at)?;
                transaction
                    .prepare_cached("DELETE FROM vm WHERE id = :id")?
                    .execute(named_params! { ":id": Text(id) })?;
                event::append(transaction, bounds, &happened(EventKind::VmRemoved, &stored, at))
            };
            delete().map_err(Error::doing(DOING))
        })
    }
}

/// The VM with this id, if there is one.
pub(crate) fn find(connection: &Connection, id: Id) -> rusqlite::Result<Option<VmRow>> {
    connection
        .prepare_cached("SELECT * FROM vm WHERE id = :id")?
        .query_row(named_params! { ":id": Text(id) }, read)
        .optional()
}

/// The id of the VM with this name, if there is one.
pub(crate) fn id_of(connection: &Connection, name: &Name) -> rusqlite::Result<Option<Id>> {
    connection
        .prepare_cached("SELECT id FROM vm WHERE name = :name")?
        .query_row(named_params! { ":name": Text(name) }, |row| row.get::<_, Text<_>>(0))
        .optional()
        .map(|id| id.map(|id| id.0))
}

/// That a VM came or went.
fn happened(kind: EventKind, vm: &VmRow, at: Timestamp) -> NewEvent {
    NewEvent {
        at,
        vm: Some(VmOf { name: vm.name.clone(), id: Some(vm.id) }),
        ..NewEvent::now(kind, format!("vm/{}", vm.name))
    }
}

/// What is said when there is no VM with this id.
pub(crate) fn not_found(id: Id) -> Error {
    Error::NotFound { noun: Noun::Vm, name: id.to_string() }
}

fn owned(connection: &Connection, id: Id, generation: u64, doing: &'static str) -> Result<VmRow, Error> {
    let stored = find(connection, id).map_err(Error::doing(doing))?.ok_or_else(|| not_found(id))?;
    if stored.generation == generation {
        Ok(stored)
    } else {
        Err(Error::Overtaken { name: stored.name.to_string(), generation, current: stored.generation })
    }
}

fn name_taken(connection: &Connection, name: &Name) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM vm WHERE name = :name")?.exists(named_params! { ":name": Text(name) })
}

/// Where an instance's context ids begin. The kernel's vhost-vsock has one space of them for the whole machine, so two
/// users' instances must not both begin at 3.
const fn first_cid(instance: InstanceId) -> u32 {
    *FIRST_CIDS.start() + instance.bits() % (*FIRST_CIDS.end() - *FIRST_CIDS.start() + 1)
}

fn free_cid(connection: &Connection, first: u32) -> rusqlite::Result<Option<u32>> {
    connection
        .prepare_cached(
            "SELECT min(candidate) FROM (SELECT :first AS candidate UNION ALL SELECT cid + 1 FROM vm WHERE cid >= :first)
             WHERE candidate <= :last AND candidate NOT IN (SELECT cid FROM vm)",
        )?
        .query_row(named_params! { ":first": first, ":last": LAST_CID }, |row| row.get(0))
}

fn insert(connection: &Connection, row: &VmRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO vm (id, name, spec, desired, state, state_reason, state_changed_at, cid, exit_reason,
                created_at, started_at, stopped_at, failure_count, recent_failures, generation)
             VALUES (:id, :name, :spec, :desired, :state, :state_reason, :state_changed_at, :cid, :exit_reason,
                :created_at, :started_at, :stopped_at, :failure_count, :recent_failures, :generation)",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":name": Text(&row.name),
            ":spec": Json(&row.spec),
            ":desired": Text(row.desired),
            ":state": Text(row.lifecycle.state()),
            ":state_reason": Text(row.lifecycle.reason()),
            ":state_changed_at": At(row.lifecycle.changed_at()),
            ":cid": row.cid,
            ":exit_reason": row.exit_reason,
            ":created_at": At(row.created_at),
            ":started_at": At(row.started_at),
            ":stopped_at": At(row.stopped_at),
            ":failure_count": row.failure_count,
            ":recent_failures": Json(&row.recent_failures),
            ":generation": row.generation,
        })?;
    Ok(())
}

fn update(connection: &Connection, row: &VmRow) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE vm SET spec = :spec, desired = :desired, state = :state, state_reason = :state_reason,
                state_changed_at = :state_changed_at, vmm = :vmm, kernel = :kernel, initrd = :initrd,
                process = :process, exit = :exit, exit_reason = :exit_reason, started_at = :started_at, stopped_at = :stopped_at,
                boot_duration_usec = :boot_duration_usec, ready_duration_usec = :ready_duration_usec,
                failure_count = :failure_count, recent_failures = :recent_failures, agent = :agent
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": Text(row.id),
            ":spec": Json(&row.spec),
            ":desired": Text(row.desired),
            ":state": Text(row.lifecycle.state()),
            ":state_reason": Text(row.lifecycle.reason()),
            ":state_changed_at": At(row.lifecycle.changed_at()),
            ":vmm": row.vmm.map(Text),
            ":kernel": row.kernel.as_ref().map(Text),
            ":initrd": row.initrd.as_ref().map(Text),
            ":process": row.process.as_ref().map(Json),
            ":exit": row.exit.map(Json),
            ":exit_reason": row.exit_reason,
            ":started_at": At(row.started_at),
            ":stopped_at": At(row.stopped_at),
            ":boot_duration_usec": row.boot_duration.map(Micros),
            ":ready_duration_usec": row.ready_duration.map(Micros),
            ":failure_count": row.failure_count,
            ":recent_failures": Json(&row.recent_failures),
            ":agent": row.agent.as_ref().map(Json),
        })?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<VmRow> {
    Ok(VmRow {
        id: row.get::<_, Text<_>>("id")?.0,
        name: row.get::<_, Text<_>>("name")?.0,
        spec: row.get::<_, Json<_>>("spec")?.0,
        desired: row.get::<_, Text<_>>("desired")?.0,
        lifecycle: Lifecycle::restored(
            row.get::<_, Text<_>>("state")?.0,
            row.get::<_, Text<_>>("state_reason")?.0,
            row.get::<_, At>("state_changed_at")?.0,
        ),
        vmm: row.get::<_, Option<Text<_>>>("vmm")?.map(|vmm| vmm.0),
        kernel: row.get::<_, Option<Text<_>>>("kernel")?.map(|kernel| kernel.0),
        initrd: row.get::<_, Option<Text<_>>>("initrd")?.map(|initrd| initrd.0),
        cid: row.get("cid")?,
        process: row.get::<_, Option<Json<_>>>("process")?.map(|process| process.0),
        exit: row.get::<_, Option<Json<_>>>("exit")?.map(|exit| exit.0),
        exit_reason: row.get("exit_reason")?,
        created_at: row.get::<_, At>("created_at")?.0,
        started_at: row.get::<_, At>("started_at")?.0,
        stopped_at: row.get::<_, At>("stopped_at")?.0,
        boot_duration: row.get::<_, Option<Micros>>("boot_duration_usec")?.map(|duration| duration.0),
        ready_duration: row.get::<_, Option<Micros>>("ready_duration_usec")?.map(|duration| duration.0),
        failure_count: row.get("failure_count")?,
        recent_failures: row.get::<_, Json<_>>("recent_failures")?.0,
        agent: row.get::<_, Option<Json<_>>>("agent")?.map(|agent| agent.0),
        generation: row.get("generation")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_begins_where_a_guest_may_and_others_do_not() {
        let first = |instance: &str| first_cid(instance.parse().unwrap());
        for instance in ["00000000", "00000001", "7ffeffff", "7fff0000", "ffffffff"] {
            assert!(FIRST_CIDS.contains(&first(instance)), "{instance}: {}", first(instance));
        }
        assert_eq!((first("00000000"), first("7ffeffff"), first("7fff0000")), (0x1_0000, 0x7fff_ffff, 0x1_0000));
        assert_eq!(first("0badcafe"), 0x0bae_cafe);
    }
}
