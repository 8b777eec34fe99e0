//! `org.freedesktop.LogControl1`, see `org.freedesktop.LogControl1(5)`.

use std::sync::Arc;

use zbus::{Connection, interface, message::Header};

use super::{call::Call, served::Served};
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

pub(super) struct Log {
    pub(super) engine: Served,
    pub(super) log: Arc<dyn LogControl>,
}

impl Log {
    async fn assign(
        &self,
        bus: &Connection,
        header: Option<Header<'_>>,
        property: &str,
        value: String,
        set: impl FnOnce(&str) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let header = header.ok_or_else(|| Error::invalid_args("there was no call"))?;
        let given = value.clone();
        let set = |_| async move { set(&given) };
        Call::new(&self.engine, bus, &header).assign(property, value, set).await
    }
}

#[interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl Log {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> String {
        self.log.level()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        let set = |level: &str| self.log.set_level(level).map_err(Error::invalid_args);
        self.assign(bus, header, "LogLevel", level, set).await
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> String {
        self.log.target()
    }

    #[zbus(property)]
    async fn set_log_target(
        &self,
        target: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), Error> {
        let set = |target: &str| {
            let now = self.log.target();
            if target == now {
                return Ok(());
            }
            Err(Error::invalid_args(format!("the log goes to `{now}`; that follows from how nexusd was started")))
        };
        self.assign(bus, header, "LogTarget", target, set).await
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> String {
        "nexusd".to_owned()
    }
}
