//! What a peer can that not every peer of its revision can.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

/// Abilities by their words, such as `terminals`. At most [`Features::MAX`] words of [`Features::MAX_WORD_BYTES`]; what
/// is over that when it is read, and what is no word of lower-case letters, digits and dashes, is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Features(BTreeSet<String>);

impl Features {
    /// The words of agents.
    pub const OF_AGENTS: [&str; 7] =
        [Self::CLOCK, Self::COPY, Self::FILES, Self::SPARES, Self::STREAMS, Self::TERMINALS, Self::TOOLS];
    /// Most words.
    pub const MAX: usize = 64;
    /// What an agent says that sets its guest's clock and has its commands stand still: it takes
    /// [`Call::Freeze`](crate::Call::Freeze) and [`Call::Refresh`](crate::Call::Refresh).
    pub const CLOCK: &str = "clock";
    /// What an agent says that takes [`Call::OpenStream`](crate::Call::OpenStream) for
    /// [`Purpose::CopyIn`](crate::Purpose::CopyIn) and [`Purpose::CopyOut`](crate::Purpose::CopyOut).
    pub const COPY: &str = "copy";
    /// What an agent says that takes [`Call::ReadFile`](crate::Call::ReadFile), [`Call::WriteFile`](crate::Call::WriteFile)
    /// and [`Call::DeleteFile`](crate::Call::DeleteFile).
    pub const FILES: &str = "files";
    /// What an agent says that takes connections to its ports ahead, before anybody wants the stream: their opening frame has
    /// all the time. With [`TERMINALS`](Self::TERMINALS) it says as well where the next terminal will be.
    pub const SPARES: &str = "spares";
    /// What an agent says that numbers the streams which it allows: it takes [`Call::ListStreams`](crate::Call::ListStreams),
    /// [`Call::WaitStream`](crate::Call::WaitStream) and [`Call::CloseStream`](crate::Call::CloseStream).
    pub const STREAMS: &str = "streams";
    /// What an agent with terminals says: it takes [`Call::OpenTerminal`](crate::Call::OpenTerminal) and
    /// [`Call::ResizeExec`](crate::Call::ResizeExec).
    pub const TERMINALS: &str = "terminals";
    /// What an agent says that offers MCP: it takes [`Call::OpenStream`](crate::Call::OpenStream) for
    /// [`Purpose::Tools`](crate::Purpose::Tools).
    pub const TOOLS: &str = "tools";
    /// Longest word, in bytes.
    pub const MAX_WORD_BYTES: usize = 64;

    /// Whether it has that one.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of the alphabet.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn add(&mut self, word: &str) {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_word = (1..=Self::MAX_WORD_BYTES).contains(&word.len()) && word.bytes().all(is_plain);
        if is_word && self.0.len() < Self::MAX {
            self.0.insert(word.to_owned());
        }
    }
}

impl<'a> FromIterator<&'a str> for Features {
    fn from_iter<T: IntoIterator<Item = &'a str>>(words: T) -> Self {
        let mut features = Self::default();
        words.into_iter().for_each(|word| features.add(word));
        features
    }
}

/// Keeps what there is room for as it comes.
struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Features;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of words")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Features, A::Error> {
        let mut features = Features::default();
        while let Some(word) = list.next_element::<String>()? {
            features.add(&word);
        }
        Ok(features)
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Words)
    }
}
