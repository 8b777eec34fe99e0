//! The fields of `/proc/<pid>/stat`.

use std::str::SplitAsciiWhitespace;

/// Those from the third on, see `proc_pid_stat(5)`. The second is the command's name in parentheses, and may hold any byte:
/// spaces, newlines, parentheses, no UTF-8.
pub(crate) fn from_third(stat: &[u8]) -> Option<SplitAsciiWhitespace<'_>> {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end_of_name + 1..)?).ok()?;
    Some(rest.split_ascii_whitespace())
}
