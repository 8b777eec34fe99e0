//! What can go wrong with a request, in the words that the caller reads.

use std::fmt;

use nexus_host::agent::AgentError;
use nexus_model::{ErrorKind, InvalidName, vm};
use nexus_protocol::FailureKind;

/// Why a request failed: a [kind](ErrorKind) that a program can tell, and one sentence that says what to do. The cause,
/// where there is one, is the source.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    /// What was being done; none when the cause says it all.
    message: Option<String>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.cause) {
            (Some(message), _) => f.write_str(message),
            (None, Some(cause)) => cause.fmt(f),
            (None, None) => self.kind.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let cause = self.cause.as_deref()?;
        if self.message.is_some() { Some(cause) } else { cause.source() }
    }
}

impl Error {
    /// An error with nothing behind it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: Some(message.into()), cause: None }
    }

    /// An error and its cause; `message` says what was being done.
    pub fn caused(
        kind: ErrorKind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: Some(message.into()), cause: Some(cause.into()) }
    }

    fn transparent(kind: ErrorKind, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, message: None, cause: Some(cause.into()) }
    }

    /// What kind of failure it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether something could not be written or read, which may be otherwise a moment later.
    pub(crate) const fn is_of_storage(&self) -> bool {
        matches!(self.kind, ErrorKind::StorageFailed | ErrorKind::ResourcesExhausted)
    }

    /// The message and those of all its causes, joined by colons: what a person reads.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// There is no such thing; says how to see what there is.
    #[must_use]
    pub fn not_found(noun: &str, name: &str) -> Self {
        let list = match noun {
            "VM" => "vm list",
            "workspace" => "ws list",
            "image" => "image list",
            "asset" => "kernel list",
            "job" => "job list",
            _ => "tree",
        };
        Self::new(ErrorKind::NotFound, format!("there is no {noun} `{name}`: see what there is with `nexusctl {list}`"))
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }
}

impl From<InvalidName> for Error {
    fn from(error: InvalidName) -> Self {
        Self::new(ErrorKind::InvalidName, error.to_string())
    }
}

impl From<vm::InvalidSpec> for Error {
    fn from(error: vm::InvalidSpec) -> Self {
        Self::new(ErrorKind::InvalidArgs, error.to_string())
    }
}

macro_rules! from_kind {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::transparent(error.kind(), error)
            }
        })+
    };
}

from_kind!(
    nexus_host::asset::AssetError,
    nexus_host::image::ImageError,
    nexus_host::resource::ResourceError,
    nexus_host::storage::StorageError,
    nexus_host::unit::UnitError,
    nexus_host::vmm::VmmError,
    nexus_store::Error,
);

impl From<AgentError> for Error {
    fn from(error: AgentError) -> Self {
        Self::transparent(kind(&error), error)
    }
}

/// `GuestUnavailable` says that the guest has not heard of what was asked, so that it may be asked again.
fn kind(error: &AgentError) -> ErrorKind {
    match error {
        AgentError::Unreachable(_) | AgentError::Gone(_) => ErrorKind::GuestUnavailable,
        AgentError::Streamless(error) => match kind(error) {
            ErrorKind::GuestUnavailable => ErrorKind::GuestFailed,
            kind => kind,
        },
        AgentError::Timeout { .. } | AgentError::TimeUp => ErrorKind::Timeout,
        AgentError::Busy { .. } => ErrorKind::Busy,
        AgentError::TooOld { .. } => ErrorKind::NotImplemented,
        AgentError::Entropy(_) => ErrorKind::HostUnsupported,
        AgentError::TooLarge(_) | AgentError::InvalidCommand(_) | AgentError::InvalidTerminal(_) => {
            ErrorKind::InvalidArgs
        }
        AgentError::Failed(failure) => match failure.kind {
            FailureKind::NotFound => ErrorKind::NotFound,
            FailureKind::NotExecutable => ErrorKind::PermissionDenied,
            FailureKind::Invalid => ErrorKind::InvalidArgs,
            FailureKind::Exhausted => ErrorKind::ResourcesExhausted,
            _ => ErrorKind::GuestFailed,
        },
        AgentError::Lost(_)
        | AgentError::Revision { .. }
        | AgentError::Nonsense
        | AgentError::Stream(_)
        | AgentError::Descriptor(_) => ErrorKind::GuestFailed,
    }
}
