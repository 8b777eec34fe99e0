//! What can be asked about images.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nexus_host::image;
use nexus_model::{ArtifactName, ArtifactState, ErrorKind, JobKind};
use nexus_store::ImageRow;
use tracing::info;

use super::ImageMessage;
use crate::{
    Engine, Error, ImportImage, Origin,
    ask::{Reply, ask},
    jobs::{JobControl, JobRequest, JobResult},
    snapshot::{ImageSnapshot, JobId, ObjectRef, ResultValue},
    vm::random_id,
    work::{blocking, unbroken, with_progress},
};

impl Engine {
    /// Imports an image.
    ///
    /// # Errors
    /// `PermissionDenied` for a path outside the configured roots; `NotFound`; `AlreadyExists`. What is wrong with the
    /// content is the job's error.
    pub async fn import_image(&self, origin: &Origin, request: ImportImage) -> Result<JobId, Error> {
        self.check_accepting()?;
        let source = self.allowed_path(&request.path).await?;
        let name = request.name;
        let row = ImageRow {
            id: random_id()?,
            name: name.clone(),
            state: ArtifactState::Creating,
            digest: String::new(),
            path: self.settings.folders.images().join(name.as_str()),
            size_bytes: 0,
            origin: source.display().to_string(),
            os_name: String::new(),
            os_version: String::new(),
            metadata: BTreeMap::new(),
            created_at: SystemTime::now().into(),
        };
        let (engine, origin) = (self.clone(), origin.clone());
        let request = image::ImportRequest { source, size_bytes: request.size_bytes };
        unbroken(async move { engine.begin_import(&origin, row, request).await }).await
    }

    /// Stores an image that is to be, and starts the job that makes it: both or nothing.
    async fn begin_import(
        &self,
        origin: &Origin,
        row: ImageRow,
        request: image::ImportRequest,
    ) -> Result<JobId, Error> {
        let stored = Box::new(row.clone());
        let import = self.imports.begin(row.id);
        self.ask_images(|reply| ImageMessage::Insert { row: stored, reply }).await?;
        let job = self.image_job(origin, JobKind::ImportImage, &row.name);
        let (engine, importing) = (self.clone(), row.clone());
        let work = move |job: JobControl| async move {
            let warning = match engine.import(importing.clone(), request, &job).await {
                Ok(warning) => warning,
                Err(error) => {
                    // An actor that is restarted from here on undoes it by itself.
                    drop(import);
                    engine.undo_import(importing).await;
                    return Err(error);
                }
            };
            let warning = warning.map(|text| ("warning", ResultValue::Text(text)));
            let image = ("image", ResultValue::Object(ObjectRef::Image(importing.name)));
            Ok(JobResult::from_iter([image].into_iter().chain(warning)))
        };
        let submitted = self.jobs.submit(job, work).await;
        if submitted.is_err() {
            self.undo_import(row).await;
        }
        submitted
    }

    /// Has the actor remove what there is of an image that could not be imported. Without an actor there is nothing to
    /// do: the next one undoes what nobody imports.
    async fn undo_import(&self, row: ImageRow) {
        let row = Box::new(row);
        let _ = self.ask_images(|reply| ImageMessage::Undo { row, reply }).await;
    }

    /// Hashes an image again and compares.
    ///
    /// # Errors
    /// `NotFound`. What it found is the job's result or error.
    pub async fn verify_image(&self, origin: &Origin, name: &ArtifactName) -> Result<JobId, Error> {
        let picture = self.image(name)?;
        let request = self.image_job(origin, JobKind::VerifyImage, name);
        self.jobs
            .submit(request, move |job| async move {
                with_progress(&job, move |progress| {
                    let digest =
                        picture.digest.parse().map_err(|_| Error::internal("a digest in the store is none"))?;
                    Ok(image::verify(&picture.path, &digest, progress)?)
                })
                .await?;
                Ok(JobResult::new())
            })
            .await
    }

    /// Removes an image.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while a workspace was made from it; `Busy` when it is being removed already; `StorageFailed`.
    pub async fn remove_image(&self, origin: &Origin, name: &ArtifactName) -> Result<JobId, Error> {
        let picture = self.image(name)?;
        if !picture.used_by.is_empty() {
            let users: Vec<&str> = picture.used_by.iter().map(AsRef::as_ref).collect();
            return Err(Error::new(
                ErrorKind::InUse,
                format!(
                    "image `{name}` is the base of workspace {}: remove what was made from it first",
                    users.join(", workspace ")
                ),
            ));
        }
        let removal = self.removals.begin_removal(ObjectRef::Image(name.clone()))?;
        let id = picture.id;
        let row = self.store.call(move |store| store.image(id)).await?;
        let request = self.image_job(origin, JobKind::RemoveImage, name);
        let engine = self.clone();
        self.jobs
            .submit(request, move |_| async move {
                let _removal = removal;
                let removing = Box::new(ImageRow { state: ArtifactState::Removing, ..row.clone() });
                engine.ask_images(|reply| ImageMessage::Update { row: removing, reply }).await?;
                engine.forget_image(&row).await?;
                info!(NEXUS_IMAGE = %row.name, "image {} removed", row.name);
                Ok(JobResult::new())
            })
            .await
    }

    /// Lets the actor of images count their users again.
    pub(crate) async fn refresh_images(&self) {
        if let Some(images) = self.images.current(Duration::ZERO).await {
            let _ = images.send_message(ImageMessage::Refresh);
        }
    }

    /// Returns what its user should be warned of.
    async fn import(
        &self,
        row: ImageRow,
        request: image::ImportRequest,
        job: &JobControl,
    ) -> Result<Option<String>, Error> {
        let (storage, path) = (self.storage.clone(), row.path.clone());
        let imported =
            with_progress(job, move |progress| Ok(image::import(storage.as_ref(), &request, &path, progress)?)).await?;
        let row = ImageRow {
            state: ArtifactState::Ready,
            digest: imported.digest.to_string(),
            size_bytes: imported.size_bytes,
            os_name: imported.os_name.unwrap_or_default(),
            os_version: imported.os_version.unwrap_or_default(),
            metadata: imported.metadata,
            ..row
        };
        info!(NEXUS_IMAGE = %row.name, "image {} imported from {}", row.name, row.origin);
        let row = Box::new(row);
        self.ask_images(|reply| ImageMessage::Update { row, reply }).await?;
        Ok(imported.warning)
    }

    async fn forget_image(&self, row: &ImageRow) -> Result<(), Error> {
        let (storage, path, id) = (self.storage.clone(), row.path.clone(), row.id);
        blocking(move || Ok(storage.remove(&path)?)).await?;
        self.ask_images(|reply| ImageMessage::Delete { id, reply }).await
    }

    fn image(&self, name: &ArtifactName) -> Result<Arc<ImageSnapshot>, Error> {
        self.board.images().get(name).ok_or_else(|| Error::not_found("image", name.as_str()))
    }

    fn image_job(&self, origin: &Origin, kind: JobKind, name: &ArtifactName) -> JobRequest {
        let cancellable = kind != JobKind::RemoveImage;
        JobRequest { kind, objects: vec![ObjectRef::Image(name.clone())], cancellable, origin: origin.clone() }
    }

    async fn ask_images(&self, message: impl FnOnce(Reply<()>) -> ImageMessage) -> Result<(), Error> {
        ask(&self.images, "images", message).await?
    }
}
