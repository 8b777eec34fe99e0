//! The log: to the journal when standard error is connected to it, else as lines for people.

use std::{
    env,
    io::{self, IsTerminal},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
};

use nexus_dbus::server::LogControl;
use nix::sys::stat::fstat;
use tracing_subscriber::{
    Layer, Registry,
    filter::{ParseError, Targets},
    layer::SubscriberExt,
    reload,
    util::SubscriberInitExt,
};

/// syslog's words and the level that stands for each. There is nothing between `warning` and `info`.
const LEVELS: [(&str, &str); 8] = [
    ("emerg", "error"),
    ("alert", "error"),
    ("crit", "error"),
    ("err", "error"),
    ("warning", "warn"),
    ("notice", "info"),
    ("info", "info"),
    ("debug", "debug"),
];

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The level is none.
    #[error("`{level}` is no log level: use error, warn, info, debug or trace")]
    Level {
        /// What was asked for.
        level: String,
        /// Why not.
        source: ParseError,
    },
    /// The journal does not answer.
    #[error("the journal does not answer")]
    Journal(#[source] io::Error),
}

/// What can be read and changed of the log while it goes on.
pub(crate) struct Log {
    filter: reload::Handle<Targets, Registry>,
    level: Mutex<String>,
    journal: bool,
}

impl Log {
    /// Begins to log.
    ///
    /// # Errors
    /// When `directives` are none, or the journal that standard error is connected to does not answer.
    pub(crate) fn begin(directives: &str) -> Result<Arc<Self>, LogError> {
        let filter = filter(directives).map_err(|source| LogError::Level { level: directives.to_owned(), source })?;
        let (filter, handle) = reload::Layer::new(filter);
        let journal = connected_to_journal();
        let sink: Box<dyn Layer<_> + Send + Sync> = if journal {
            let journald = tracing_journald::layer().map_err(LogError::Journal)?;
            Box::new(journald.with_field_prefix(None).with_syslog_identifier("nexusd".to_owned()))
        } else {
            let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
            Box::new(lines.with_ansi(io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none()))
        };
        tracing_subscriber::registry().with(filter).with(sink).init();
        let level = LEVELS.iter().rev().find(|(_, level)| *level == directives).map_or(directives, |(word, _)| word);
        Ok(Arc::new(Self { filter: handle, level: Mutex::new(level.to_owned()), journal }))
    }
}

impl LogControl for Log {
    fn level(&self) -> String {
        self.level.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_level(&self, word: &str) -> Result<(), String> {
        let (word, level) = LEVELS.iter().find(|(known, _)| *known == word).ok_or_else(|| {
            let known: Vec<&str> = LEVELS.iter().map(|(word, _)| *word).collect();
            format!("`{word}` is no log level: use one of {}", known.join(", "))
        })?;
        let filter = filter(level).map_err(|error| error.to_string())?;
        self.filter.reload(filter).map_err(|error| error.to_string())?;
        (*word).clone_into(&mut self.level.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn target(&self) -> String {
        if self.journal { "journal" } else { "console" }.to_owned()
    }
}

/// The directives, and quiet about what libraries say of themselves: ractor's spans would put the number of an actor into
/// every record.
fn filter(directives: &str) -> Result<Targets, ParseError> {
    format!("ractor=warn,zbus=warn,{directives}").parse()
}

/// systemd says in `JOURNAL_STREAM` which device and inode the journal's stream has, since a service may have sent its
/// standard error elsewhere: `systemd.exec(5)`.
fn connected_to_journal() -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stat) = fstat(io::stderr().as_fd()) else { return false };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}
