//! What can go wrong with an archive.

use std::{io, path::Path};

use nexus_model::steers_display;

/// Why files were not packed, or not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file could not be read or made.
    #[error("cannot {act} `{path}`")]
    File {
        /// What was being done.
        act: &'static str,
        /// Which file, as it may be shown.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something in the place already.
    #[error("`{path}` is there already, and to replace it was not asked for")]
    Exists {
        /// The place, as it may be shown.
        path: String,
    },
    /// The place is of the wrong kind for what is to be there.
    #[error("`{path}` can't be written: {reason}")]
    Place {
        /// The place, as it may be shown.
        path: String,
        /// Why not.
        reason: &'static str,
    },
    /// What was unpacked is in its place, but what was there before is not gone.
    #[error("`{path}` is written, but what it replaces can't be removed and is beside it, in `{name}`")]
    Remains {
        /// The place, as it may be shown.
        path: String,
        /// What the old one is called now.
        name: String,
        /// Why it can't be removed.
        #[source]
        source: io::Error,
    },
    /// The archive holds what no honest one of files does, or more than is allowed.
    #[error("the archive holds `{entry}`: {reason}")]
    Entry {
        /// Name in the archive, as it may be shown.
        entry: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What it holds is more than there is room for.
    #[error("there is no room for it where it was to go: {} MiB were free", bytes >> 20)]
    NoRoom {
        /// As many bytes as were free.
        bytes: u64,
    },
    /// The archive as a whole is not what it should be.
    #[error("the archive is refused: {0}")]
    Archive(&'static str),
    /// What carries the archive failed, or it is none.
    #[error("cannot {act} the archive")]
    Stream {
        /// What was being done.
        act: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    pub(crate) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = shown(path);
        move |source| Self::File { act, path, source }
    }

    pub(crate) fn entry(path: &Path, reason: &'static str) -> Self {
        Self::Entry { entry: shown(path), reason }
    }

    pub(crate) fn stream(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Stream { act, source: early_end(source) }
    }

    /// The error with its causes, in one line.
    #[must_use]
    pub fn said(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// A path as it may be shown to a person: without what steers a display, and of a bearable length.
pub(crate) fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(|char| if steers_display(char) { '?' } else { char }).take(200).collect()
}

/// An end that comes too early, in words: those of the standard library are about its buffers.
pub(crate) fn early_end(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it ended in the midst of it"),
        _ => error,
    }
}
