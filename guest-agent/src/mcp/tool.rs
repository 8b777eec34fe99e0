//! The tools that there are.

use std::collections::BTreeMap;

use rmcp::{
    handler::server::tool::{schema_for_input, schema_for_output},
    model::{JsonObject, ToolAnnotations},
    schemars::JsonSchema,
};
use serde::de::DeserializeOwned;

use super::{
    call::{Progress, Reply},
    command::{self, Ran, RunCommand},
    file::{self, Deleted, FileContent, FileDelete, FileRead, FileWrite, Written},
};
use crate::agent::Agent;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    FileRead,
    FileWrite,
    FileDelete,
    RunCommand,
}

impl Tool {
    pub(super) const ALL: [Self; 4] = [Self::FileRead, Self::FileWrite, Self::FileDelete, Self::RunCommand];

    /// The tool of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::FileRead => "file_read",
            Self::FileWrite => "file_write",
            Self::FileDelete => "file_delete",
            Self::RunCommand => "run_command",
        }
    }

    /// What a client is told of it.
    pub(super) fn describe(self) -> rmcp::model::Tool {
        let hints = ToolAnnotations::new().open_world(false);
        match self {
            Self::FileRead => describe::<FileRead, FileContent>(
                self,
                "Read a file",
                "Reads a file, or a part of it. At most 1 MiB at a time: next_offset says where to go on.",
                hints.read_only(true).idempotent(true),
            ),
            Self::FileWrite => describe::<FileWrite, Written>(
                self,
                "Write a file",
                "Writes a file, whole or not at all: what was there before is replaced, with its mode and its owner kept. \
                 A symbolic link at the end of the path is replaced, not followed.",
                hints.read_only(false).destructive(true).idempotent(false),
            ),
            Self::FileDelete => describe::<FileDelete, Deleted>(
                self,
                "Delete a file or a folder",
                "Deletes a file, a symbolic link, or, with recursive, a folder and everything in it.",
                hints.read_only(false).destructive(true).idempotent(false),
            ),
            Self::RunCommand => describe::<RunCommand, Ran>(
                self,
                "Run a command",
                "Runs a command and waits for its end. What it writes comes as progress notifications meanwhile, where the \
                 client asks for them, and whole at the end; what is too much of it is cut there, which is said. A command \
                 that is cancelled, whose time is up, or whose client has gone is killed with all that it started.",
                hints.read_only(false).destructive(true).idempotent(false).open_world(true),
            ),
        }
    }

    /// Does it.
    pub(super) async fn call(
        self,
        arguments: JsonObject,
        progress: Option<Progress>,
        agent: &Agent,
        env: &BTreeMap<String, String>,
    ) -> Reply {
        let reply = match self {
            Self::FileRead => file::read(understand(self, arguments), &agent.tools.root).await,
            Self::FileWrite => file::write(understand(self, arguments), &agent.tools.root).await,
            Self::FileDelete => file::delete(understand(self, arguments), &agent.tools.root).await,
            Self::RunCommand => match understand(self, arguments) {
                Ok(arguments) => command::run(arguments, progress, agent, env).await,
                Err(problem) => Err(problem),
            },
        };
        reply.unwrap_or_else(Reply::failure)
    }
}

fn describe<I: JsonSchema + 'static, O: JsonSchema + 'static>(
    tool: Tool,
    title: &'static str,
    description: &'static str,
    hints: ToolAnnotations,
) -> rmcp::model::Tool {
    // The only failure is that a type is no object, which a test would see.
    let input = schema_for_input::<I>().unwrap_or_default();
    rmcp::model::Tool::new(tool.name(), description, input)
        .with_title(title)
        .with_raw_output_schema(schema_for_output::<O>())
        .with_annotations(hints)
}

/// The arguments, or what is wrong with them: whoever called can do better the next time.
fn understand<T: DeserializeOwned>(tool: Tool, arguments: JsonObject) -> Result<T, String> {
    serde_json::from_value(arguments.into())
        .map_err(|error| format!("the arguments of {} are not what they should be: {error}", tool.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_both_schemas() {
        for tool in Tool::ALL {
            let told = tool.describe();
            assert_eq!(Tool::named(&told.name), Some(tool));
            let (input, output) = (told.input_schema, told.output_schema.unwrap());
            for schema in [&input, &output] {
                assert_eq!(schema["type"], "object", "{tool:?}");
                assert!(!schema["properties"].as_object().unwrap().is_empty(), "{tool:?}");
            }
            assert_eq!(input["additionalProperties"], false, "{tool:?}");
            let described = |(_, property): (&String, &serde_json::Value)| property["description"].is_string();
            assert!(input["properties"].as_object().unwrap().iter().all(described), "{input:?}");
        }
        assert_eq!(Tool::named("rm"), None);
    }
}
