//! `nexusctl vm execs`.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    guest::Guest,
    output::{self, Format, FormatArgs, Table},
};

#[derive(Debug, Args)]
pub(crate) struct Execs {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    #[command(flatten)]
    format: FormatArgs,
    /// Only the numbers, one a line
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
}

pub(super) async fn run(bus: &Bus, args: &Execs) -> Result<Exit, Failure> {
    let what = format!("list the commands in VM {}", args.name);
    let guest = Guest::find(bus, &args.name, &what, Duration::ZERO).await?;
    let mut execs = guest.ask_now(&what, guest.proxy.list_execs()).await?;
    execs.sort_by_key(|(id, _)| *id);
    if args.quiet {
        let numbers: Vec<String> = execs.iter().map(|(id, _)| id.to_string()).collect();
        output::names(numbers.iter().map(String::as_str))?;
        return Ok(Exit::OK);
    }
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
