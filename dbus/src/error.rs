//! The one error type of both sides: the server makes an error reply of it, the client gets it back.

use nexus_model::ErrorKind;
use zbus::{
    DBusError, Message,
    message::Header,
    names::{ErrorName, OwnedErrorName},
};

/// Why a call failed.
#[derive(Debug)]
pub enum Error {
    /// Nexus says so. The kind is the name of the D-Bus error, the text one sentence that says what to do.
    Nexus {
        /// What kind of failure it is.
        kind: ErrorKind,
        /// What a person reads.
        text: String,
    },
    /// The connection, or the bus, or zbus. Never sent by the server.
    Bus(zbus::Error),
}

/// What an error's name starts with.
const PREFIX: &str = "org.workfort.Nexus1.Error.";
/// The one error that the specification has already.
const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";

/// The name of the D-Bus error for each kind of failure.
#[must_use]
pub(crate) const fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgs => INVALID_ARGS,
        ErrorKind::NotFound => "org.workfort.Nexus1.Error.NotFound",
        ErrorKind::AlreadyExists => "org.workfort.Nexus1.Error.AlreadyExists",
        ErrorKind::InvalidName => "org.workfort.Nexus1.Error.InvalidName",
        ErrorKind::InvalidState => "org.workfort.Nexus1.Error.InvalidState",
        ErrorKind::Busy => "org.workfort.Nexus1.Error.Busy",
        ErrorKind::InUse => "org.workfort.Nexus1.Error.InUse",
        ErrorKind::Cancelled => "org.workfort.Nexus1.Error.Cancelled",
        ErrorKind::Timeout => "org.workfort.Nexus1.Error.Timeout",
        ErrorKind::GuestUnavailable => "org.workfort.Nexus1.Error.GuestUnavailable",
        ErrorKind::GuestFailed => "org.workfort.Nexus1.Error.GuestFailed",
        ErrorKind::HypervisorFailed => "org.workfort.Nexus1.Error.HypervisorFailed",
        ErrorKind::StorageFailed => "org.workfort.Nexus1.Error.StorageFailed",
        ErrorKind::NetworkFailed => "org.workfort.Nexus1.Error.NetworkFailed",
        ErrorKind::IntegrityFailed => "org.workfort.Nexus1.Error.IntegrityFailed",
        ErrorKind::ResourcesExhausted => "org.workfort.Nexus1.Error.ResourcesExhausted",
        ErrorKind::HostUnsupported => "org.workfort.Nexus1.Error.HostUnsupported",
        ErrorKind::PermissionDenied => "org.workfort.Nexus1.Error.PermissionDenied",
        ErrorKind::NotImplemented => "org.workfort.Nexus1.Error.NotImplemented",
        ErrorKind::ShuttingDown => "org.workfort.Nexus1.Error.ShuttingDown",
        ErrorKind::Internal => "org.workfort.Nexus1.Error.Internal",
    }
}

impl Error {
    /// A failure of a kind; `text` is one sentence that says what to do.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self::Nexus { kind, text: text.into() }
    }

    /// An argument or an option that is not understood.
    pub fn invalid_args(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgs, text)
    }

    /// What kind of failure it is; none when it is not Nexus that failed.
    #[must_use]
    pub const fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Nexus { kind, .. } => Some(*kind),
            Self::Bus(_) => None,
        }
    }

    /// The failure that a D-Bus error name and its text stand for, as in a job's `ErrorName` and `ErrorMessage`.
    #[must_use]
    pub fn from_name(name: &str, text: &str) -> Option<Self> {
        let kind = match name.strip_prefix(PREFIX) {
            // Under Nexus' own prefix there is no such name.
            Some("InvalidArgs") => return None,
            Some(word) => word.parse().ok()?,
            None if name == INVALID_ARGS => ErrorKind::InvalidArgs,
            None => return None,
        };
        Some(Self::new(kind, text))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nexus { text, .. } => f.write_str(text),
            Self::Bus(_) => f.write_str("the call over D-Bus failed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Nexus { .. } => None,
            Self::Bus(error) => Some(error),
        }
    }
}

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        let known = match &error {
            zbus::Error::MethodError(name, text, _) => {
                Self::from_name(name.as_str(), text.as_deref().unwrap_or_default())
            }
            zbus::Error::FDO(inner) => {
                Self::from_name(DBusError::name(&**inner).as_str(), inner.description().unwrap_or_default())
            }
            _ => None,
        };
        known.unwrap_or(Self::Bus(error))
    }
}

/// How zbus' proxies report a property that could not be set.
impl From<zbus::fdo::Error> for Error {
    fn from(error: zbus::fdo::Error) -> Self {
        match error {
            zbus::fdo::Error::ZBus(error) => error.into(),
            other => zbus::Error::FDO(Box::new(other)).into(),
        }
    }
}

impl DBusError for Error {
    fn create_reply(&self, call: &Header<'_>) -> zbus::Result<Message> {
        Message::error(call, self.name()).build(&self.description().unwrap_or_default())
    }

    fn name(&self) -> ErrorName<'_> {
        match self {
            Self::Nexus { kind, .. } => ErrorName::from_static_str_unchecked(name(*kind)),
            Self::Bus(zbus::Error::MethodError(name, ..)) => OwnedErrorName::as_ref(name),
            Self::Bus(_) => ErrorName::from_static_str_unchecked("org.freedesktop.DBus.Error.Failed"),
        }
    }

    fn description(&self) -> Option<&str> {
        match self {
            Self::Nexus { text, .. } => Some(text),
            Self::Bus(error) => error.description(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_name_and_comes_back() {
        for kind in ErrorKind::ALL {
            let name = name(*kind);
            assert!(name.ends_with(&format!(".{kind}")), "{name} does not say {kind}");
            ErrorName::try_from(name).unwrap();
            assert_eq!(Error::from_name(name, "text").unwrap().kind(), Some(*kind));
        }
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in [
            "org.freedesktop.DBus.Error.Failed",
            "org.workfort.Nexus1.Error.InvalidArgs",
            "org.workfort.Nexus1.Error.New",
        ] {
            assert!(Error::from_name(name, "").is_none(), "{name}");
        }
    }

    #[test]
    fn a_reply_becomes_the_error_that_it_was() {
        let call = Message::method_call("/a", "B").build(&()).unwrap();
        let sent = Error::new(ErrorKind::InUse, "the image `a` is used by workspace `b`: remove that first");
        let reply = sent.create_reply(&call.header()).unwrap();
        let received = Error::from(zbus::Error::from(reply));
        assert_eq!((received.kind(), received.to_string()), (Some(ErrorKind::InUse), sent.to_string()));
    }
}
