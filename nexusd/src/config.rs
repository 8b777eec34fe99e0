//! The configuration file, `nexus.yaml`. Every key has a default, and an unknown key is an error.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nexus_model::BackendKind;
use nexus_store::Bounds;
use serde::{Deserialize, Serialize};

/// Any time that is longer is meant to be for ever.
const YEAR_SEC: u64 = 365 * 24 * 3600;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// Where things are.
    pub(crate) storage: Storage,
    /// Which host paths callers may name.
    pub(crate) paths: Paths,
    /// What runs VMs.
    pub(crate) vmm: Vmm,
    /// How VMs are treated.
    pub(crate) vm: Vm,
    /// How much is remembered of what is over.
    pub(crate) history: History,
    /// What becomes of what nothing owns.
    pub(crate) reaper: Reaper,
}

/// Where things are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Storage {
    /// Folder of the workspaces. Default: `workspaces` in `$XDG_DATA_HOME/nexus`.
    pub(crate) workspaces: Option<PathBuf>,
    /// `btrfs`, `reflink` or `copy`. Default: the best that the folder's file system offers.
    pub(crate) backend: Option<BackendKind>,
}

/// Which host paths callers may name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Paths {
    /// Folders below which images and kernels may be imported from, beside the home folder.
    pub(crate) allow: Vec<PathBuf>,
}

/// What runs VMs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Vmm {
    /// Firecracker's binary. Default: `firecracker` on PATH.
    pub(crate) firecracker: Option<PathBuf>,
    /// QEMU's binary. Default: `qemu-system-x86_64` on PATH.
    pub(crate) qemu: Option<PathBuf>,
    /// The vsock sidecar's binary. Default: the one that came with nexusd, else `vhost-device-vsock` on PATH.
    pub(crate) vhost_device_vsock: Option<PathBuf>,
    /// Whether VMs may be plain processes without isolation, for tests and benches. Default: false.
    pub(crate) allow_process: bool,
}

/// How VMs are treated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Vm {
    /// Seconds a guest may take to stop before its VMM is killed. Default: 30.
    pub(crate) stop_timeout_sec: u64,
    /// Seconds between two heartbeats of a guest; after three misses it is unreachable. Default: 10.
    pub(crate) heartbeat_sec: u64,
    /// How many VMs are started at once when the daemon starts. Default: 4.
    pub(crate) autostart_parallel: usize,
    /// How large the log of a console may grow, in bytes, before its older half is dropped. Default: 4194304.
    pub(crate) console_max_bytes: u64,
}

impl Default for Vm {
    fn default() -> Self {
        Self { stop_timeout_sec: 30, heartbeat_sec: 10, autostart_parallel: 4, console_max_bytes: 4 << 20 }
    }
}

impl Vm {
    /// For a guest to stop.
    pub(crate) const fn stop_timeout(&self) -> Duration {
        Duration::from_secs(self.stop_timeout_sec)
    }

    /// Between two heartbeats.
    pub(crate) const fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_sec)
    }
}

/// How much is remembered of what is over, in rows. Older ones go as new ones come.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct History {
    /// Events. Of one VM at most 1000 are kept. Default: 100000.
    pub(crate) events: u32,
    /// Calls that changed something. Default: 100000.
    pub(crate) audit: u32,
    /// Jobs that have ended. Default: 1000.
    pub(crate) jobs: u32,
}

impl Default for History {
    fn default() -> Self {
        let Bounds { events, audit, jobs } = Bounds::default();
        Self { events, audit, jobs }
    }
}

impl History {
    /// As the store wants it.
    pub(crate) const fn bounds(&self) -> Bounds {
        Bounds { events: self.events, audit: self.audit, jobs: self.jobs }
    }
}

/// What becomes of what nothing owns.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Reaper {
    /// Seconds that something must have been without an owner before it is removed. Default: 600.
    pub(crate) grace_sec: u64,
}

impl Default for Reaper {
    fn default() -> Self {
        Self { grace_sec: 600 }
    }
}

impl Reaper {
    /// Before an orphan is removed.
    pub(crate) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_sec)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not say what a configuration says.
    #[error("the configuration {} is wrong: {detail}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        detail: String,
    },
}

impl Config {
    /// Reads `path`. When nobody named a file, `required` is false and a missing one is the default configuration.
    ///
    /// # Errors
    /// When it can't be read, has an unknown key, or a value that its key can't have.
    pub(crate) fn read(path: &Path, required: bool) -> Result<Self, ConfigError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(Self::default()),
            other => other.map_err(|source| ConfigError::Read { path: path.to_owned(), source })?,
        };
        Self::parse(&text).map_err(|detail| ConfigError::Wrong { path: path.to_owned(), detail })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    /// As a file that says it, with every key.
    ///
    /// # Errors
    /// When a path is no text.
    pub(crate) fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        serde_saphyr::to_string(self)
    }

    fn check(&self) -> Result<(), String> {
        let Vm { stop_timeout_sec, heartbeat_sec, autostart_parallel, console_max_bytes } = &self.vm;
        let absolute = self.paths.allow.iter().chain(&self.storage.workspaces);
        if let Some(path) = absolute.chain(self.programs()).find(|path| !path.is_absolute()) {
            return Err(format!("`{}` must be an absolute path", path.display()));
        }
        if *heartbeat_sec == 0 {
            return Err("vm.heartbeat-sec must be at least 1".to_owned());
        }
        if *autostart_parallel == 0 {
            return Err("vm.autostart-parallel must be at least 1".to_owned());
        }
        if *stop_timeout_sec > 3600 {
            return Err("vm.stop-timeout-sec must be at most 3600".to_owned());
        }
        if *console_max_bytes < 64 << 10 {
            return Err("vm.console-max-bytes must be at least 65536".to_owned());
        }
        let History { events, audit, jobs } = &self.history;
        if [events, audit, jobs].into_iter().any(|kept| *kept == 0) {
            return Err("history.events, history.audit and history.jobs must be at least 1".to_owned());
        }
        if !(1..=YEAR_SEC).contains(&self.reaper.grace_sec) {
            return Err(format!("reaper.grace-sec must be from 1 to {YEAR_SEC}"));
        }
        Ok(())
    }

    fn programs(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.vmm.firecracker, &self.vmm.qemu, &self.vmm.vhost_device_vsock].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert_eq!(Config::parse("# only a comment\n\n").unwrap(), Config::default());
    }

    #[test]
    fn the_documented_example_is_the_default() {
        let example = include_str!("../../docs/nexus.yaml");
        assert_eq!(Config::parse(example).unwrap(), Config::default());
    }

    #[test]
    fn what_is_written_out_is_what_was_read() {
        let text = "vm:\n  heartbeat-sec: 3\nstorage:\n  backend: copy\npaths:\n  allow: [/srv/images]\n";
        for config in [Config::default(), Config::parse(text).unwrap()] {
            let yaml = config.to_yaml().unwrap();
            assert!(yaml.contains("\n  heartbeat-sec: "), "{yaml}");
            assert_eq!(Config::parse(&yaml).unwrap(), config, "{yaml}");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Config::parse("vm:\n  stop-timeout: 3\n").unwrap_err();
        assert!(error.contains("stop-timeout"), "{error}");
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        assert!(Config::parse("vm:\n  heartbeat-sec: soon\n").is_err());
        assert!(Config::parse("vm:\n  heartbeat-sec: 0\n").is_err());
        assert!(Config::parse("history:\n  audit: 0\n").is_err());
        assert!(Config::parse("reaper:\n  grace-sec: 0\n").is_err());
        assert!(Config::parse("paths:\n  allow: [images]\n").is_err());
        assert!(Config::parse("storage:\n  backend: zfs\n").is_err());
    }

    #[test]
    fn values_are_taken() {
        let config = Config::parse("storage:\n  backend: copy\nvmm:\n  allow-process: true\n").unwrap();
        assert_eq!(config.storage.backend, Some(BackendKind::Copy));
        assert!(config.vmm.allow_process);
    }
}
