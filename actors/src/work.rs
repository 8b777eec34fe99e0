//! Work that must not be run where it is asked for: what blocks, and what must not be dropped half-way.

use nexus_host::storage::Progress;
use nexus_model::ErrorKind;
use tracing::Instrument;

use crate::{Error, jobs::JobControl};

/// Does `work` to its end, even if whoever waits for it is dropped: a caller whose time is up leaves nothing half-made.
/// For what changes something in more than one step.
pub(crate) async fn unbroken<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work.in_current_span())
        .await
        .map_err(|error| Error::caused(ErrorKind::Internal, "what was asked for broke off", error))?
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::caused(ErrorKind::Internal, "a blocking call broke off", error))?
}

/// Runs what blocks, shows its progress as the job's, and calls it off when the job is cancelled.
pub(crate) async fn with_progress<T: Send + 'static>(
    job: &JobControl,
    work: impl FnOnce(&Progress) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let shown = job.clone();
    let progress = Progress::new(move |completed, total| shown.bytes(completed, total));
    let _cancel = CancelOnDrop(progress.clone());
    let mut working = std::pin::pin!(blocking({
        let progress = progress.clone();
        move || work(&progress)
    }));
    tokio::select! {
        result = &mut working => return result,
        () = job.cancelled() => progress.cancel(),
    }
    working.await
}

struct CancelOnDrop(Progress);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
