//! The tools that there are.

use std::collections::BTreeMap;

use nexus_mcp::{
    Call, Deleted, Description, FileContent, FileDelete, FileRead, FileWrite, Ran, Reply, RunCommand, Tool as _,
    ToolAnnotations, Written,
};

use super::{command, file};
use crate::agent::Agent;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    FileRead,
    FileWrite,
    FileDelete,
    RunCommand,
}

impl nexus_mcp::Tool for Tool {
    const ALL: &'static [Self] = &[Self::FileRead, Self::FileWrite, Self::FileDelete, Self::RunCommand];

    fn name(self) -> &'static str {
        match self {
            Self::FileRead => "file_read",
            Self::FileWrite => "file_write",
            Self::FileDelete => "file_delete",
            Self::RunCommand => "run_command",
        }
    }

    fn describe(self) -> Description {
        let hints = ToolAnnotations::new().open_world(false);
        match self {
            Self::FileRead => self.description::<FileRead, FileContent>(
                "Read a file",
                "Reads a file, or a part of it. At most 1 MiB at a time: next_offset says where to go on.",
                hints.read_only(true).idempotent(true),
            ),
            Self::FileWrite => self.description::<FileWrite, Written>(
                "Write a file",
                "Writes a file, whole or not at all: what was there before is replaced, with its mode and its owner kept. \
                 A symbolic link at the end of the path is replaced, not followed.",
                hints.read_only(false).destructive(true).idempotent(false),
            ),
            Self::FileDelete => self.description::<FileDelete, Deleted>(
                "Delete a file or a folder",
                "Deletes a file, a symbolic link, or, with recursive, a folder and everything in it.",
                hints.read_only(false).destructive(true).idempotent(false),
            ),
            Self::RunCommand => self.description::<RunCommand, Ran>(
                "Run a command",
                "Runs a command and waits for its end. What it writes comes as progress notifications meanwhile, where the \
                 client asks for them, and whole at the end; what is too much of it is cut there, which is said. A command \
                 that is cancelled, whose time is up, or whose client has gone is killed with all that it started.",
                hints.read_only(false).destructive(true).idempotent(false).open_world(true),
            ),
        }
    }
}

/// Does what was called.
pub(super) async fn call(
    Call { tool, arguments, progress }: Call<Tool>,
    agent: &Agent,
    env: &BTreeMap<String, String>,
) -> Reply {
    let root = &agent.tools.root;
    let reply = match tool {
        Tool::FileRead => file::read(tool.understand(arguments), root).await,
        Tool::FileWrite => file::write(tool.understand(arguments), root).await,
        Tool::FileDelete => file::delete(tool.understand(arguments), root).await,
        Tool::RunCommand => match tool.understand(arguments) {
            Ok(arguments) => command::run(arguments, progress, agent, env).await,
            Err(problem) => Err(problem),
        },
    };
    reply.unwrap_or_else(Reply::failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_all_of_every_tool() {
        assert_eq!(Tool::flaws(), [""; 0]);
        assert_eq!(Tool::named("rm"), None);
    }
}
