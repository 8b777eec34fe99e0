//! `nexusctl vm history`.

use clap::Args;
use nexus_model::{ErrorKind, Timestamp};
use serde_json::json;

use super::{at, find};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output::{self, Format, FormatArgs, Table, amount},
};

#[derive(Debug, Args)]
pub(crate) struct History {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    /// At most so many, the newest ones; 0 is all that are kept
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    format: FormatArgs,
}

type Line = (u64, String, String, String);

pub(super) async fn run(bus: &Bus, args: &History) -> Result<Exit, Failure> {
    let what = format!("show the history of VM {}", args.name);
    let path = find(bus, &args.name, &what).await.map_err(|failure| match failure.kind() {
        Some(ErrorKind::NotFound) => {
            failure.hint("See what is kept of one that was removed", format!("nexusctl events --vm {}", args.name))
        }
        _ => failure,
    })?;
    let lines = bus.ask(&what, at(bus, &path, &what).await?.get_history(args.limit)).await?;
    match args.format.output {
        Format::Json => {
            let line = |(at, state, reason, detail): &Line| json!({ "at_usec": at, "state": state, "reason": reason, "detail": detail });
            output::json(&lines.iter().map(line).collect())?;
        }
        Format::Table if lines.is_empty() => {
            let name = &args.name;
            output::line(format!("Nothing has happened to VM {name} yet. Start it: nexusctl vm start {name}"))?;
        }
        Format::Table => output::line(table(&lines, amount::now()).to_string())?,
    }
    Ok(Exit::OK)
}

/// The oldest first, as one reads a story.
fn table(lines: &[Line], now: Timestamp) -> Table {
    let mut table = Table::new(&["AT", "", "STATE", "REASON", ""]);
    for (at, state, reason, detail) in lines.iter().rev() {
        let at = Timestamp(*at);
        table.row([&amount::instant(at), &amount::ago(at, now), state, &reason.replace('-', " "), detail]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_first() {
        let line =
            |at: u64, state: &str| (at * 1_000_000, state.to_owned(), "guest-poweroff".to_owned(), String::new());
        let text =
            table(&[line(1_700_000_060, "stopped"), line(1_700_000_000, "running")], Timestamp(1_700_000_120_000_000));
        assert_eq!(
            text.to_string(),
            "AT                                     STATE     REASON\n\
             2023-11-14T22:13:20Z   2 minutes ago   running   guest poweroff\n\
             2023-11-14T22:14:20Z   1 minute ago    stopped   guest poweroff"
        );
    }
}
