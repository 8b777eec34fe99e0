use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use nexus_model::steers_display;

/// More than a line of any VMM, less than anybody wants to read in an error.
const TAIL_BYTES: i64 = 1024;
const MAX_CHARACTERS: usize = 300;

/// The last line with anything in it of a console log, where a VMM that could not go on says why. The guest writes there
/// as well, so control characters are taken out and nothing is concluded from it.
#[must_use]
pub fn last_words(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = i64::try_from(file.metadata().ok()?.len()).ok()?;
    file.seek(SeekFrom::End(-length.min(TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES.unsigned_abs()).read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    let line = tail.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.chars().filter(|character| !steers_display(*character)).take(MAX_CHARACTERS).collect())
}
