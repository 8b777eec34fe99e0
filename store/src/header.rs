//! The first bytes of a database file: enough to know whose it is without SQLite, which may write as it opens.

use std::{fs::File, io, io::Read, path::Path};

/// Size of the header, see <https://sqlite.org/fileformat2.html#the_database_header>.
const SIZE: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";
const USER_VERSION: usize = 60;
const APPLICATION_ID: usize = 68;

/// What a database says of itself. The write-ahead log may hold a newer user version, but never another application id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) application_id: u32,
    pub(crate) user_version: u32,
}

/// Reads a file's header. None when it is no SQLite database.
///
/// Never call this for a database that this process has open: closing the file would drop SQLite's own locks on it
/// (<https://sqlite.org/howtocorrupt.html>, "POSIX advisory locks canceled").
pub(crate) fn read(path: &Path) -> io::Result<Option<Header>> {
    let mut bytes = [0; SIZE];
    match File::open(path)?.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let number =
        |offset: usize| bytes[offset..offset + 4].iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    Ok(bytes
        .starts_with(MAGIC)
        .then(|| Header { application_id: number(APPLICATION_ID), user_version: number(USER_VERSION) }))
}
