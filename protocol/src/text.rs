//! Text that the other side wrote.

use std::{fmt, ops::Deref};

use nexus_model::steers_display;
use serde::{Deserialize, Deserializer, Serialize};

/// Text that is safe to show, log and put on the bus: nothing that [steers its display](steers_display), such as control
/// characters (each becomes U+FFFD), and at most [`Text::MAX_BYTES`]. Whatever is deserialized or converted into it is made so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// The longest text, in bytes; the rest is cut off at a character's boundary.
    pub const MAX_BYTES: usize = 4096;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut clean = String::with_capacity(text.len().min(Self::MAX_BYTES));
        for character in text.chars() {
            let character = if steers_display(character) { char::REPLACEMENT_CHARACTER } else { character };
            if clean.len() + character.len_utf8() > Self::MAX_BYTES {
                break;
            }
            clean.push(character);
        }
        Self(clean)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
