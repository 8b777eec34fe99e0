//! One method call, from its options to its reply: identity, deadline, journal, panics and errors, the same for all.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use nexus_actors::{Engine, Origin, Place, snapshot::JobId, supervisor::panic_text};
use nexus_model::{ErrorKind, Id, Name};
use tracing::{Instrument, Span, debug, error, info, info_span};
use zbus::{Connection, OwnedObjectPath, message::Header};

use super::{
    bond::Bond,
    options::{Dict, Options},
    path,
};
use crate::Error;

/// How long a call may take: less than the 25 s after which most clients stop waiting.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A call that is being answered.
pub(super) struct Call<'a> {
    engine: &'a Engine,
    connection: &'a Connection,
    origin: Origin,
    subject: Subject,
    /// The object's path, and the member of it.
    member: String,
    deadline: Option<Duration>,
}

/// What a call is about, by the names that the journal has for it.
#[derive(Debug, Default)]
struct Subject {
    vm: Option<String>,
    job: Option<JobId>,
    actor: Option<String>,
}

impl<'a> Call<'a> {
    pub(super) fn new(engine: &'a Engine, connection: &'a Connection, header: &Header<'_>) -> Self {
        let sender = header.sender().map_or_else(|| "peer".to_owned(), ToString::to_string);
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        let path = header.path().map(ToString::to_string).unwrap_or_default();
        Self {
            engine,
            connection,
            origin: Origin { request: request_id(), sender, reason: String::new(), bound: false },
            subject: Subject::default(),
            member: format!("{path} {member}"),
            deadline: Some(DEADLINE),
        }
    }

    /// Another deadline than the usual one; none is for what ends when something else does.
    pub(super) const fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline;
        self
    }

    /// It is about this VM.
    pub(super) fn about_vm(mut self, name: &Name) -> Self {
        self.subject.vm = Some(name.to_string());
        self
    }

    /// It is about this job.
    pub(super) const fn about_job(mut self, job: JobId) -> Self {
        self.subject.job = Some(job);
        self
    }

    /// It is about the actor at this place, and about its VM if that is one of a VM's.
    pub(super) fn about_actor(mut self, place: &str) -> Self {
        self.subject.actor = Some(place.to_owned());
        match Place::from(place) {
            Place::Vm(vm) | Place::Machine(vm) | Place::Connection(vm, _) => self.about_vm(&vm),
            _ => self,
        }
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

    /// Sets `property` by `work`. It does not wait for the projector: zbus holds the tree of objects while a setter runs,
    /// and the projector may be waiting for that.
    pub(super) async fn assign<T, E, F>(
        mut self,
        property: &str,
        work: impl FnOnce(Origin) -> F + Send,
    ) -> Result<T, Error>
    where
        E: Into<Error>,
        F: Future<Output = Result<T, E>> + Send,
    {
        self.member = format!("{} to {property}", self.member);
        let (origin, done) = (self.origin.clone(), self.done());
        self.reply(async move {
            let answer = work(origin).await.map_err(Into::into)?;
            info!("{done}");
            Ok(answer)
        })
        .await
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
        let (engine, origin, done) = (self.engine.clone(), self.origin.clone(), self.done());
        self.reply(async move {
            let answer = work(origin, decoded?).await.map_err(Into::into)?;
            info!("{done}");
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
        let (engine, connection) = (self.engine.clone(), self.connection.clone());
        let decode = |options: &mut Options| Ok((Bond::decode(options)?, decode(options)?));
        self.change(options, decode, |mut origin, (bond, decoded)| async move {
            origin.bound = bond;
            let bond = if bond { Some(Bond::with(&connection, &origin).await?) } else { None };
            let (given, job) = work(origin, decoded).await.map_err(Into::into)?;
            if let Some(bond) = bond {
                bond.hold(engine, job);
            }
            Ok::<_, Error>((given, path::job(job)))
        })
        .await
    }

    /// All options, of which there must be no other.
    fn decode<O>(&mut self, options: Dict, decode: impl FnOnce(&mut Options) -> Result<O, Error>) -> Result<O, Error> {
        let mut options = Options::new(options);
        if let Some(reason) = options.take::<String>("reason")? {
            if reason.len() > 256 || reason.chars().any(char::is_control) {
                return Err(Error::invalid_args("option `reason` must be one line of at most 256 bytes"));
            }
            self.origin.reason = reason;
        }
        let decoded = decode(&mut options)?;
        options.finish()?;
        Ok(decoded)
    }

    /// What the journal says of a change once it is made: who wanted what, and why.
    fn done(&self) -> String {
        let Origin { sender, reason, .. } = &self.origin;
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        format!("{} for {sender}{because}", self.member)
    }

    /// What every record that is written meanwhile has.
    fn span(&self) -> Span {
        let Origin { request, sender, reason, .. } = &self.origin;
        info_span!(
            "call",
            NEXUS_REQUEST = %request,
            DBUS_SENDER = sender,
            NEXUS_CALLER_REASON = (!reason.is_empty()).then_some(reason),
            NEXUS_MEMBER = self.member,
            NEXUS_VM = self.subject.vm,
            NEXUS_JOB = self.subject.job,
            NEXUS_ACTOR = self.subject.actor,
        )
    }

    async fn reply<T>(self, work: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Error> {
        guarded(self.span(), self.origin.request, self.deadline, Box::pin(work)).await
    }
}

/// Does `work` within the deadline, in a span of the journal, and survives its panic.
async fn guarded<T>(
    span: Span,
    request: Id,
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, Error>> + Send,
) -> Result<T, Error> {
    let begun = Instant::now();
    async move {
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
    .instrument(span)
    .await
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
        let error = guarded(Span::none(), request(), Some(DEADLINE), work).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Internal));
        let text = error.to_string();
        assert!(text.contains("the sky fell") && text.contains("NEXUS_REQUEST=0000000000000abc"), "{text}");
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_given_up() {
        let work = std::future::pending::<Result<(), Error>>();
        let error = guarded(Span::none(), request(), Some(Duration::from_millis(1)), work).await.unwrap_err();
        assert_eq!(error.kind(), Some(ErrorKind::Timeout));
    }

    #[tokio::test]
    async fn only_a_defect_is_told_with_its_request() {
        let work = async { Err::<(), _>(Error::new(ErrorKind::Busy, "it is being stopped")) };
        let error = guarded(Span::none(), request(), None, work).await.unwrap_err();
        assert_eq!(error.to_string(), "it is being stopped");
    }
}
