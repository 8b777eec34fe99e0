//! What can be asked about orphans.

use nexus_host::resource::{Resource, Standing};
use nexus_model::{ErrorKind, JobKind, ResourceKind, failpoint};
use tracing::info;

use super::{Orphan, Pruned, ReaperMessage, owners::Owners};
use crate::{
    Engine, Error, Origin, Prune,
    ask::ask,
    catalogue,
    jobs::{JobControl, JobRequest, JobResult},
    snapshot::{JobId, ResultValue},
    work::blocking,
};

impl Engine {
    /// What nothing owns. Looks at the machine, once the reaper has removed what it is removing.
    ///
    /// # Errors
    /// When the machine or the store can't be looked at.
    pub async fn orphans(&self) -> Result<Vec<Orphan>, Error> {
        ask(&self.reaper.slot, "orphans", |reply| ReaperMessage::Orphans { reply }).await?
    }

    /// Removes orphans at once. The job's result has each (`removed`), what they took in all (`bytes`), and `dry-run`.
    ///
    /// # Errors
    /// `InvalidArgs` for a kind of which Nexus never removes anything. What can't be removed is the job's error.
    pub async fn prune(&self, origin: &Origin, request: Prune) -> Result<JobId, Error> {
        self.check_accepting()?;
        if let Some(kind) = request.kinds.iter().find(|kind| is_never_ours(**kind)) {
            let text = format!("Nexus removes nothing of kind `{kind}`: see what is there with `nexusctl orphans`");
            return Err(Error::new(ErrorKind::InvalidArgs, text));
        }
        let job = JobRequest { kind: JobKind::Prune, objects: Vec::new(), cancellable: true, origin: origin.clone() };
        let (engine, origin) = (self.clone(), origin.clone());
        self.jobs.submit(job, move |job| async move { engine.prune_now(&origin, request, &job).await }).await
    }

    /// Each is tried, and all failures are told together.
    async fn prune_now(&self, origin: &Origin, request: Prune, job: &JobControl) -> Result<JobResult, Error> {
        let orphans = self.find_orphans().await?;
        let (mut pruned, mut failed) = (Vec::new(), Vec::new());
        for orphan in orphans.into_iter().filter(|orphan| request.includes(orphan)) {
            if job.is_cancelled() {
                let text = format!("cancelled after {} of the orphans were removed", pruned.len());
                return Err(Error::new(ErrorKind::Cancelled, text));
            }
            let measured = orphan.clone();
            let bytes = blocking(move || Ok(measured.allocated_bytes())).await?;
            if !request.dry_run {
                match self.remove_orphan(origin, &orphan).await {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(error) => {
                        failed.push((error.kind(), format!("{} {}: {}", orphan.kind, orphan.place, error.text())));
                        continue;
                    }
                }
            }
            pruned.push(Pruned { kind: orphan.kind, name: orphan.place.to_string(), bytes });
        }
        if !request.dry_run && !pruned.is_empty() {
            // What belonged to what ran is of no use now.
            self.reaper.look_soon();
        }
        if let Some((kind, _)) = failed.first() {
            let texts: Vec<&str> = failed.iter().map(|(_, text)| text.as_str()).collect();
            let text = format!("{} removed, but not {}", pruned.len(), texts.join("; not "));
            return Err(Error::new(*kind, text));
        }
        let bytes = pruned.iter().map(|pruned| pruned.bytes).sum();
        Ok(JobResult::from([
            ("removed", ResultValue::Orphans(pruned)),
            ("bytes", ResultValue::Number(bytes)),
            ("dry-run", ResultValue::Flag(request.dry_run)),
        ]))
    }

    /// The resources that have no owner.
    pub(super) async fn find_orphans(&self) -> Result<Vec<Resource>, Error> {
        // What goes with its owner meanwhile had one before, and what comes with one has it afterwards.
        let before = Owners::read(self).await?;
        let (ground, units) = (self.settings.ground(), self.keeper.units(self.settings.instance).await?);
        let found = blocking(move || Ok(ground.resources(&units)?)).await?;
        failpoint("orphan.found");
        let after = Owners::read(self).await?;
        let is_orphan = |resource: &Resource| !before.have(resource) && !after.have(resource) && resource.is_there();
        Ok(found.into_iter().filter(is_orphan).collect())
    }

    /// Removes a resource, if it has no owner and is there still: false when not.
    pub(super) async fn remove_orphan(&self, origin: &Origin, orphan: &Resource) -> Result<bool, Error> {
        let _one_at_a_time = self.reaper.removing.lock().await;
        if Owners::read(self).await?.have(orphan) || !orphan.is_there() {
            return Ok(false);
        }
        let (ground, files) = (self.settings.ground(), orphan.clone());
        ground.end(&self.keeper, orphan).await?;
        failpoint("orphan.ended");
        blocking(move || Ok(ground.erase(&files)?)).await?;
        failpoint("orphan.erased");
        info!(
            MESSAGE_ID = catalogue::ORPHAN_REMOVED,
            NEXUS_ORPHAN_KIND = %orphan.kind,
            NEXUS_ORPHAN = %orphan.place,
            NEXUS_REQUEST = %origin.request,
            DBUS_SENDER = origin.sender,
            "removed {} {}, which nothing owned",
            orphan.kind,
            orphan.place,
        );
        Ok(true)
    }
}

impl Prune {
    fn includes(&self, orphan: &Resource) -> bool {
        match orphan.standing {
            Standing::Ours => self.kinds.is_empty() || self.kinds.contains(&orphan.kind),
            Standing::Runs { by } => self.kinds.contains(&orphan.kind) && self.kinds.contains(&by),
            Standing::Data => self.kinds.contains(&orphan.kind),
            Standing::Doubtful(_) => false,
        }
    }
}

const fn is_never_ours(kind: ResourceKind) -> bool {
    matches!(kind, ResourceKind::Mount | ResourceKind::Device | ResourceKind::File)
}
