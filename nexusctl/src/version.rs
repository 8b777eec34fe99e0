//! `nexusctl version`.

use clap::Args;
use nexus_dbus::API_REVISION;
use serde_json::{Value, json};

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output::{self, Format, FormatArgs},
};

/// Show the versions of nexusctl and of the daemon
#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    format: FormatArgs,
}

impl Version {
    pub(crate) async fn run(&self) -> Result<Exit, Failure> {
        let daemon = async { Bus::connect().await?.properties().await };
        let daemon = daemon.await.ok();
        let own = env!("CARGO_PKG_VERSION");
        match self.format.output {
            Format::Json => output::json(&json!({
                "nexusctl": { "version": own, "api_revision": API_REVISION },
                "nexusd": daemon.map_or(Value::Null, |daemon| {
                    json!({ "version": daemon.version, "api_revision": daemon.api_revision })
                }),
            }))?,
            Format::Table => {
                output::line(format!("nexusctl {own}, API revision {API_REVISION}"))?;
                output::line(match daemon {
                    Some(daemon) => format!("nexusd {}, API revision {}", daemon.version, daemon.api_revision),
                    None => "nexusd is not running".to_owned(),
                })?;
            }
        }
        Ok(Exit::OK)
    }
}
