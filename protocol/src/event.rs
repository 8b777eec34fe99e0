//! What the agent says unasked.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use crate::ShutdownMode;

/// Something that happened in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The guest is going down: somebody asked, on whichever side.
    Ending {
        /// What is to follow.
        mode: ShutdownMode,
    },
    /// Something that only a newer agent tells of. Never sent.
    #[serde(skip_serializing)]
    Unknown,
}

/// What [`Event::Ending`] holds.
#[derive(Deserialize)]
struct Ending {
    mode: ShutdownMode,
}

/// Reads an event by its name, and skips over one whose name says nothing: serde's `other` takes no content.
struct Named;

impl<'de> Visitor<'de> for Named {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Event, E> {
        match name {
            "ending" => Err(E::custom("the event `ending` has no content")),
            _ => Ok(Event::Unknown),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let name: String = map.next_key()?.ok_or_else(|| A::Error::custom("an event without a name"))?;
        let event = match name.as_str() {
            "ending" => {
                let Ending { mode } = map.next_value()?;
                Event::Ending { mode }
            }
            _ => map.next_value::<IgnoredAny>().map(|_| Event::Unknown)?,
        };
        match map.next_key::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("an event of two names")),
            None => Ok(event),
        }
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Named)
    }
}
