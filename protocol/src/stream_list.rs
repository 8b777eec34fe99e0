//! The streams of an agent that are open.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use crate::Text;

/// Whose a stream is, in the host's words, which mean nothing to the agent: a [`Text`] of at most [`Label::MAX_BYTES`].
/// What is read of a longer one is its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Text", into = "Text")]
pub struct Label(Text);

impl Label {
    /// The longest label, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&str> for Label {
    fn from(words: &str) -> Self {
        Self::from(Text::from(words))
    }
}

impl From<Text> for Label {
    fn from(words: Text) -> Self {
        let words = words.as_str();
        Self(Text::from(words.get(..words.floor_char_boundary(Self::MAX_BYTES)).unwrap_or_default()))
    }
}

impl From<Label> for Text {
    fn from(label: Label) -> Self {
        label.0
    }
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamKind {
    /// The stdio of a command: three connections, open from the first of them to the end of the last.
    Stdio,
    /// A session of the Model Context Protocol.
    Tools,
    /// A viewer of a terminal.
    Terminal,
    /// A copy of files.
    Copy,
    /// Something that only a newer agent has. Never sent.
    #[serde(other)]
    Unknown,
}

/// A stream in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Names it for as long as the agent runs.
    pub stream: u64,
    /// What it carries.
    pub kind: StreamKind,
    /// Its vsock port.
    pub port: u32,
    /// Whose it is, as the host said when it asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    /// For how many microseconds it has been open, by the guest's monotonic clock.
    pub age_us: u64,
    /// Bytes that came from the host.
    pub from_host: u64,
    /// Bytes that were written to the host.
    pub to_host: u64,
}

/// Open streams. At most [`StreamList::MAX`]; what is over that when it is read is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StreamList(Vec<StreamInfo>);

impl StreamList {
    /// Most streams that are open at a time.
    pub const MAX: usize = 512;

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &StreamInfo> {
        self.0.iter()
    }
}

impl FromIterator<StreamInfo> for StreamList {
    fn from_iter<T: IntoIterator<Item = StreamInfo>>(streams: T) -> Self {
        Self(streams.into_iter().take(Self::MAX).collect())
    }
}

/// Keeps what there is room for as it comes.
struct Streams;

impl<'de> Visitor<'de> for Streams {
    type Value = StreamList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of streams")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<StreamList, A::Error> {
        let mut streams = Vec::new();
        while streams.len() < StreamList::MAX {
            match list.next_element()? {
                Some(stream) => streams.push(stream),
                None => return Ok(StreamList(streams)),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(StreamList(streams))
    }
}

impl<'de> Deserialize<'de> for StreamList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Streams)
    }
}
