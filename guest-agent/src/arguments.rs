//! The command line.

use std::{collections::BTreeSet, ffi::OsString, path::PathBuf};

use nexus_protocol::{Features, REVISION, Role};

const HELP: &str = "\
Answers the Nexus host and runs commands for it inside a VM.

Usage: guest-agent [OPTIONS]

Started as process 1 it is the guest's init, and has no options. Started otherwise it is a service under the guest's own
init and listens on vsock ports 100 to 102 and 200, and on those of 300 to 399 that terminals have, or the next one will.

Options:
      --process DIR   Be a process without a guest: listen on the Unix socket DIR/vsock.sock instead
      --without WORD  Be without one of clock, copy, files, spares, streams, terminals and tools: its calls are refused, as by
                      an older agent. May be given several times
  -h, --help          Print this help
  -V, --version       Print version and protocol revision";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arguments {
    /// To run.
    Start(Start),
    /// To print this and be done.
    Print(String),
}

/// As what to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) role: Role,
    /// Where the Unix socket of a mere process goes.
    pub(crate) folder: Option<PathBuf>,
    /// The words of [`Features`] that it is not to have.
    pub(crate) without: BTreeSet<&'static str>,
}

impl Start {
    pub(crate) const fn with_role(role: Role) -> Self {
        Self { role, folder: None, without: BTreeSet::new() }
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("--process needs a folder\nSee --help.")]
    NoFolder,
    #[error("--without needs one of the words {}, and was given `{}`\nSee --help.", Features::OF_AGENTS.join(", "), .0.display())]
    NoFeature(OsString),
    #[error("unexpected argument `{}`\nSee --help.", .0.display())]
    Unexpected(OsString),
}

impl Arguments {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Self, ArgumentError> {
        let mut start = Start::with_role(Role::Service);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("-h" | "--help") => return Ok(Self::Print(HELP.to_owned())),
                Some("-V" | "--version") => {
                    let version = env!("CARGO_PKG_VERSION");
                    return Ok(Self::Print(format!("guest-agent {version} (protocol {REVISION})")));
                }
                Some("--process") if start.folder.is_none() => {
                    let folder = arguments.next().ok_or(ArgumentError::NoFolder)?;
                    start = Start { role: Role::Process, folder: Some(folder.into()), ..start };
                }
                Some("--without") => {
                    let word = arguments.next().unwrap_or_default();
                    let known = Features::OF_AGENTS.into_iter().find(|known| word == *known);
                    start.without.insert(known.ok_or(ArgumentError::NoFeature(word))?);
                }
                _ => return Err(ArgumentError::Unexpected(argument)),
            }
        }
        Ok(Self::Start(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Arguments, ArgumentError> {
        Arguments::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn tells_a_service_from_a_process() {
        assert_eq!(parse(&[]), Ok(Arguments::Start(Start::with_role(Role::Service))));
        let process = Start { folder: Some("/run/x".into()), ..Start::with_role(Role::Process) };
        assert_eq!(parse(&["--process", "/run/x"]), Ok(Arguments::Start(process)));
    }

    #[test]
    fn does_without_what_it_is_told_to() {
        let service = Start { without: ["clock", "tools"].into(), ..Start::with_role(Role::Service) };
        let arguments = ["--without", "tools", "--without", "clock", "--without", "tools"];
        assert_eq!(parse(&arguments), Ok(Arguments::Start(service)));
        for word in Features::OF_AGENTS {
            assert!(parse(&["--without", word]).is_ok() && HELP.contains(word), "{word}");
        }
        assert_eq!(parse(&["--without", "tool"]), Err(ArgumentError::NoFeature("tool".into())));
        assert_eq!(parse(&["--without"]), Err(ArgumentError::NoFeature("".into())));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert_eq!(parse(&["--process"]), Err(ArgumentError::NoFolder));
        assert_eq!(parse(&["serve"]), Err(ArgumentError::Unexpected("serve".into())));
        assert_eq!(parse(&["--process", "a", "--process", "b"]), Err(ArgumentError::Unexpected("--process".into())));
    }
}
