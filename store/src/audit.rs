//! Who asked for what: every call that changes something, written down before it is done and completed afterwards.

use std::time::Duration;

use nexus_model::{Id, Timestamp};
use rusqlite::{Connection, Row, named_params};
use serde_json::Value;

use crate::{
    Error, Filter, Page, Store, VmOf,
    column::{At, Json, Micros, Text},
    event, page,
};

const TABLE: &str = "audit";

/// What is written as the result of a call that was done.
pub const OK: &str = "ok";
/// What is written as the result of a call that was not completed by the daemon that answered it.
pub const CUT_OFF: &str = "cut-off";

/// A call that is about to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCall {
    /// Its request id, as in the journal.
    pub request: Id,
    /// When it came.
    pub at: Timestamp,
    /// The caller's unique bus name.
    pub sender: String,
    /// The caller's process; 0 when it is not known.
    pub pid: u32,
    /// The program that the caller runs; empty when it is not known.
    pub executable: String,
    /// The systemd unit that it runs in; empty when there is none.
    pub unit: String,
    /// The caller's own words for why; can be empty.
    pub caller_reason: String,
    /// The object that was called.
    pub path: String,
    /// The member of it: a method, or a property that is set.
    pub member: String,
    /// What is to be changed, as far as that is known: `vm/web`, `daemon`.
    pub subject: String,
    /// The VM among it.
    pub vm: Option<VmOf>,
    /// The arguments by their names, without secrets.
    pub arguments: Value,
    /// The subject's state before; empty when it has none.
    pub before: String,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallEnd {
    /// What was changed, which may be known only now.
    pub subject: String,
    /// The VM among it.
    pub vm: Option<VmOf>,
    /// The subject's state after; empty when it has none.
    pub after: String,
    /// The job that goes on with it; 0 for none.
    pub job: u32,
    /// [`OK`], or the name of the error.
    pub result: String,
    /// The text of the error; empty without one.
    pub message: String,
    /// How long it took to answer.
    pub took: Duration,
}

/// What is remembered of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRow {
    /// Its number: given out by the store, never twice, and larger than that of all before it.
    pub seq: u64,
    /// The call; subject and VM are in its end as well.
    pub call: NewCall,
    /// How it ended; none while it is under way.
    pub end: Option<CallEnd>,
}

impl Store {
    /// Writes down a call that is about to be done, and forgets the oldest that is too many. Nothing happens when it is
    /// under way already.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn begin_call(&mut self, call: &NewCall) -> Result<(), Error> {
        const DOING: &str = "write down a call";
        let keep = self.bounds.audit;
        self.write(DOING, |transaction| {
            insert(transaction, call)
                .and_then(|inserted| match inserted {
                    0 => Ok(()),
                    _ => page::trim(transaction, TABLE, transaction.last_insert_rowid(), keep),
                })
                .map_err(Error::doing(DOING))
        })
    }

    /// Completes what was written of a call. Nothing happens when it is forgotten already.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn end_call(&mut self, request: Id, end: &CallEnd) -> Result<(), Error> {
        const DOING: &str = "write down how a call ended";
        self.write(DOING, |transaction| complete(transaction, request, end).map_err(Error::doing(DOING)))
    }

    /// Says of every call that is under way that it was cut off: whoever was to answer is gone. Says how many they were.
    ///
    /// # Errors
    /// `ResourcesExhausted` when there is no room, `StorageFailed` when the database fails.
    pub fn calls_cut_off(&mut self) -> Result<usize, Error> {
        const DOING: &str = "end the calls to the daemon before this one";
        self.write(DOING, |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE audit SET result = :result,
                        message = 'nexusd ended before it had answered: what was asked for may be done'
                     WHERE result = ''",
                )
                .and_then(|mut statement| statement.execute(named_params! { ":result": CUT_OFF }))
                .map_err(Error::doing(DOING))
        })
    }

    /// The calls, from behind the number `after` on.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn calls(&self, filter: &Filter, after: u64, limit: u32) -> Result<Page<CallRow>, Error> {
        page::read(&self.connection, TABLE, filter, after, limit, read, |row| row.seq)
            .map_err(Error::doing("read the calls"))
    }

    /// Those calls of `numbers` that have ended.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn calls_ended(&self, numbers: &[u64]) -> Result<Vec<CallRow>, Error> {
        let doing = Error::doing("read the calls");
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT * FROM audit WHERE seq IN (SELECT value FROM json_each(:numbers)) AND result <> '' ORDER BY seq",
            )
            .map_err(&doing)?;
        let rows = statement.query_map(named_params! { ":numbers": Json(numbers) }, read).map_err(&doing)?;
        rows.collect::<Result<_, _>>().map_err(&doing)
    }

    /// The number after which the newest `count` calls begin.
    ///
    /// # Errors
    /// `StorageFailed` when the database can't be read.
    pub fn calls_before_newest(&self, filter: &Filter, count: u32) -> Result<u64, Error> {
        page::before_newest(&self.connection, TABLE, filter, count).map_err(Error::doing("count the calls"))
    }
}

/// Says how many rows that made: none for a call that is under way already, which a store wrote that broke before it could
/// say so.
fn insert(connection: &Connection, call: &NewCall) -> rusqlite::Result<usize> {
    let vm = call.vm.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO audit (request, at, sender, pid, executable, unit, caller_reason, path, member, subject, vm,
                vm_name, arguments, before_state, after_state, job, result, message, duration_usec)
             SELECT :request, :at, :sender, :pid, :executable, :unit, :caller_reason, :path, :member, :subject, :vm,
                :vm_name, :arguments, :before, '', 0, '', '', NULL
             WHERE NOT EXISTS (SELECT 1 FROM audit WHERE request = :request AND result = '')",
        )?
        .execute(named_params! {
            ":request": Text(call.request),
            ":at": At(call.at),
            ":sender": call.sender,
            ":pid": call.pid,
            ":executable": call.executable,
            ":unit": call.unit,
            ":caller_reason": call.caller_reason,
            ":path": call.path,
            ":member": call.member,
            ":subject": call.subject,
            ":vm": vm.and_then(|vm| vm.id).map(Text),
            ":vm_name": vm.map(|vm| Text(&vm.name)),
            ":arguments": Json(&call.arguments),
            ":before": call.before,
        })
}

fn complete(connection: &Connection, request: Id, end: &CallEnd) -> rusqlite::Result<()> {
    let vm = end.vm.as_ref();
    connection
        .prepare_cached(
            "UPDATE audit SET subject = :subject, vm = :vm, vm_name = :vm_name, after_state = :after, job = :job,
                result = :result, message = :message, duration_usec = :took
             WHERE request = :request AND result = ''",
        )?
        .execute(named_params! {
            ":request": Text(request),
            ":subject": end.subject,
            ":vm": vm.and_then(|vm| vm.id).map(Text),
            ":vm_name": vm.map(|vm| Text(&vm.name)),
            ":after": end.after,
            ":job": end.job,
            ":result": end.result,
            ":message": end.message,
            ":took": Micros(end.took),
        })?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<CallRow> {
    let (subject, vm): (String, _) = (row.get("subject")?, event::vm_of(row)?);
    let result: String = row.get("result")?;
    let end = if result.is_empty() {
        None
    } else {
        Some(CallEnd {
            subject: subject.clone(),
            vm: vm.clone(),
            after: row.get("after_state")?,
            job: row.get("job")?,
            result,
            message: row.get("message")?,
            took: row.get::<_, Option<Micros>>("duration_usec")?.map_or(Duration::ZERO, |took| took.0),
        })
    };
    let call = NewCall {
        request: row.get::<_, Text<_>>("request")?.0,
        at: row.get::<_, At>("at")?.0,
        sender: row.get("sender")?,
        pid: row.get("pid")?,
        executable: row.get("executable")?,
        unit: row.get("unit")?,
        caller_reason: row.get("caller_reason")?,
        path: row.get("path")?,
        member: row.get("member")?,
        subject,
        vm,
        arguments: row.get::<_, Json<_>>("arguments")?.0,
        before: row.get("before_state")?,
    };
    Ok(CallRow { seq: row.get("seq")?, call, end })
}
