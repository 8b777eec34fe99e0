//! One method call, from its options to its reply: identity, deadline, audit, journal, panics and errors, the same for all.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use nexus_actors::{
    AuditedCall, AuditedEnd, Engine, Origin, Place, Subject,
    snapshot::{JobId, ObjectRef},
    supervisor::panic_text,
};
use nexus_model::{ErrorKind, Id, Name};
use tracing::{Instrument, Span, debug, error, info_span};
use zbus::{Connection, DBusError, OwnedObjectPath, message::Header, names::OwnedUniqueName};

use super::{
    arguments::Arguments,
    bond::Bond,
    options::{Dict, Options},
    path,
    served::Served,
};
use crate::Error;

/// How long a call may take: less than the 25 s after which most clients stop waiting.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A call that is being answered.
pub(super) struct Call<'a> {
    engine: &'a Served,
    connection: &'a Connection,
    /// Nobody's on a connection between peers.
    sender: Option<OwnedUniqueName>,
    origin: Origin,
    about: Subject,
    path: String,
    member: String,
    arguments: Arguments,
    outcome: Outcome,
    deadline: Option<Duration>,
}

/// What only the work of a call finds out, for the audit. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome(Arc<Mutex<(Option<Subject>, Option<JobId>)>>);

impl Outcome {
    /// It was about this, which had no name before.
    pub(super) fn about(&self, object: ObjectRef) {
        self.lock().0 = Some(Subject::Object(object));
    }

    fn job(&self, job: JobId) {
        self.lock().1 = Some(job);
    }

    fn lock(&self) -> MutexGuard<'_, (Option<Subject>, Option<JobId>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(engine: &'a Served, connection: &'a Connection, header: &Header<'_>) -> Self {
        let sender = header.sender().map(|sender| OwnedUniqueName::from(sender.to_owned()));
        let name = sender.as_ref().map_or_else(|| "peer".to_owned(), ToString::to_string);
        Self {
            engine,
            connection,
            sender,
            origin: Origin { request: request_id(), sender: name, reason: String::new(), bound: false },
            about: Subject::Daemon,
            path: header.path().map(ToString::to_string).unwrap_or_default(),
            member: header.member().map(ToString::to_string).unwrap_or_default(),
            arguments: Arguments::default(),
            outcome: Outcome::default(),
            deadline: Some(DEADLINE),
        }
    }

    /// Another deadline than the usual one; none is for what ends when something else does.
    pub(super) const fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// It is about this object.
    pub(super) fn about(mut self, object: ObjectRef) -> Self {
        self.about = Subject::Object(object);
        self
    }

    /// It is about this VM.
    pub(super) fn about_vm(self, name: &Name) -> Self {
        self.about(ObjectRef::Vm(name.clone()))
    }

    /// It is about this job.
    pub(super) fn about_job(mut self, job: JobId) -> Self {
        self.about = Subject::Job(job);
        self
    }

    /// It is about the actor at this place.
    pub(super) fn about_actor(mut self, place: &str) -> Self {
        self.about = Subject::Actor(place.to_owned());
        self
    }

    /// One of its arguments that is none of its options, to be written down: no secret.
    pub(super) fn argument(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.arguments.push(name, value);
        self
    }

    /// Who asks.
    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Where its work says what only it finds out.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Answers with what `work` finds out. Nothing changes by it.
    pub(super) async fn query<T, E: Into<Error>>(
        self,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, Error> {
        self.reply(async { work.await.map_err(Into::into) }).await
    }

    /// As [`query`](Self::query), for what takes options.
    pub(super) async fn query_with<O, T, E, F>(
        mut self,
        options: Dict,
        decode: impl FnOnce(&mut Options) -> Result<O, Error> + Send,
        work: impl FnOnce(O) -> F + Send,
    ) -> Result<T, Error>
    where
        O: Send,
        E: Into<Error>,
        F: Future<Output = Result<T, E>> + Send,
    {
        let decoded = self.decode(options, decode);
        self.reply(async move { work(decoded?).await.map_err(Into::into) }).await
    }

    /// Sets `property` to `value` by `work`. It does not wait for the projector: zbus holds the tree of objects while a
    /// setter runs, and the projector may be waiting for that.
    pub(super) async fn assign<T, E, F>(
        mut self,
        property: &str,
        value: impl Into<serde_json::Value>,
        work: impl FnOnce(Origin) -> F + Send,
    ) -> Result<T, Error>
    where
        T: Send,
        E: Into<Error>,
        F: Future<Output = Result<T, E>> + Send,
    {
        property.clone_into(&mut self.member);
        self.arguments.push("value", value);
        let origin = self.origin.clone();
        self.audited(async move { work(origin).await.map_err(Into::into) }).await
    }

    /// Decodes the options, does `work`, writes down who wanted it, and answers once the bus shows what it changed.
    pub(super) async fn change<O, T, E, F>(
        mut self,
        options: Dict,
        decode: impl FnOnce(&mut Options) -> Result<O, Error> + Send,
        work: impl FnOnce(Origin, O) -> F + Send,
    ) -> Result<T, Error>
    where
        O: Send,
        T: Send,
        E: Into<Error>,
        F: Future<Output = Result<T, E>> + Send,
    {
        let decoded = self.decode(options, decode);
        let (engine, origin) = (self.engine, self.origin.clone());
        self.audited(async move {
            let answer = work(origin, decoded?).await.map_err(Into::into)?;
            engine.board().flushed().await;
            Ok(answer)
        })
        .await
    }

    /// As [`change`](Self::change), for what starts a job. With `bind=caller` the job ends with its caller.
    pub(super) async fn job<O, E, F>(
        self,
        options: Dict,
        decode: impl FnOnce(&mut Options) -> Result<O, Error> + Send,
        work: impl FnOnce(Origin, O) -> F + Send,
    ) -> Result<OwnedObjectPath, Error>
    where
        O: Send,
        E: Into<Error>,
        F: Future<Output = Result<JobId, E>> + Send,
    {
        self.job_with(options, decode, |origin, decoded| async move {
            let job = work(origin, decoded).await.map_err(Into::into)?;
            Ok::<_, Error>(((), job))
        })
        .await
        .map(|((), job)| job)
    }

    /// As [`job`](Self::job), for what gives something besides.
    pub(super) async fn job_with<O, T, E, F>(
        self,
        options: Dict,
        decode: impl FnOnce(&mut Options) -> Result<O, Error> + Send,
        work: impl FnOnce(Origin, O) -> F + Send,
    ) -> Result<(T, OwnedObjectPath), Error>
    where
        O: Send,
        T: Send,
        E: Into<Error>,
        F: Future<Output = Result<(T, JobId), E>> + Send,
    {
        let (engine, connection, outcome) = (Engine::clone(self.engine), self.connection.clone(), self.outcome.clone());
        let decode = |options: &mut Options| Ok((Bond::decode(options)?, decode(options)?));
        self.change(options, decode, |mut origin, (bond, decoded)| async move {
            origin.bound = bond;
            let bond = if bond { Some(Bond::with(&connection, &origin).await?) } else { None };
            let (given, job) = work(origin, decoded).await.map_err(Into::into)?;
            outcome.job(job);
            if let Some(bond) = bond {
                bond.hold(engine, job);
            }
            Ok::<_, Error>((given, path::job(job)))
        })
        .await
    }

    /// All options, of which there must be no other.
    fn decode<O>(&mut self, options: Dict, decode: impl FnOnce(&mut Options) -> Result<O, Error>) -> Result<O, Error> {
        let given = Arguments::of_options(&options);
        let mut options = Options::new(options);
        let decoded = self.reason(&mut options).and_then(|()| decode(&mut options));
        self.arguments.keep(given, options.known());
        let decoded = decoded?;
        options.finish()?;
        Ok(decoded)
    }

    fn reason(&mut self, options: &mut Options) -> Result<(), Error> {
        if let Some(reason) = options.take::<String>("reason")? {
            if reason.len() > 256 || reason.chars().any(char::is_control) {
                return Err(Error::invalid_args("option `reason` must be one line of at most 256 bytes"));
            }
            self.origin.reason = reason;
        }
        Ok(())
    }

    /// What every record that is written meanwhile has.
    fn span(&self) -> Span {
        let Origin { request, sender, reason, .. } = &self.origin;
        let (mut vm, mut job, mut actor) = (None, None, None);
        match &self.about {
            Subject::Object(ObjectRef::Vm(name)) => vm = Some(name.to_string()),
            Subject::Job(number) => job = Some(*number),
            Subject::Actor(place) => {
                actor = Some(place);
                vm = match Place::from(place.as_str()) {
                    Place::Vm(vm) | Place::Machine(vm) | Place::Connections(vm) | Place::Connection(vm, _) => {
                        Some(vm.to_string())
                    }
                    _ => None,
                };
            }
            Subject::Object(_) | Subject::Daemon => {}
        }
        info_span!(
            "call",
            NEXUS_REQUEST = %request,
            DBUS_SENDER = sender,
            NEXUS_CALLER_REASON = (!reason.is_empty()).then_some(reason),
            NEXUS_MEMBER = format!("{} {}", self.path, self.member),
            NEXUS_VM = vm,
            NEXUS_JOB = job,
            NEXUS_ACTOR = actor,
        )
    }

    async fn reply<T>(self, work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
        let (span, request) = (self.span(), self.origin.request);
        guarded(request, self.deadline, Box::pin(work)).instrument(span).await
    }

    /// As [`reply`](Self::reply), between two notes in the audit: that it came, and how it ended.
    async fn audited<T>(self, work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
        let (span, request, work) = (self.span(), self.origin.request, Box::pin(work));
        let note = async {
            let caller = self.engine.callers.who(self.connection, self.sender.as_deref()).await;
            let call = AuditedCall {
                origin: self.origin,
                caller,
                path: self.path,
                member: self.member,
                subject: self.about,
                arguments: self.arguments.into_value(),
            };
            let audit = self.engine.audit(call).await;
            let answer = guarded(request, self.deadline, work).await;
            let (subject, job) = self.outcome.lock().clone();
            let error = answer.as_ref().err().map(|error| (error.name().to_string(), error.to_string()));
            audit.end(AuditedEnd { subject, job, error });
            answer
        };
        note.instrument(span).await
    }
}

/// Does `work` within the deadline, and survives its panic.
async fn guarded<T>(
    request: Id,
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    let begun = Instant::now();
    let work = AssertUnwindSafe(work).catch_unwind();
    let done = match deadline {
        Some(deadline) => tokio::time::timeout(deadline, work).await.map_err(|_| deadline),
        None => Ok(work.await),
    };
    let answer = match done {
        Ok(Ok(answer)) => answer,
        Ok(Err(panic)) => {
            let text = panic_text(panic.as_ref());
            Err(Error::new(ErrorKind::Internal, format!("a handler panicked: {text}")))
        }
        Err(deadline) => Err(Error::new(
            ErrorKind::Timeout,
            format!("there was no answer within {} s: what was asked for may still be done", deadline.as_secs()),
        )),
    };
    answer.map_err(|failure| journal(failure, request, begun.elapsed()))
}

/// Writes a failure down, and gives one that is a defect the words to find it by.
fn journal(failure: Error, request: Id, took: Duration) -> Error {
    let took_usec = took.as_micros();
    if failure.kind() == Some(ErrorKind::Internal) {
        error!(%failure, took_usec, "a call failed by a defect in Nexus");
        let text = format!("{failure} (a defect in Nexus: journalctl --user NEXUS_REQUEST={request} has more)");
        return Error::new(ErrorKind::Internal, text);
    }
    debug!(%failure, took_usec, "a call failed");
    failure
}

/// Without a random source a request is still answered; it only can't be told from others.
fn request_id() -> Id {
    Id::random().unwrap_or_else(|_| Id::from(0))
}

impl From<nexus_actors::Error> for Error {
    fn from(error: nexus_actors::Error) -> Self {
        Self::new(error.kind(), error.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Id {
        Id::from(0xabc)
    }

    #[tokio::test]
    async fn a_handler_that_panics_still_answers() {
        let work = async { if request() == Id::from(1) { Ok(()) } else { panic!("the sky fell") } };
        let error = guarded(request(), Some(DEADLINE), work).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Internal));
        let text = error.to_string();
        assert!(text.contains("the sky fell") && text.contains("NEXUS_REQUEST=0000000000000abc"), "{text}");
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_given_up() {
        let work = std::future::pending::<Result<(), Error>>();
        let error = guarded(request(), Some(Duration::from_millis(1)), work).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Timeout));
    }

    #[tokio::test]
    async fn only_a_defect_is_told_with_its_request() {
        let work = async { Err::<(), _>(Error::new(ErrorKind::Busy, "it is being stopped")) };
        let error = guarded(request(), None, work).await.unwrap_err();
        assert_eq!(error.to_string(), "it is being stopped");
    }
}
