//! Where callers may point.

use std::path::{Path, PathBuf};

use nexus_model::ErrorKind;

use crate::{Engine, Error, work::blocking};

impl Engine {
    /// The real path behind one that a caller gave, if it lies where callers may point.
    pub(crate) async fn allowed_path(&self, path: &Path) -> Result<PathBuf, Error> {
        let allowed = self.settings.allowed_paths.clone();
        let path = path.to_owned();
        blocking(move || {
            if !path.is_absolute() {
                return Err(Error::new(
                    ErrorKind::InvalidArgs,
                    format!(
                        "{} is no absolute path: write it from / on, since the daemon has another working folder",
                        path.display()
                    ),
                ));
            }
            let real = path.canonicalize().map_err(|error| {
                let kind = match error.kind() {
                    std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                    std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                    _ => ErrorKind::StorageFailed,
                };
                Error::caused(kind, format!("cannot use {}", path.display()), error)
            })?;
            if allowed.iter().any(|root| real.starts_with(root)) {
                return Ok(real);
            }
            let roots: Vec<String> = allowed.iter().map(|root| root.display().to_string()).collect();
            Err(Error::new(
                ErrorKind::PermissionDenied,
                format!(
                    "{} is outside the folders that may be used ({}): add one to `paths.allow` in nexus.yaml",
                    real.display(),
                    roots.join(", ")
                ),
            ))
        })
        .await
    }
}
