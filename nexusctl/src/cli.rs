//! The command line.

use clap::{
    Parser, Subcommand,
    builder::styling::{AnsiColor, Styles},
};

use crate::{
    attach::Attach,
    bus::Bus,
    completions::Completions,
    cp::Cp,
    doctor::Doctor,
    exec::Exec,
    failure::{Exit, Failure},
    image::ImageCommand,
    job::JobCommand,
    kernel::KernelCommand,
    mcp::Mcp,
    orphan::{Orphans, Prune},
    records::{Audit, Events},
    run::{Guard, Run},
    status::Status,
    terminal::GuardTerminal,
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
    Attach(Attach),
    Exec(Exec),
    Cp(Cp),
    Run(Run),
    Mcp(Mcp),
    #[command(subcommand)]
    Image(ImageCommand),
    #[command(subcommand, visible_alias = "workspace")]
    Ws(WorkspaceCommand),
    #[command(subcommand)]
    Kernel(KernelCommand),
    #[command(subcommand)]
    Job(JobCommand),
    Events(Events),
    Audit(Audit),
    Orphans(Orphans),
    Prune(Prune),
    Version(Version),
    Completions(Completions),
    #[command(hide = true)]
    Guard(Guard),
    #[command(hide = true)]
    GuardTerminal(GuardTerminal),
}

impl Cli {
    /// Does what was asked for.
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match &self.command {
            Command::Vm(command) => command.confirm()?,
            Command::Image(command) => command.confirm()?,
            Command::Ws(command) => command.confirm()?,
            Command::Kernel(command) => command.confirm()?,
            Command::Prune(args) => args.can_confirm()?,
            _ => {}
        }
        match self.command {
            Command::Status(args) => args.run(&Bus::connect().await?).await,
            Command::Tree(args) => args.run(&Bus::connect().await?).await,
            Command::Doctor(args) => args.run().await,
            Command::Vm(command) => command.run(&Bus::connect().await?).await,
            Command::Attach(args) => args.run(&Bus::connect().await?).await,
            Command::Exec(args) => args.run(&connect_to_run().await?).await,
            Command::Run(args) => args.run(&connect_to_run().await?).await,
            Command::Cp(args) => args.run(&Bus::connect().await?).await,
            Command::Mcp(args) => args.run(&Bus::connect().await?).await,
            Command::Image(command) => command.run(&Bus::connect().await?).await,
            Command::Ws(command) => command.run(&Bus::connect().await?).await,
            Command::Kernel(command) => command.run(&Bus::connect().await?).await,
            Command::Job(command) => command.run(&Bus::connect().await?).await,
            Command::Events(args) => args.run(&Bus::connect().await?).await,
            Command::Audit(args) => args.run(&Bus::connect().await?).await,
            Command::Orphans(args) => args.run(&Bus::connect().await?).await,
            Command::Prune(args) => args.run(&Bus::connect().await?).await,
            Command::Version(args) => args.run().await,
            Command::Completions(args) => args.run(),
            Command::Guard(args) => args.run().await,
            Command::GuardTerminal(args) => args.run(),
        }
    }
}

/// Connects for a command in a guest, whose failures have codes of their own.
async fn connect_to_run() -> Result<Bus, Failure> {
    Bus::connect().await.map_err(crate::exec::not_run)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The help of a command and of all below it.
    fn help(command: &mut clap::Command, path: &str, text: &mut String) {
        let path = format!("{path}{}", command.get_name());
        let rendered = command.clone().bin_name(&path).render_long_help().to_string();
        let lines: Vec<&str> = rendered.lines().map(str::trim_end).collect();
        text.push_str(&format!("$ {path} --help\n{}\n\n", lines.join("\n")));
        for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
            help(below, &format!("{path} "), text);
        }
    }

    /// A change of it is a change for users: it shows in the diff of the expected file. `UPDATE_EXPECTED=1` writes that.
    #[test]
    fn help_is_as_expected() {
        let mut text = String::new();
        let mut command = Cli::command().term_width(100);
        command.build();
        help(&mut command, "", &mut text);
        let expected = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &text).unwrap();
        }
        let expected = std::fs::read_to_string(expected).unwrap();
        assert!(text == expected, "the help differs from tests/help.txt: UPDATE_EXPECTED=1 writes it anew\n{text}");
    }

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_for_a_guest_is_passed_on_as_it_is() {
        for arguments in [
            &["nexusctl", "exec", "-e", "A=b", "web", "--", "ls", "-o", "json", "--", "-e"][..],
            &["nexusctl", "exec", "-e", "A=b", "web", "ls", "-o", "json", "--", "-e"],
        ] {
            let Command::Exec(exec) = Cli::try_parse_from(arguments).unwrap().command else { panic!() };
            assert_eq!(exec.argv(), ["ls", "-o", "json", "--", "-e"], "{arguments:?}");
        }
    }
}
