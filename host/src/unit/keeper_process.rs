//! Keepers by their command lines: `nexus-shim [--detach] <unit> <runtime folder>`.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nexus_model::ProcessIdentity;

use super::UnitError;
use crate::process::identify;

/// The name of the keeper's program.
const SHIM: &[u8] = b"nexus-shim";

/// A process that says of itself that it is a keeper, or was forked by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperProcess {
    /// The unit that it keeps.
    pub unit: String,
    /// The folder that it keeps it in.
    pub runtime_dir: PathBuf,
    /// The process.
    pub process: ProcessIdentity,
    /// Whether its program has the keeper's name, and runs as this user.
    pub is_shim: bool,
}

/// The keepers of units whose names begin with `prefix`. Those whose users do not let themselves be looked at are left out.
///
/// # Errors
/// When `/proc` can't be read.
pub fn keeper_processes(prefix: &str) -> Result<Vec<KeeperProcess>, UnitError> {
    let failed = |source: io::Error| UnitError::File { action: "list", path: PathBuf::from("/proc"), source };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ended meanwhile has no command line.
        let Ok(command_line) = fs::read(entry.path().join("cmdline")) else { continue };
        let Some((unit, runtime_dir)) = parse(&command_line).filter(|(unit, _)| unit.starts_with(prefix)) else {
            continue;
        };
        let Ok(Some(process)) = identify(pid) else { continue };
        found.push(KeeperProcess { unit, runtime_dir, process, is_shim: is_shim(&entry.path()) });
    }
    Ok(found)
}

fn parse(command_line: &[u8]) -> Option<(String, PathBuf)> {
    let mut arguments = command_line.split(|byte| *byte == 0);
    let program = arguments.next()?;
    if !program.ends_with(SHIM) {
        return None;
    }
    let mut arguments = arguments.skip_while(|argument| *argument == b"--detach");
    let unit = std::str::from_utf8(arguments.next()?).ok()?;
    let runtime_dir = OsStr::from_bytes(arguments.next().unwrap_or_default());
    Some((unit.to_owned(), runtime_dir.into()))
}

/// A program that was replaced by an upgrade has ` (deleted)` after its name, `proc_pid_exe(5)`.
fn is_shim(process: &Path) -> bool {
    let program = fs::read_link(process.join("exe"));
    let named = program.is_ok_and(|program| {
        let name = program.file_name().unwrap_or_default().as_bytes();
        name.strip_suffix(b" (deleted)").unwrap_or(name) == SHIM
    });
    named && fs::metadata(process).is_ok_and(|metadata| metadata.uid() == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_is_known_by_its_command_line() {
        let of = |text: &str| parse(text.replace(' ', "\0").as_bytes());
        let keeper = Some(("nexus-1-2".to_owned(), PathBuf::from("/run/2")));
        assert_eq!(of("/usr/libexec/nexus-shim nexus-1-2 /run/2 "), keeper);
        assert_eq!(of("nexus-shim --detach nexus-1-2 /run/2 "), keeper);
        assert_eq!(of("/bin/sh nexus-shim nexus-1-2 /run/2 "), None);
        assert_eq!(of("nexus-shim "), Some((String::new(), PathBuf::new())));
        assert_eq!(of(""), None);
    }
}
