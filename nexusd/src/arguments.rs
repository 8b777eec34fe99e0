//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Supervises microVMs for AI agents, and shows them as org.workfort.Nexus1 on the session bus.
///
/// Started by systemd (`systemctl --user start nexus.service`) or by hand. SIGTERM and SIGINT end it in order; VMs run on,
/// and the next nexusd adopts them. Look at them with nexusctl or busctl, read what happened with
/// `journalctl --user -u nexus.service`.
#[derive(Debug, Parser)]
#[command(name = "nexusd", version)]
pub(crate) struct Arguments {
    /// The configuration file [default: $XDG_CONFIG_HOME/nexus/nexus.yaml, if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// What is logged: error, warn, info, debug, trace, or directives such as `nexus_actors=debug`.
    #[arg(long, value_name = "LEVEL", env = "NEXUS_LOG", default_value = "info")]
    pub(crate) log: String,

    /// Checks the configuration, says what it comes to, and ends.
    #[arg(long)]
    pub(crate) check_config: bool,
}
