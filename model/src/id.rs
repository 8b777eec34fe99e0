//! Identifiers that are never used twice.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A random 64-bit identifier, written as 16 lower-case hexadecimal digits. Short enough for a Unix socket's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(u64);

impl Id {
    /// A new identifier from the system's random source.
    ///
    /// # Errors
    /// When the system has no random source.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self(getrandom::u64()?))
    }
}

impl From<u64> for Id {
    fn from(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for Id {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Id {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        hexadecimal(text, 16).map(Self)
    }
}

/// Which Nexus this is: 8 lower-case hexadecimal digits that belong to a state directory and are part of every unit's
/// and device's name, so that two daemons of one user never touch each other's things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(u32);

impl InstanceId {
    /// A new instance id from the system's random source.
    ///
    /// # Errors
    /// When the system has no random source.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self(getrandom::u32()?))
    }

    /// Its bits, all of them random.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for InstanceId {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for InstanceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bits = hexadecimal(text, 8)?;
        u32::try_from(bits).map(Self).map_err(|_| ParseIdError { text: text.to_owned(), digits: 8 })
    }
}

fn hexadecimal(text: &str, digits: usize) -> Result<u64, ParseIdError> {
    let error = || ParseIdError { text: text.to_owned(), digits };
    if text.len() != digits || text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(error());
    }
    u64::from_str_radix(text, 16).map_err(|_| error())
}

/// Text that is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: {digits} lower-case hexadecimal digits")]
pub struct ParseIdError {
    text: String,
    digits: usize,
}
