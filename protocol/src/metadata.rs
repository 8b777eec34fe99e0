//! What an image says about itself, within what a host hears.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};

use crate::{Text, Welcome};

/// Keeps the entries that come first, up to [`Welcome::MAX_METADATA_BYTES`]. For serde.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Text, Text>, D::Error> {
    deserializer.deserialize_map(Entries)
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = BTreeMap<Text, Text>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut entries, mut bytes) = (BTreeMap::new(), 0);
        while let Some((name, value)) = map.next_entry::<Text, Text>()? {
            bytes += name.len() + value.len();
            if bytes <= Welcome::MAX_METADATA_BYTES {
                entries.insert(name, value);
            }
        }
        Ok(entries)
    }
}
