//! The command line.

use clap::{
    Parser, Subcommand,
    builder::styling::{AnsiColor, Styles},
};

use crate::{
    bus::Bus,
    completions::Completions,
    doctor::Doctor,
    exec::Exec,
    failure::{Exit, Failure},
    image::ImageCommand,
    job::JobCommand,
    kernel::KernelCommand,
    run::{Guard, Run},
    status::Status,
    tree::Tree,
    version::Version,
    vm::VmCommand,
    workspace::WorkspaceCommand,
};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// MicroVMs for agents, supervised
///
/// nexusctl asks nexusd, over the session bus, to create, run and watch virtual machines.
#[derive(Debug, Parser)]
#[command(name = "nexusctl", version, styles = STYLES, max_term_width = 100, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 not understood or not confirmed; exec and run: the command's own, \
    125 not run, 126 can't be executed, 127 no such command."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(Status),
    Tree(Tree),
    Doctor(Doctor),
    #[command(subcommand)]
    Vm(VmCommand),
    Exec(Exec),
    Run(Run),
    #[command(subcommand)]
    Image(ImageCommand),
    #[command(subcommand, visible_alias = "workspace")]
    Ws(WorkspaceCommand),
    #[command(subcommand)]
    Kernel(KernelCommand),
    #[command(subcommand)]
    Job(JobCommand),
    Version(Version),
    Completions(Completions),
    #[command(hide = true)]
    Guard(Guard),
}

impl Cli {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Status(args) => args.run(&Bus::connect().await?).await,
            Command::Tree(args) => args.run(&Bus::connect().await?).await,
            Command::Doctor(args) => args.run().await,
            Command::Vm(command) => command.run(&Bus::connect().await?).await,
            Command::Exec(args) => args.run(&connect_to_run().await?).await,
            Command::Run(args) => args.run(&connect_to_run().await?).await,
            Command::Image(command) => command.run(&Bus::connect().await?).await,
            Command::Ws(command) => command.run(&Bus::connect().await?).await,
            Command::Kernel(command) => command.run(&Bus::connect().await?).await,
            Command::Job(command) => command.run(&Bus::connect().await?).await,
            Command::Version(args) => args.run().await,
            Command::Completions(args) => args.run(),
            Command::Guard(args) => args.run().await,
        }
    }
}

/// Connects for a command in a guest, whose failures have codes of their own.
async fn connect_to_run() -> Result<Bus, Failure> {
    Bus::connect().await.map_err(crate::exec::not_run)
}
