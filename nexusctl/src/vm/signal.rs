//! `nexusctl vm signal`.

use std::{str::FromStr, time::Duration};

use clap::Args;
use nix::sys::signal::Signal as Named;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    guest::Guest,
    output,
    several::Several,
};

#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    /// Numbers of commands, as vm execs lists them
    #[arg(required = true, value_name = "EXEC")]
    execs: Vec<u64>,
    /// Which: TERM, HUP, 15, … KILL reaches all that a command started, the others its process group
    #[arg(short, long, value_name = "SIGNAL", value_parser = number, default_value = "TERM")]
    signal: i32,
}

pub(super) async fn run(bus: &Bus, args: &Signal) -> Result<Exit, Failure> {
    let what = format!("signal commands in VM {}", args.name);
    let guest = Guest::find(bus, &args.name, &what, Duration::ZERO).await?;
    let mut several = Several::default();
    for exec in &args.execs {
        let what = format!("signal command {exec} in VM {}", args.name);
        let told = guest.ask_now(&what, guest.proxy.signal_exec(*exec, args.signal)).await;
        if several.note(told)?.is_some() {
            output::line(format!("Signal {} is sent to command {exec} in VM {}.", args.signal, args.name))?;
        }
    }
    several.end()
}

/// The number of a signal, by that or by its name, with or without `SIG`.
fn number(text: &str) -> Result<i32, String> {
    let name = text.to_uppercase();
    let name = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    match (text.parse(), Named::from_str(&name)) {
        (Ok(number @ 1..=64), _) => Ok(number),
        (_, Ok(named)) => Ok(named as i32),
        _ => Err("write the name of a signal, as TERM, or its number from 1 to 64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_and_a_number() {
        for (text, expected) in [("TERM", Some(15)), ("sigkill", Some(9)), ("64", Some(64)), ("0", None), ("65", None)]
        {
            assert_eq!(number(text).ok(), expected, "{text}");
        }
        assert!(number("").is_err() && number("SIG").is_err() && number("-9").is_err());
    }
}
