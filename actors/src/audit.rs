//! Who asked for what: one row and one record of the journal for every call that changes something.

use std::time::{Instant, SystemTime};

use nexus_host::process;
use nexus_store::{CallEnd, CallRow, EventRow, Filter, NewCall, OK, Page, VmOf};
use tokio::sync::watch;
use tracing::info;

use crate::{Engine, Error, Origin, Written, snapshot::JobId, subject::Subject};

/// What is known of a caller beside its name. It is for the audit alone, and decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Its process; 0 when that is not known.
    pub pid: u32,
    /// The program that it runs; empty when that is not known.
    pub executable: String,
    /// The systemd unit that it runs in; empty when there is none.
    pub unit: String,
}

impl Caller {
    /// What `/proc` says of a process.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let executable = process::executable(pid).map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Self { pid, executable, unit: process::unit(pid).unwrap_or_default() }
    }
}

/// A call that changes something, before it is done.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditedCall {
    /// Where it came from.
    pub origin: Origin,
    /// What is known of the caller.
    pub caller: Caller,
    /// The object that was called.
    pub path: String,
    /// The member of it.
    pub member: String,
    /// What it is about; [`Subject::Daemon`] when that is not known yet.
    pub subject: Subject,
    /// The arguments by their names, without secrets.
    pub arguments: serde_json::Value,
}

/// How a call that was audited ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedEnd {
    /// What it was about, when only its work has told.
    pub subject: Option<Subject>,
    /// The job that goes on with it.
    pub job: Option<JobId>,
    /// Name and text of its error.
    pub error: Option<(String, String)>,
}

/// A call that is written down and under way. One that is never ended was cut off, as the next daemon will say.
#[derive(Debug)]
#[must_use]
pub struct Audit {
    engine: Engine,
    call: AuditedCall,
    /// The VM that it was about when it came.
    vm: Option<VmOf>,
    before: String,
    begun: Instant,
}

impl Engine {
    /// Writes down that a call came. When the store is not well, this takes a moment, and the call goes on without.
    pub async fn audit(&self, call: AuditedCall) -> Audit {
        let begun = Instant::now();
        let (before, vm) = (call.subject.state(&self.board), call.subject.vm(&self.board));
        let new = NewCall {
            request: call.origin.request,
            at: SystemTime::now().into(),
            sender: call.origin.sender.clone(),
            pid: call.caller.pid,
            executable: call.caller.executable.clone(),
            unit: call.caller.unit.clone(),
            caller_reason: call.origin.reason.clone(),
            path: call.path.clone(),
            member: call.member.clone(),
            subject: call.subject.to_string(),
            vm: vm.clone(),
            arguments: call.arguments.clone(),
            before: before.clone(),
        };
        self.recorder.call_begun(new).await;
        Audit { engine: self.clone(), call, vm, before, begun }
    }

    /// The calls that changed something, or tried to, from behind the number `after` on.
    ///
    /// # Errors
    /// `StorageFailed`.
    pub async fn calls(&self, filter: Filter, after: u64, limit: u32) -> Result<Page<CallRow>, Error> {
        self.store.call(move |store| store.calls(&filter, after, limit)).await
    }

    /// Those of some calls that have ended.
    ///
    /// # Errors
    /// `StorageFailed`.
    pub async fn calls_ended(&self, numbers: Vec<u64>) -> Result<Vec<CallRow>, Error> {
        self.store.call(move |store| store.calls_ended(&numbers)).await
    }

    /// The number after which the newest `count` calls begin, or all. Whatever was answered before is among them.
    ///
    /// # Errors
    /// `StorageFailed`.
    pub async fn calls_before_newest(&self, filter: Filter, count: Option<u32>) -> Result<u64, Error> {
        self.recorder.written().await;
        let Some(count) = count else { return Ok(0) };
        self.store.call(move |store| store.calls_before_newest(&filter, count)).await
    }

    /// What happened, from behind the number `after` on.
    ///
    /// # Errors
    /// `StorageFailed`.
    pub async fn events(&self, filter: Filter, after: u64, limit: u32) -> Result<Page<EventRow>, Error> {
        self.store.call(move |store| store.events(&filter, after, limit)).await
    }

    /// The number after which the newest `count` events begin, or all. Whatever happened before is among them.
    ///
    /// # Errors
    /// `StorageFailed`.
    pub async fn events_before_newest(&self, filter: Filter, count: Option<u32>) -> Result<u64, Error> {
        self.recorder.written().await;
        let Some(count) = count else { return Ok(0) };
        self.store.call(move |store| store.events_before_newest(&filter, count)).await
    }

    /// Tells when something was written to the store: there may be more events or calls then.
    #[must_use]
    pub fn written(&self) -> watch::Receiver<Written> {
        self.store.written()
    }

    /// The first thing that a job is about.
    fn subject_of_job(&self, job: JobId) -> Option<Subject> {
        self.board.jobs().get(&job)?.objects.first().cloned().map(Subject::Object)
    }
}

impl Audit {
    /// Completes the row, and writes the record.
    pub fn end(self, end: AuditedEnd) {
        let Self { engine, call, vm, before, begun } = self;
        let took = begun.elapsed();
        let subject = match end.subject {
            Some(subject) => subject,
            None if call.subject == Subject::Daemon => {
                end.job.and_then(|job| engine.subject_of_job(job)).unwrap_or(Subject::Daemon)
            }
            None => call.subject,
        };
        let after = subject.state(&engine.board);
        let (result, message) = end.error.unwrap_or_else(|| (OK.to_owned(), String::new()));
        // What is gone by now was known before.
        let vm = match (subject.vm(&engine.board), vm) {
            (Some(now), Some(before)) if now.id.is_none() && now.name == before.name => Some(before),
            (now, _) => now,
        };
        let Origin { request, sender, reason, .. } = &call.origin;
        info!(
            MESSAGE_ID = crate::catalogue::CALL,
            NEXUS_SUBJECT = %subject,
            NEXUS_CALLER_PID = (call.caller.pid != 0).then_some(call.caller.pid),
            NEXUS_CALLER_EXE = some(&call.caller.executable),
            NEXUS_CALLER_UNIT = some(&call.caller.unit),
            NEXUS_BEFORE = some(&before),
            NEXUS_AFTER = some(&after),
            NEXUS_STARTED_JOB = end.job,
            NEXUS_RESULT = result,
            NEXUS_TOOK_USEC = nexus_model::microseconds(took),
            "{} {} for {sender}{}{reason}{}{message}",
            call.path,
            call.member,
            if reason.is_empty() { "" } else { ": " },
            if message.is_empty() { "" } else { ": refused: " },
        );
        let job = end.job.unwrap_or_default();
        let end = CallEnd { subject: subject.to_string(), vm, after, job, result, message, took };
        engine.recorder.call_ended(*request, end);
    }
}

fn some(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
