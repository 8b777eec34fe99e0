//! `org.freedesktop.LogControl1`, see `org.freedesktop.LogControl1(5)`.

use std::sync::Arc;

use zbus::interface;

use crate::Error;

/// What nexusd lets be read and changed of its logging.
pub trait LogControl: Send + Sync {
    /// The least that is logged, in syslog's words: `emerg`, `alert`, `crit`, `err`, `warning`, `notice`, `info`, `debug`.
    fn level(&self) -> String;

    /// Logs from now on what is at least this.
    ///
    /// # Errors
    /// One sentence, when the word is none of syslog's or the level can't be changed.
    fn set_level(&self, level: &str) -> Result<(), String>;

    /// Where it goes: `journal` or `console`.
    fn target(&self) -> String;
}

pub(super) struct Log(pub(super) Arc<dyn LogControl>);

#[interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl Log {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> String {
        self.0.level()
    }

    #[zbus(property)]
    fn set_log_level(&self, level: String) -> Result<(), Error> {
        self.0.set_level(&level).map_err(Error::invalid_args)
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> String {
        self.0.target()
    }

    #[zbus(property)]
    fn set_log_target(&self, target: String) -> Result<(), Error> {
        let now = self.0.target();
        if target == now {
            return Ok(());
        }
        Err(Error::invalid_args(format!("the log goes to `{now}`; that follows from how nexusd was started")))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> String {
        "nexusd".to_owned()
    }
}
