//! What can be asked about assets: kernels and initrds.

use std::{path::Path, sync::atomic::Ordering, time::SystemTime};

use nexus_host::asset;
use nexus_model::{ArtifactName, ArtifactState, AssetKind, ErrorKind, Id, JobKind, Verification};
use nexus_store::AssetRow;
use tracing::{info, warn};

use super::AssetMessage;
use crate::{
    Engine, Error, ImportAsset, Origin,
    ask::ask,
    jobs::{JobControl, JobRequest, JobResult},
    snapshot::{JobId, ObjectRef, ResultValue},
    vm::random_id,
    work::{blocking, with_progress},
};

impl Engine {
    /// Imports a kernel or an initrd.
    ///
    /// # Errors
    /// `PermissionDenied` for a path outside the configured roots; `NotFound`. What is wrong with the content is the
    /// job's error.
    pub async fn import_asset(&self, origin: &Origin, request: ImportAsset) -> Result<JobId, Error> {
        self.check_accepting()?;
        let source = self.allowed_path(&request.path).await?;
        let request = ImportAsset { path: source, ..request };
        let job =
            JobRequest { kind: JobKind::ImportAsset, objects: Vec::new(), cancellable: true, origin: origin.clone() };
        let engine = self.clone();
        self.jobs
            .submit(job, move |job| async move {
                let name = engine.import_asset_now(request, &job).await?;
                Ok(JobResult::from([("asset", ResultValue::Object(ObjectRef::Asset(name)))]))
            })
            .await
    }

    /// Makes an asset the default of its kind.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn make_default_asset(&self, name: &ArtifactName) -> Result<(), Error> {
        let id = self.asset(name)?.id;
        ask(&self.assets, "assets", |reply| AssetMessage::MakeDefault { id, reply }).await?
    }

    /// Hashes an asset again and compares.
    ///
    /// # Errors
    /// `NotFound`. What it found is the job's result or error.
    pub async fn verify_asset(&self, origin: &Origin, name: &ArtifactName) -> Result<JobId, Error> {
        let row = self.asset(name)?;
        self.jobs
            .submit(asset_job(origin, JobKind::VerifyAsset, name), move |job| async move {
                with_progress(&job, move |progress| {
                    let digest = row.digest.parse().map_err(|_| Error::internal("a digest in the store is none"))?;
                    Ok(asset::verify(&row.path, &digest, progress)?)
                })
                .await?;
                Ok(JobResult::new())
            })
            .await
    }

    /// Removes an asset. When it is the default of its kind, the newest that is left becomes that.
    ///
    /// # Errors
    /// `NotFound`; `InUse` while a VM names it or runs with it; `Busy` when it is being removed already; `StorageFailed`.
    pub async fn remove_asset(&self, origin: &Origin, name: &ArtifactName) -> Result<JobId, Error> {
        let AssetRow { id, kind, .. } = self.asset(name)?;
        let users = self.board.assets().get(name).map(|asset| asset.used_by.clone()).unwrap_or_default();
        if !users.is_empty() {
            let users: Vec<&str> = users.iter().map(AsRef::as_ref).collect();
            let text = format!(
                "the {kind} `{name}` is used by VM {}: remove what names it, stop what only runs with it",
                users.join(", VM ")
            );
            return Err(Error::new(ErrorKind::InUse, text));
        }
        let removal = self.removals.begin_removal(ObjectRef::Asset(name.clone()))?;
        let engine = self.clone();
        self.jobs
            .submit(asset_job(origin, JobKind::RemoveAsset, name), move |_| async move {
                let _removal = removal;
                ask(&engine.assets, "assets", |reply| AssetMessage::Delete { id, reply }).await??;
                Ok(JobResult::new())
            })
            .await
    }

    /// Lets the actor of assets look again who uses them.
    pub(crate) fn refresh_assets(&self) {
        if !self.assets_stale.swap(true, Ordering::SeqCst) {
            // Without an actor there is nothing to do: the next one looks by itself.
            if let Some(assets) = self.assets.now() {
                let _ = assets.send_message(AssetMessage::Refresh);
            }
        }
    }

    /// The kernel of that name, or the default one.
    pub(crate) fn kernel(&self, name: Option<&ArtifactName>) -> Result<AssetRow, Error> {
        match name {
            Some(name) => self.asset_of(AssetKind::Kernel, name),
            None => self.assets_where(|asset| asset.kind == AssetKind::Kernel && asset.is_default).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "there is no kernel: import one (nexusctl kernel import PATH)")
            }),
        }
    }

    /// The initrd of that name, or the one of the kernel's version if there is one.
    pub(crate) fn initrd(&self, name: Option<&ArtifactName>, kernel: &AssetRow) -> Result<Option<AssetRow>, Error> {
        match name {
            Some(name) => self.asset_of(AssetKind::Initrd, name).map(Some),
            None => Ok(initrd_of(&kernel.name).and_then(|name| self.assets_where(|asset| asset.name == name))),
        }
    }

    fn asset_of(&self, kind: AssetKind, name: &ArtifactName) -> Result<AssetRow, Error> {
        let row = self.asset(name)?;
        if row.kind == kind {
            Ok(row)
        } else {
            Err(Error::new(ErrorKind::InvalidArgs, format!("asset `{name}` is no {kind} but a {}", row.kind)))
        }
    }

    fn asset(&self, name: &ArtifactName) -> Result<AssetRow, Error> {
        self.assets_where(|asset| asset.name == *name).ok_or_else(|| Error::not_found("asset", name.as_str()))
    }

    fn assets_where(&self, wanted: impl Fn(&AssetRow) -> bool) -> Option<AssetRow> {
        let assets = self.assets_now.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        assets.values().find(|asset| wanted(asset)).cloned()
    }

    async fn import_asset_now(&self, request: ImportAsset, job: &JobControl) -> Result<ArtifactName, Error> {
        let id = random_id()?;
        let _import = self.imports.begin(id);
        let folder = self.settings.folders.assets().join(id.to_string());
        let import = self.import_asset_into(id, &folder, &request, job).await;
        if !matches!(import, Ok(Import::Stored(_))) {
            // Whatever is wrong with that, the caller wants to know of the import.
            if let Err(error) = blocking(move || Ok(asset::remove(&folder)?)).await {
                warn!("what was imported for nothing stays until the reaper removes it: {error}");
            }
        }
        match import? {
            Import::Stored(name) => Ok(name),
            Import::Same(name) => {
                if request.default {
                    self.make_default_asset(&name).await?;
                }
                Ok(name)
            }
        }
    }

    /// Imports into a folder, which is left behind however this ends.
    async fn import_asset_into(
        &self,
        id: Id,
        folder: &Path,
        request: &ImportAsset,
        job: &JobControl,
    ) -> Result<Import, Error> {
        let (source, destination, kind) = (request.path.clone(), folder.to_owned(), request.kind);
        let imported = with_progress(job, move |progress| {
            Ok(match kind {
                AssetKind::Kernel => Imported::from(asset::import_kernel(&source, &destination, progress)?),
                AssetKind::Initrd => Imported::from(asset::import_initrd(&source, &destination, progress)?),
            })
        })
        .await?;
        if let Some(wanted) = &request.digest
            && !wanted.eq_ignore_ascii_case(&imported.digest)
        {
            let text = format!("{} has SHA-256 {}, not {wanted}", request.path.display(), imported.digest);
            return Err(Error::new(ErrorKind::IntegrityFailed, text));
        }
        let same = self.assets_where(|asset| asset.kind == request.kind && asset.digest == imported.digest);
        if let Some(same) = same
            && request.version.as_ref().is_none_or(|version| *version == same.version)
        {
            return Ok(Import::Same(same.name));
        }
        self.store_asset(id, request, imported).await.map(Import::Stored)
    }

    async fn store_asset(&self, id: Id, request: &ImportAsset, imported: Imported) -> Result<ArtifactName, Error> {
        let version = request.version.clone().or(imported.version).filter(|version| !version.is_empty());
        let version = version.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgs,
                format!("{} does not say which version it is: say it with `version`", request.path.display()),
            )
        })?;
        let name = asset_name(request.kind, &version)?;
        let row = AssetRow {
            id,
            kind: request.kind,
            name: name.clone(),
            state: ArtifactState::Ready,
            version,
            architecture: imported.architecture,
            digest: imported.digest,
            source: request.path.display().to_string(),
            path: imported.path,
            elf_path: imported.elf_path,
            verification: if request.digest.is_some() { Verification::Digest } else { Verification::None },
            size_bytes: imported.size_bytes,
            is_default: false,
            created_at: SystemTime::now().into(),
        };
        let (row, default) = (Box::new(row), request.default);
        ask(&self.assets, "assets", |reply| AssetMessage::Insert { row, default, reply }).await??;
        info!(NEXUS_ASSET = %name, "asset {name} imported from {}", request.path.display());
        Ok(name)
    }
}

/// The initrd that belongs to a kernel: the one of the same version.
pub(crate) fn initrd_of(kernel: &ArtifactName) -> Option<ArtifactName> {
    let version = kernel.as_str().strip_prefix("kernel-")?;
    format!("initrd-{version}").parse().ok()
}

/// What became of an import.
enum Import {
    /// A new asset.
    Stored(ArtifactName),
    /// The same was there already, as when a script is run again.
    Same(ArtifactName),
}

/// What both kinds of import give.
struct Imported {
    digest: String,
    size_bytes: u64,
    version: Option<String>,
    architecture: String,
    path: std::path::PathBuf,
    elf_path: Option<std::path::PathBuf>,
}

impl From<asset::ImportedKernel> for Imported {
    fn from(kernel: asset::ImportedKernel) -> Self {
        Self {
            digest: kernel.digest.to_string(),
            size_bytes: kernel.size_bytes,
            // The release; the rest of the banner says who built it and when.
            version: kernel.version.split_whitespace().next().map(str::to_owned),
            architecture: kernel.architecture.to_string(),
            path: kernel.path,
            elf_path: kernel.elf_path,
        }
    }
}

impl From<asset::ImportedInitrd> for Imported {
    fn from(initrd: asset::ImportedInitrd) -> Self {
        Self {
            digest: initrd.digest.to_string(),
            size_bytes: initrd.size_bytes,
            version: None,
            architecture: std::env::consts::ARCH.to_owned(),
            path: initrd.path,
            elf_path: None,
        }
    }
}

/// `<kind>-<version>`, with what no name may have replaced by hyphens.
fn asset_name(kind: AssetKind, version: &str) -> Result<ArtifactName, Error> {
    let plain = |character: char| match character.to_ascii_lowercase() {
        kept @ ('a'..='z' | '0'..='9' | '.' | '_') => kept,
        _ => '-',
    };
    let version: String = version.chars().map(plain).take(56).collect();
    Ok(format!("{kind}-{}", version.trim_matches(['-', '.', '_'])).parse()?)
}

fn asset_job(origin: &Origin, kind: JobKind, name: &ArtifactName) -> JobRequest {
    let objects = vec![ObjectRef::Asset(name.clone())];
    JobRequest { kind, objects, cancellable: kind == JobKind::VerifyAsset, origin: origin.clone() }
}
