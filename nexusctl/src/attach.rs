//! `nexusctl attach`: a shell in a guest that goes on without its viewers.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::Args;
use nexus_dbus::client::Options;
use serde_json::json;

use crate::{
    bus::Bus,
    exec::Outcome,
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output::{self, Format, FormatArgs, Table, amount},
    terminal::{DetachKeys, Keyboard},
    ttyd::{self, Loopback},
};

/// Open a shell in a VM, or come back to one
///
/// It is the login shell of root, on a terminal in the guest that has a name. Every key goes there, Ctrl-C, Ctrl-D and
/// Ctrl-Z as well, but for Ctrl-] and then d, which leaves it: it goes on, without viewers and without the daemon, and
/// attach shows it again as it is, with what has scrolled away. Ctrl-] twice types one. Several may be attached at a time:
/// all see the same, and the size is that of who came or changed it last, but for those who only look on.
///
/// When the shell ends, its exit code is that of nexusctl; when it is left, 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  nexusctl attach web                  a shell in VM web\n  \
    nexusctl attach web --name build     another one beside it\n  \
    nexusctl attach web --list           which ones there are\n  \
    nexusctl attach web --read-only      only look\n  \
    nexusctl attach web --ttyd 127.0.0.1:7681    for xterm.js in a browser")]
pub(crate) struct Attach {
    /// The terminal's name: 1 to 64 letters, digits, dots, dashes and underscores
    #[arg(short, long, default_value = "main")]
    name: String,
    /// Only look on: nothing that is typed goes there, its size stays as it is, and Ctrl-C leaves as well
    #[arg(long)]
    read_only: bool,
    /// What to type to leave it, as in ctrl-p,ctrl-q, or none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-],d")]
    detach_keys: DetachKeys,
    /// Show it to programs that speak as ttyd does, over WebSocket at this address of this machine, until interrupted
    ///
    /// Prints where to connect and a token that clients have to know.
    #[arg(long, value_name = "ADDR", conflicts_with = "detach_keys")]
    ttyd: Option<Loopback>,
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m")]
    boot_timeout: Duration,
    /// Only list the terminals in the VM
    #[arg(short, long, conflicts_with_all = ["name", "read_only", "detach_keys", "ttyd"])]
    list: bool,
    #[command(flatten)]
    format: FormatArgs,
    /// A name or an id
    #[arg(value_name = "VM")]
    vm: String,
}

impl Attach {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        if self.list {
            return self.list(bus).await;
        }
        if let Some(address) = self.ttyd {
            return self.serve(bus, address).await;
        }
        if !self.read_only && !io::stdin().is_terminal() {
            return Err(Failure::new("cannot attach: standard input is no terminal")
                .hint("To run a command with an input that is none", format!("nexusctl exec -i {} -- COMMAND", self.vm))
                .exit(Exit::USAGE));
        }
        let mut interrupts = Interrupts::listen()?;
        let what = self.what();
        let guest = self.guest(bus, &mut interrupts).await?;
        let options = || Options::from([("name", self.name.clone().into())]);
        let keyboard = if self.read_only { Keyboard::Nobody } else { Keyboard::Guest };
        let keys = self.detach_keys.clone();
        let opened = guest.open_terminal(&what, &[], options, keyboard, keys, &mut interrupts).await?;
        match guest.show(opened, &mut interrupts).await? {
            Outcome::Exit(exit) => Ok(exit),
            Outcome::Detached => {
                let (vm, name) = (&self.vm, &self.name);
                output::note(format!(
                    "\nLeft terminal {name} in VM {vm}. Come back: nexusctl attach {vm} --name {name}"
                ));
                Ok(Exit::OK)
            }
        }
    }

    fn what(&self) -> String {
        format!("open terminal {} in VM {}", self.name, self.vm)
    }

    async fn guest<'a>(&self, bus: &'a Bus, interrupts: &mut Interrupts) -> Result<Guest<'a>, Failure> {
        let what = self.what();
        tokio::select! {
            guest = Guest::find(bus, &self.vm, &what, self.boot_timeout) => guest,
            number = interrupts.next() => Err(Failure::silent(Exit::signal(number))),
        }
    }

    /// Shows the terminal to others, until interrupted.
    async fn serve(&self, bus: &Bus, address: Loopback) -> Result<Exit, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let guest = self.guest(bus, &mut interrupts).await?;
        guest.answers(&mut interrupts).await?;
        let server = ttyd::Server::listen(address).await?;
        let (url, token) = (server.url(), server.token());
        match self.format.output {
            Format::Json => output::json(&json!({ "url": url, "token": token }))?,
            Format::Table => {
                output::line(format!("Terminal {} of VM {}: {url}\nToken: {token}", self.name, self.vm))?;
            }
        }
        let terminal = ttyd::Terminal { vm: &self.vm, name: &self.name, read_only: self.read_only };
        Ok(Exit::signal(server.serve(&guest, terminal, &mut interrupts).await))
    }

    async fn list(&self, bus: &Bus) -> Result<Exit, Failure> {
        let what = format!("list the terminals in VM {}", self.vm);
        let guest = Guest::find(bus, &self.vm, &what, Duration::ZERO).await?;
        let mut shells = guest.ask_now(&what, guest.proxy.list_shells()).await?;
        shells.sort();
        let object = |(id, name, columns, rows, viewers): &(u64, String, u32, u32, u32)| json!({ "id": id, "name": name, "columns": columns, "rows": rows, "viewers": viewers });
        match self.format.output {
            Format::Json => output::json(&shells.iter().map(object).collect())?,
            Format::Table if shells.is_empty() => output::line(format!("No terminals are open in VM {}.", self.vm))?,
            Format::Table => {
                let mut table = Table::new(&["EXEC", "NAME", "SIZE", "VIEWERS"]).right(&[0, 3]);
                for (id, name, columns, rows, viewers) in &shells {
                    let name = if name.is_empty() { "-" } else { name };
                    table.row([&id.to_string(), name, &format!("{columns}x{rows}"), &viewers.to_string()]);
                }
                output::line(table.to_string())?;
            }
        }
        Ok(Exit::OK)
    }
}
