//! `org.workfort.Nexus1.Job`.

use nexus_actors::{
    Pruned,
    snapshot::{JobId, JobSnapshot, ResultValue},
};
use nexus_model::{ErrorKind, JobState};
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant, interface, message::Header};

use super::{
    call::Call,
    options::{Dict, nothing},
    path,
    picture::Picture,
    served::Served,
};
use crate::{Error, error};

/// A long operation.
#[derive(Debug)]
pub(super) struct Job {
    engine: Served,
    id: JobId,
    picture: Picture<JobSnapshot>,
}

impl Job {
    pub(super) const fn new(engine: Served, id: JobId, picture: Picture<JobSnapshot>) -> Self {
        Self { engine, id, picture }
    }

    /// The job as it ended.
    async fn ended(&self) -> Result<JobSnapshot, Error> {
        let gone = || Error::new(ErrorKind::NotFound, format!("job {} is gone", self.id));
        let mut picture = self.engine.board().jobs().watch(&self.id).ok_or_else(gone)?;
        let last = picture.wait_for(|job| job.state.is_final()).await.map_err(|_| gone())?.clone();
        self.engine.board().flushed().await;
        Ok(JobSnapshot::clone(&last))
    }
}

/// What a job that has ended gave, or why it failed.
fn outcome(job: &JobSnapshot) -> Result<Dict, Error> {
    if let Some((kind, text)) = &job.error {
        return Err(Error::new(*kind, text));
    }
    match job.state {
        JobState::Cancelled => Err(Error::new(ErrorKind::Cancelled, "the job was cancelled")),
        JobState::Timeout => Err(Error::new(ErrorKind::Timeout, "the job's deadline passed")),
        JobState::Failed => Err(Error::new(ErrorKind::Internal, "the job failed and did not say why")),
        JobState::Done | JobState::Queued | JobState::Running => Ok(result(job)),
    }
}

fn result(job: &JobSnapshot) -> Dict {
    let owned = |value: &ResultValue| match value {
        ResultValue::Object(object) => variant(path::object(object).into_inner()),
        ResultValue::Text(text) => variant(text.as_str()),
        ResultValue::Number(number) => variant(*number),
        ResultValue::Flag(flag) => variant(*flag),
        ResultValue::Orphans(orphans) => {
            let row = |orphan: &Pruned| (orphan.kind.to_string(), orphan.name.clone(), orphan.bytes);
            variant(orphans.iter().map(row).collect::<Vec<_>>())
        }
    };
    job.result.iter().map(|(key, value)| ((*key).to_owned(), owned(value))).collect()
}

/// Only a variant with a descriptor in it can fail to be owned.
fn variant<'a>(value: impl Into<Variant<'a>>) -> OwnedVariant {
    value.into().try_to_owned().unwrap_or_else(|_| OwnedVariant::from(false))
}

#[interface(name = "org.workfort.Nexus1.Job", introspection_docs = false)]
impl Job {
    #[zbus(out_args("result"))]
    async fn wait(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Dict, Error> {
        let wait = async { outcome(&self.ended().await?) };
        Call::new(&self.engine, bus, &header).about_job(self.id).deadline(None).query(wait).await
    }

    async fn cancel(
        &self,
        options: Dict,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<(), Error> {
        let cancel = |_, ()| async move { self.engine.cancel_job(self.id).await };
        Call::new(&self.engine, bus, &header).about_job(self.id).change(options, nothing, cancel).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> u32 {
        self.id
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> String {
        self.picture.get().kind.to_string()
    }

    #[zbus(property)]
    fn objects(&self) -> Vec<OwnedObjectPath> {
        self.picture.get().objects.iter().map(path::object).collect()
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.picture.get().state.to_string()
    }

    #[zbus(property)]
    fn stage(&self) -> String {
        self.picture.get().stage.clone()
    }

    #[zbus(property)]
    fn progress(&self) -> f64 {
        self.picture.get().progress.unwrap_or(-1.0)
    }

    #[zbus(property)]
    fn completed_bytes(&self) -> u64 {
        self.picture.get().completed_bytes
    }

    #[zbus(property)]
    fn total_bytes(&self) -> u64 {
        self.picture.get().total_bytes
    }

    #[zbus(property)]
    fn cancellable(&self) -> bool {
        self.picture.get().cancellable
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn bound(&self) -> bool {
        self.picture.get().bound
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn sender(&self) -> String {
        self.picture.get().sender.clone()
    }

    #[zbus(property)]
    fn error_name(&self) -> String {
        self.picture.get().error.as_ref().map(|(kind, _)| error::name(*kind).to_owned()).unwrap_or_default()
    }

    #[zbus(property)]
    fn error_message(&self) -> String {
        self.picture.get().error.as_ref().map(|(_, text)| text.clone()).unwrap_or_default()
    }

    #[zbus(property)]
    fn result(&self) -> Dict {
        result(&self.picture.get())
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        self.picture.get().created_at.0
    }

    #[zbus(property)]
    fn finished_at(&self) -> u64 {
        self.picture.get().finished_at.0
    }
}
