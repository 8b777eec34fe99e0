//! Why a copy has come to nothing.

use nexus_archive::ArchiveError;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) why: String,
    /// Something of it is there all the same.
    pub(super) stays: bool,
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self { why, stays: false }
    }
}

impl From<&str> for Broken {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl From<ArchiveError> for Broken {
    fn from(error: ArchiveError) -> Self {
        Self { why: error.said(), stays: matches!(error, ArchiveError::Remains { .. }) }
    }
}
