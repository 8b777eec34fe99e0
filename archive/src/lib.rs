//! Trees of files as one stream: packed, carried with a checksum, and unpacked whole or not at all.
//!
//! The stream is a tar archive (POSIX.1-2001, with sparse files as GNU's format 1.0 has them) in [`chunk`]s. [`pack`] makes
//! one of a file or a folder, and [`Unpacker`] makes files of it again: below one folder out of which nothing leads, within
//! [`Limits`], because whoever packed it may be a hostile guest. A [`Draft`] is such a folder beside the place where the
//! files are to be in the end. Modes, times, symbolic and hard links, pipes and holes are kept; owners, set-user-ID bits,
//! devices, sockets and extended attributes are not.
//!
//! Everything here blocks.

pub mod chunk;
mod draft;
mod entry_path;
mod error;
mod idle_stream;
mod limits;
mod pack;
mod remove;
mod root;
mod sparse;
mod summary;
mod target;
mod temporary;
mod unpack;

pub use draft::Draft;
pub use entry_path::{BadEntryPath, entry_path};
pub use error::ArchiveError;
pub use idle_stream::{IdleStream, MAX_SEND_BYTES};
pub use limits::{Limits, Ration};
pub use pack::pack;
pub use remove::remove;
pub use root::{Place, Root};
pub use summary::Summary;
pub use target::Target;
pub use temporary::Temporary;
pub use unpack::{Top, Unpacker};
