//! Why nothing was done to a file.

use std::io;

use nexus_protocol::{Failure, FailureKind};

/// Why nothing was done to a file. Its text names the path.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("`{0}` is no absolute path: begin with /")]
    Relative(String),
    #[error("`{0}` is a folder")]
    Folder(String),
    #[error("`{0}` is no file, but a device, a pipe or a socket")]
    Special(String),
    #[error("there is no user `{0}`")]
    Owner(String),
    #[error("cannot {act} `{path}`: {source}")]
    System { act: &'static str, path: String, source: io::Error },
}

impl FileError {
    pub(super) fn system(act: &'static str, path: &str) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::System { act, path: path.clone(), source }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let kind = match &error {
            FileError::System { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FailureKind::NotFound,
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => FailureKind::Invalid,
                _ => FailureKind::System,
            },
            _ => FailureKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}
