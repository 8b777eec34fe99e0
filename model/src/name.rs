//! Names that people give to things, and how a name becomes part of an object path.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Name of a VM, a workspace or a network: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?`, like a host's (RFC 1123, lower case, a
/// letter first), because it becomes the guest's host name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Name of an image, a template or an asset: lower-case letters, digits, dots, hyphens and underscores, a letter or a
/// digit first and last, at most 64 characters (`python-3.12`, `kernel-6.18.9`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactName(String);

macro_rules! name_type {
    ($name:ident, $max:literal, $first:pat, $middle:pat, $last:pat, $rule:literal) => {
        impl $name {
            /// The longest name, in characters.
            pub const MAX: usize = $max;

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid = match text.as_bytes() {
                    [only] => matches!(only, $first),
                    [first, middle @ .., last] => {
                        text.len() <= $max
                            && matches!(first, $first)
                            && middle.iter().all(|byte| matches!(byte, $middle))
                            && matches!(last, $last)
                    }
                    [] => false,
                };
                if valid {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { text: text.chars().take(80).collect(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    Name,
    63,
    b'a'..=b'z',
    b'a'..=b'z' | b'0'..=b'9' | b'-',
    b'a'..=b'z' | b'0'..=b'9',
    "1 to 63 lower-case letters, digits and hyphens, a letter first and no hyphen last"
);
name_type!(
    ArtifactName,
    64,
    b'a'..=b'z' | b'0'..=b'9',
    b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-',
    b'a'..=b'z' | b'0'..=b'9',
    "1 to 64 lower-case letters, digits, dots, hyphens and underscores, a letter or a digit first and last"
);

/// Text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: use {rule}")]
pub struct InvalidName {
    text: String,
    rule: &'static str,
}

/// A name as one element of a D-Bus object path, escaped as `sd_bus_path_encode(3)` does: letters and digits stay, but
/// for a leading digit; everything else becomes `_` and two hexadecimal digits; the empty name is `_`.
#[must_use]
pub fn path_component(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut component = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (index > 0 && byte.is_ascii_digit()) {
            component.push(char::from(byte));
        } else {
            component.push_str(&format!("_{byte:02x}"));
        }
    }
    component
}
