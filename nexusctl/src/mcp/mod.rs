//! `nexusctl mcp`: a VM as a local server of the Model Context Protocol. The server is the VM's agent; here its lines are
//! passed on, whatever revision of the protocol they are of.

mod bridge;
mod lines;
mod message;

use std::{os::fd::OwnedFd, time::Duration};

use clap::Args;
use nexus_dbus::client::{GuestProxy, Options};
use tokio::time::timeout;

use crate::{
    bus::{Bus, DEADLINE},
    exec::is_absent,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::amount,
    vm::{
        self,
        ready::{self, NotReady},
    },
};

/// How a client of MCP is told of it. There is no common name for the file.
const CONFIGURATION: &str = r#"A client that starts servers by itself has a VM's tools once this is in its configuration:

  {
    "mcpServers": {
      "web": { "command": "nexusctl", "args": ["mcp", "web"] }
    }
  }"#;

/// Give an MCP client the tools of a VM, over standard input and output
///
/// The tools are file_read, file_write, file_delete and run_command, and all of them act inside the VM. It ends when its
/// input does and what was asked for is answered, for which it waits as long as something comes every 10 s. What is under
/// way when nexusctl ends is killed in the VM with all that it started. When the VM goes away meanwhile, what was asked for
/// is answered with an error, and nexusctl ends with 1.
#[derive(Debug, Args)]
#[command(after_help = CONFIGURATION)]
pub(crate) struct Mcp {
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m")]
    timeout: Duration,
    /// A name or an id
    #[arg(value_name = "VM")]
    vm: String,
}

impl Mcp {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let mut interrupts = Interrupts::listen()?;
        let stream = self.open(bus, &mut interrupts).await?;
        bridge::run(stream, &self.vm, &mut interrupts).await
    }

    /// A session with the guest, as soon as that answers.
    async fn open(&self, bus: &Bus, interrupts: &mut Interrupts) -> Result<OwnedFd, Failure> {
        let what = format!("open the tools of VM {}", self.vm);
        let path = bus.patiently(vm::find(bus, &self.vm, &what)).await?;
        let proxy =
            GuestProxy::builder(bus.connection()).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No);
        let guest = bus.ask("reach the guest", proxy.build()).await?;
        let mut waited = false;
        loop {
            let answer = tokio::select! {
                answer = bus.patiently(timeout(DEADLINE, guest.open_tools(Options::new()))) => answer,
                number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
            };
            match answer {
                Ok(Ok(stream)) => return Ok(stream.into()),
                Ok(Err(error)) if is_absent(&error) && !waited => {
                    let ready = ready::wait(bus, &path, &self.vm, self.timeout, interrupts).await;
                    ready.map_err(NotReady::of_lasting)?;
                    waited = true;
                }
                Ok(Err(error)) => return Err(bus.explain(&what, &error).await),
                Err(_) => {
                    let why = format!("There was no answer within {} s.", DEADLINE.as_secs());
                    return Err(Failure::new(format!("cannot {what}")).because(why));
                }
            }
        }
    }
}
