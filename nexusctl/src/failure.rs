//! What a person reads when something failed: what, why, and what to do next.

use std::{fmt, process::ExitCode};

use nexus_dbus::Error;
use nexus_model::ErrorKind;
use zbus::fdo;

use crate::output::{clean, sentence};

/// How nexusctl ends. A command in a guest has its own codes: these are for what is between it and the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// What was asked for is done.
    pub(crate) const OK: Self = Self(0);
    /// It is not.
    pub(crate) const FAILED: Self = Self(1);
    /// It was not understood, or not confirmed. clap's own code.
    pub(crate) const USAGE: Self = Self(2);
    /// `exec`, `run`: the command was killed because its time was up. As `timeout(1)` says it.
    pub(crate) const TIME_UP: Self = Self(124);
    /// `exec`, `run`: the command could not be tried, or nobody knows how it ended.
    pub(crate) const NOT_RUN: Self = Self(125);
    /// `exec`, `run`: the command is there and can't be executed.
    pub(crate) const NOT_EXECUTABLE: Self = Self(126);
    /// `exec`, `run`: there is no such command.
    pub(crate) const NO_COMMAND: Self = Self(127);

    /// Ended by a signal, as a shell shows it.
    pub(crate) const fn signal(number: u8) -> Self {
        Self(128 | number)
    }

    /// Whether a signal ended it.
    pub(crate) const fn is_signal(self) -> bool {
        self.0 > 128
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Why nexusctl ends otherwise than well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What failed. Empty: there is nothing to say, as when nobody reads.
    what: String,
    /// Why, one sentence each.
    why: Vec<String>,
    /// What to do next: text and a command to type.
    hints: Vec<(String, String)>,
    exit: Exit,
    kind: Option<ErrorKind>,
    /// Whether whatever is tried after it would fail as well.
    ends_all: bool,
}

impl Failure {
    /// Something failed.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), hints: Vec::new(), exit: Exit::FAILED, kind: None, ends_all: false }
    }

    /// Nobody reads the output any more. As the signal would end it, and as silent.
    pub(crate) const fn broken_pipe() -> Self {
        Self::silent(Exit::signal(13))
    }

    /// All that there is to say was said.
    pub(crate) const fn silent(exit: Exit) -> Self {
        Self { what: String::new(), why: Vec::new(), hints: Vec::new(), exit, kind: None, ends_all: true }
    }

    /// Why, in one sentence.
    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// What to do next, and the command for it.
    pub(crate) fn hint(mut self, text: impl Into<String>, command: impl Into<String>) -> Self {
        self.hints.push((text.into(), command.into()));
        self
    }

    /// How nexusctl ends for it.
    pub(crate) const fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The exit code.
    pub(crate) const fn code(&self) -> Exit {
        self.exit
    }

    /// What kind of failure Nexus says that it is.
    pub(crate) const fn kind(&self) -> Option<ErrorKind> {
        self.kind
    }

    /// Why, and what to do next, in one line.
    pub(crate) fn in_one_line(&self) -> String {
        let why = if self.why.is_empty() { self.what.clone() } else { self.why.join(" ") };
        self.hints.iter().fold(why, |line, (text, command)| format!("{line} {text}: {command}"))
    }

    /// What failed, why, and what to do next, for somebody who does not type commands: `instead_of` one of them.
    pub(crate) fn for_others(&self, instead_of: impl Fn(&str) -> String) -> String {
        let parts = std::iter::once(sentence(&self.what)).chain(self.why.iter().cloned());
        let hints = self.hints.iter().map(|(text, command)| format!("{text}: {}", instead_of(command)));
        clean(&parts.chain(hints).collect::<Vec<_>>().join(" "))
    }

    /// Whatever is tried after it would fail as well.
    pub(crate) const fn for_all(mut self) -> Self {
        self.ends_all = true;
        self
    }

    /// Whether whatever is tried after it would fail as well.
    pub(crate) const fn ends_all(&self) -> bool {
        self.ends_all
    }

    /// Whether there is anything to print.
    pub(crate) const fn is_silent(&self) -> bool {
        self.what.is_empty()
    }

    /// The daemon can't be reached: `start` is what to type.
    pub(crate) fn not_running(start: &str) -> Self {
        Self::new("cannot reach Nexus on the session bus")
            .because("The daemon is not running.")
            .hint("Start it", start)
            .for_all()
    }

    /// What the bus says about a call, while doing `what`.
    pub(crate) fn call(what: &str, error: &Error) -> Self {
        let failure = Self::new(format!("cannot {what}"));
        match error {
            Error::Nexus { kind, text } => {
                let mut failure = failure.because(sentence(text));
                failure.kind = Some(*kind);
                match advice(*kind) {
                    Some((text, command)) => failure.hint(text, command),
                    None => failure,
                }
            }
            Error::Bus(error) => failure.because_of_bus(error),
        }
    }

    fn because_of_bus(mut self, error: &zbus::Error) -> Self {
        match error {
            zbus::Error::FDO(error) => match &**error {
                fdo::Error::NoReply(_) | fdo::Error::Disconnected(_) => self.because_daemon_went(),
                fdo::Error::UnknownMethod(_) | fdo::Error::UnknownProperty(_) | fdo::Error::InvalidArgs(_) => self
                    .because("The daemon does not know this call: it is of another version than nexusctl.")
                    .hint("Compare them", "nexusctl version"),
                fdo::Error::UnknownObject(_) | fdo::Error::UnknownInterface(_) => {
                    self.kind = Some(ErrorKind::NotFound);
                    self.because("It is gone.").hint("See what there is", "nexusctl tree")
                }
                fdo::Error::AccessDenied(text) => self.because(format!("The bus does not allow it: {text}.")),
                other => self.because(sentence(zbus::DBusError::description(other).unwrap_or("the bus failed"))),
            },
            zbus::Error::MethodError(_, text, _) => {
                self.because(sentence(text.as_deref().unwrap_or("the daemon does not say why")))
            }
            zbus::Error::InputOutput(_) => self
                .because("The connection to the session bus is gone.")
                .hint("See whether the daemon is there", "nexusctl status"),
            other => self
                .because(sentence(&other.to_string()))
                .hint("Compare the versions of nexusctl and the daemon", "nexusctl version"),
        }
    }

    fn because_daemon_went(self) -> Self {
        self.because("The daemon went away before it answered; VMs run on without it.")
            .hint("See whether it is back", "nexusctl status")
    }
}

/// What helps with any failure of this kind, beside what the error itself says to do.
const fn advice(kind: ErrorKind) -> Option<(&'static str, &'static str)> {
    match kind {
        ErrorKind::Busy => Some(("See what is under way", "nexusctl job list")),
        ErrorKind::HostUnsupported | ErrorKind::ResourcesExhausted => Some(("Check this machine", "nexusctl doctor")),
        ErrorKind::StorageFailed => Some(("See the space that is left", "nexusctl status")),
        ErrorKind::ShuttingDown => Some(("See when it is back", "nexusctl status")),
        ErrorKind::Internal => Some(("See the daemon's log", "journalctl --user --unit nexus.service")),
        _ => None,
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::broken_pipe()
        } else {
            Self::new("cannot write the output").because(sentence(&error.to_string()))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::output::style::{ERROR, HINT};
        write!(f, "{ERROR}Error:{ERROR:#} {}", clean(&self.what))?;
        for why in &self.why {
            write!(f, "\n  {}", clean(why))?;
        }
        for (text, command) in &self.hints {
            write!(f, "\n  {}: {HINT}{}{HINT:#}", clean(text), clean(command))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(failure: &Failure) -> String {
        anstream::adapter::strip_str(&failure.to_string()).to_string()
    }

    #[test]
    fn says_what_why_and_what_next() {
        let error = Error::new(ErrorKind::Busy, "VM `web` is busy: a start is under way");
        assert_eq!(
            plain(&Failure::call("start VM web", &error)),
            "Error: cannot start VM web\n  VM `web` is busy: a start is under way.\n  See what is under way: nexusctl job list"
        );
    }

    #[test]
    fn a_guests_words_can_not_steer_the_terminal() {
        let error = Error::new(ErrorKind::GuestFailed, "there is no program `\x1b]0;owned\x07\u{9b}2J`\r\nin it");
        let text = plain(&Failure::call("run a command", &error));
        assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
    }

    #[test]
    fn names_of_bus_errors_are_no_noise() {
        let gone = fdo::Error::NoReply("Message recipient disconnected from message bus without replying".to_owned());
        let text = plain(&Failure::call("stop VM web", &Error::from(gone)));
        assert!(text.contains("went away") && !text.contains("org."), "{text}");
    }
}
