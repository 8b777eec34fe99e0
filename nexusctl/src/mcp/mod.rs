//! `nexusctl mcp`: a local server of the Model Context Protocol. With a VM it is that VM's agent, whose lines are passed on
//! here, whatever revision of the protocol they are of; without one it is Nexus itself.

mod bridge;
mod nexus;
mod reader;

use std::{os::fd::OwnedFd, time::Duration};

use clap::Args;
use nexus_dbus::client::Options;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    guest::Guest,
    interrupt::Interrupts,
    output::amount,
};

/// How long a client that says nothing more waits for its answers.
const PATIENCE: Duration = Duration::from_secs(600);

/// How a client of MCP is told of it. There is no common name for the file.
const CONFIGURATION: &str = r#"A client that starts servers by itself has the tools once this is in its configuration, where it wants
either or both:

  {
    "mcpServers": {
      "nexus": { "command": "nexusctl", "args": ["mcp"] },
      "web": { "command": "nexusctl", "args": ["mcp", "web"] }
    }
  }"#;

/// Give an MCP client the tools of Nexus, or those of a VM, over standard input and output
///
/// With a VM the tools are file_read, file_write, file_delete and run_command, and all of them act inside the VM. Without one
/// they are vm_list, vm_create, vm_start, vm_stop, vm_delete, vm_exec, image_list, and file_read, file_write and file_delete
/// for a VM that each call names.
///
/// It ends when its input does and what was asked for is answered, for which it waits for 10 min at most. What is under way when nexusctl ends is killed in the VM with all that it started. When
/// the guest goes away meanwhile, what was asked for is answered with an error; what is asked after that waits until it is
/// back, as when the VM is started again, and where it does not come back nexusctl ends with 1.
#[derive(Debug, Args)]
#[command(after_help = CONFIGURATION)]
pub(crate) struct Mcp {
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m", requires = "vm")]
    boot_timeout: Duration,
    /// A name or an id; without one it is about all of Nexus
    #[arg(value_name = "VM")]
    vm: Option<String>,
}

impl Mcp {
    pub(crate) async fn run(&self, bus: &Bus) -> Result<Exit, Failure> {
        let mut interrupts = Interrupts::listen()?;
        match &self.vm {
            None => nexus::run(bus, &mut interrupts).await,
            Some(vm) => {
                let open = async |interrupts: &mut Interrupts| session(bus, vm, self.boot_timeout, interrupts).await;
                bridge::run(vm, &mut interrupts, open).await
            }
        }
    }
}

/// The stream of a new session with the tools of a VM's guest, as soon as that answers, for which it has the time `boot`.
async fn session(bus: &Bus, vm: &str, boot: Duration, interrupts: &mut Interrupts) -> Result<OwnedFd, Failure> {
    let what = format!("open the tools of VM {vm}");
    let guest = Guest::find(bus, vm, &what, boot).await?;
    let stream = guest.ask(&what, interrupts, async || guest.proxy.open_tools(Options::new()).await).await?;
    Ok(stream.into())
}
