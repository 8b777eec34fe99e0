//! `nexusctl vm logs`.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::OwnedFd,
    thread,
};

use anstream::adapter::StripBytes;
use clap::Args;
use nexus_dbus::client::Options;
use nexus_model::ErrorKind;
use tokio::sync::oneshot;

use super::{at, find};
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output,
};

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last so many lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u32>,
    /// What the run before has written, as one whose kernel has panicked
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,
}

pub(super) async fn run(bus: &Bus, args: &Logs) -> Result<Exit, Failure> {
    if args.follow { output::while_read(show(bus, args)).await } else { show(bus, args).await }
}

async fn show(bus: &Bus, args: &Logs) -> Result<Exit, Failure> {
    let what = format!("show the console of VM {}", args.name);
    let path = find(bus, &args.name, &what).await?;
    let mut options = Options::new();
    if args.follow {
        options.insert("follow", true.into());
    }
    if args.previous {
        options.insert("previous", true.into());
    }
    if let Some(lines) = args.tail {
        options.insert("tail-lines", lines.into());
    }
    let mut interrupts = Interrupts::listen()?;
    let daemon = bus.daemon().await;
    let log = bus.ask(&what, at(bus, &path, &what).await?.open_log(options)).await?;
    let log = File::from(OwnedFd::from(log));
    let (copied, end) = oneshot::channel();
    // A thread of its own: who was to read its output may have stopped, and then it could not be interrupted.
    thread::Builder::new().spawn(move || copied.send(copy(log, io::stdout().lock(), io::stdout().is_terminal())))?;
    let bytes = tokio::select! {
        // It does not go without a word unless it panics.
        end = end => end.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?,
        number = interrupts.next() => return Ok(Exit::signal(number)),
    };
    if bytes == 0 && args.tail != Some(0) {
        let run = if args.previous { " by a run before" } else { "" };
        output::note(format!("Nothing was written to the console of VM {}{run}.", args.name));
    }
    if args.follow { ended(bus, &args.name, &what, daemon).await } else { Ok(Exit::OK) }
}

/// What is followed ends with its VM, and with the daemon that read it.
async fn ended(bus: &Bus, name: &str, what: &str, daemon: Option<String>) -> Result<Exit, Failure> {
    match find(bus, name, what).await {
        Err(failure) if failure.kind() == Some(ErrorKind::NotFound) => Ok(Exit::OK),
        Err(failure) => Err(failure),
        Ok(_) if bus.daemon().await == daemon => Ok(Exit::OK),
        Ok(_) => Err(Failure::new(format!("cannot follow the console of VM {name} any longer"))
            .because("The daemon was restarted.")
            .hint("Go on with it", format!("nexusctl vm logs --follow --tail 0 {name}"))),
    }
}

/// Copies a console and counts what it read. What goes to a terminal is freed from what would steer it: it was written by a guest.
fn copy(mut log: impl Read, mut out: impl Write, to_terminal: bool) -> io::Result<u64> {
    let mut chunk = vec![0; 64 * 1024];
    let mut strip = StripBytes::new();
    let mut bytes = 0;
    loop {
        let count = match log.read(&mut chunk) {
            Ok(0) => return out.flush().map(|()| bytes),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        bytes += count as u64;
        let read = chunk.get(..count).unwrap_or_default();
        if to_terminal {
            for plain in strip.strip_next(read) {
                let kept: Vec<u8> = plain.iter().copied().filter(|byte| !is_control(*byte)).collect();
                out.write_all(&kept)?;
            }
        } else {
            out.write_all(read)?;
        }
        out.flush()?;
    }
}

const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\n' | b'\t' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &[u8] = b"\x1b[2J\x1b]0;title\x07[    0.1] Linux\r\nlogin: \x08\xff";

    fn copied(to_terminal: bool) -> Vec<u8> {
        let mut out = Vec::new();
        copy(CONSOLE, &mut out, to_terminal).unwrap();
        out
    }

    #[test]
    fn a_guest_can_not_steer_the_terminal() {
        let text = copied(true);
        assert!(text.starts_with(b"[    0.1] Linux\r\nlogin: "), "{}", String::from_utf8_lossy(&text));
        assert!(!text.contains(&0x1b) && !text.contains(&0x07));
    }

    #[test]
    fn programs_get_every_byte() {
        assert_eq!(copied(false), CONSOLE);
    }
}
