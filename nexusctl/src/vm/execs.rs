//! `nexusctl vm execs`.

use clap::Args;
use nexus_dbus::client::GuestProxy;
use serde_json::json;

use super::{find, ready::NotReady};
use crate::{
    bus::Bus,
    exec::is_absent,
    failure::{Exit, Failure},
    output::{self, Format, FormatArgs, Table},
};

#[derive(Debug, Args)]
pub(crate) struct Execs {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(bus: &Bus, args: &Execs) -> Result<Exit, Failure> {
    let what = format!("list the commands in VM {}", args.name);
    let path = find(bus, &args.name, &what).await?;
    let guest =
        GuestProxy::builder(bus.connection()).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No);
    let guest = bus.ask(&what, guest.build()).await?;
    let listing = async {
        match guest.list_execs().await {
            Err(error) if is_absent(&error) => Ok(None),
            execs => execs.map(Some),
        }
    };
    let Some(mut execs) = bus.ask(&what, listing).await? else {
        return Err(NotReady::Ended(Box::new(bus.read(&what, &path).await?)).of_lasting());
    };
    execs.sort_by_key(|(id, _)| *id);
    match args.format.output {
        Format::Json => output::json(&execs.iter().map(|(id, argv)| json!({ "id": id, "argv": argv })).collect())?,
        Format::Table if execs.is_empty() => output::line(format!("No commands run in VM {}.", args.name))?,
        Format::Table => output::line(table(&execs).to_string())?,
    }
    Ok(Exit::OK)
}

fn table(execs: &[(u64, Vec<String>)]) -> Table {
    let mut table = Table::new(&["EXEC", "COMMAND"]).right(&[0]);
    for (id, argv) in execs {
        table.row([&id.to_string(), &argv.join(" ")]);
    }
    table
}
