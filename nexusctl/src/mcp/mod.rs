//! `nexusctl mcp`: a local server of the Model Context Protocol. With a VM it is that VM's agent, whose lines are passed on
//! here, whatever revision of the protocol they are of; without one it is Nexus itself.

mod bridge;
mod nexus;
mod reader;
mod session;

use std::time::Duration;

use clap::Args;

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::amount,
};

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
/// It ends when its input does and what was asked for is answered, for which it waits as long as something comes every 10 s;
/// without a VM for 10 min at most. What is under way when nexusctl ends is killed in the VM with all that it started. When
/// the guest goes away meanwhile, what was asked for is answered with an error; what is asked after that waits until it is
/// back, as when the VM is started again, and where it does not come back nexusctl ends with 1.
#[derive(Debug, Args)]
#[command(after_help = CONFIGURATION)]
pub(crate) struct Mcp {
    /// How long a VM that is booting may take until its guest answers
    #[arg(long, value_name = "TIME", value_parser = amount::parse_duration, default_value = "2m", requires = "vm")]
    timeout: Duration,
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
                let open = async |interrupts: &mut Interrupts| session::open(bus, vm, self.timeout, interrupts).await;
                bridge::run(vm, &mut interrupts, open).await
            }
        }
    }
}
