//! The tools that there are.

use std::time::Duration;

use rmcp::{
    handler::server::tool::{schema_for_input, schema_for_output},
    model::{JsonObject, ToolAnnotations},
    schemars::JsonSchema,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    call::{Progress, Reply},
    guest::Remote,
    image::{self, ImageList, Images},
    inside::{FileContent, FileDelete, FileDeleted, FileRead, FileWrite, Ran, VmExec, Written},
    vm::{self, Deleted, Vm, VmCreate, VmDelete, VmList, VmStart, VmStop, Vms},
};
use crate::{bus::Bus, failure::Failure};

/// How long a guest may work on a file: its disk may be slow.
const FILE_LIMIT: Duration = Duration::from_secs(120);

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    VmList,
    VmCreate,
    VmStart,
    VmStop,
    VmDelete,
    VmExec,
    FileRead,
    FileWrite,
    FileDelete,
    ImageList,
}

impl Tool {
    pub(super) const ALL: [Self; 10] = [
        Self::VmList,
        Self::VmCreate,
        Self::VmStart,
        Self::VmStop,
        Self::VmDelete,
        Self::VmExec,
        Self::FileRead,
        Self::FileWrite,
        Self::FileDelete,
        Self::ImageList,
    ];

    /// The tool of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::VmList => "vm_list",
            Self::VmCreate => "vm_create",
            Self::VmStart => "vm_start",
            Self::VmStop => "vm_stop",
            Self::VmDelete => "vm_delete",
            Self::VmExec => "vm_exec",
            Self::FileRead => "file_read",
            Self::FileWrite => "file_write",
            Self::FileDelete => "file_delete",
            Self::ImageList => "image_list",
        }
    }

    /// What a client does instead of typing a command.
    pub(super) fn instead_of(command: &str) -> String {
        let tools = [
            ("nexusctl vm list", Self::VmList),
            ("nexusctl vm create ", Self::VmCreate),
            ("nexusctl vm start ", Self::VmStart),
            ("nexusctl vm stop ", Self::VmStop),
            ("nexusctl vm delete ", Self::VmDelete),
            ("nexusctl image list", Self::ImageList),
        ];
        let tool = tools.into_iter().find(|(words, _)| command.starts_with(words));
        tool.map_or_else(|| command.to_owned(), |(_, tool)| tool.name().to_owned())
    }

    /// What a client is told of it.
    pub(super) fn describe(self) -> rmcp::model::Tool {
        let looks = ToolAnnotations::new().read_only(true).idempotent(true).open_world(false);
        let adds = ToolAnnotations::new().read_only(false).destructive(false).open_world(false);
        let breaks = ToolAnnotations::new().read_only(false).destructive(true).open_world(false);
        match self {
            Self::VmList => describe::<VmList, Vms>(self, "List VMs", "Lists all VMs and how they are.", looks),
            Self::VmCreate => describe::<VmCreate, Vm>(
                self,
                "Create a VM",
                "Creates a VM, usually with a disk of its own from an image, and does not start it.",
                adds.idempotent(false),
            ),
            Self::VmStart => describe::<VmStart, Vm>(
                self,
                "Start a VM",
                "Starts a VM and waits until its guest has answered. One that runs already is left as it is. When that is \
                 cancelled the VM boots on.",
                adds.idempotent(true),
            ),
            Self::VmStop => describe::<VmStop, Vm>(
                self,
                "Stop a VM",
                "Asks a VM's guest to shut down, and kills it where that takes too long. What runs in it ends; its disk stays.",
                breaks.idempotent(true),
            ),
            Self::VmDelete => describe::<VmDelete, Deleted>(
                self,
                "Delete a VM",
                "Deletes a VM for good. One that runs is left alone unless force is given; its disk stays unless workspaces \
                 is given.",
                breaks.idempotent(false),
            ),
            Self::VmExec => describe::<VmExec, Ran>(
                self,
                "Run a command in a VM",
                "Runs a command in a VM and waits for its end. What it writes comes as progress notifications meanwhile, \
                 where the client asks for them, and whole at the end; what is too much of it is cut there, which is said. A \
                 command that is cancelled, whose time is up, or whose client has gone is killed with all that it started. \
                 A VM that is booting is waited for.",
                breaks.idempotent(false).open_world(true),
            ),
            Self::FileRead => describe::<FileRead, FileContent>(
                self,
                "Read a file in a VM",
                "Reads a file in a VM, or a part of it. At most 1 MiB at a time: next_offset says where to go on.",
                looks,
            ),
            Self::FileWrite => describe::<FileWrite, Written>(
                self,
                "Write a file in a VM",
                "Writes a file in a VM, whole or not at all: what was there before is replaced, with its mode and its owner \
                 kept. A symbolic link at the end of the path is replaced, not followed.",
                breaks.idempotent(false),
            ),
            Self::FileDelete => describe::<FileDelete, FileDeleted>(
                self,
                "Delete a file or a folder in a VM",
                "Deletes a file, a symbolic link, or, with recursive, a folder and everything in it.",
                breaks.idempotent(false),
            ),
            Self::ImageList => describe::<ImageList, Images>(
                self,
                "List images",
                "Lists the images that the disks of VMs can be made from.",
                looks,
            ),
        }
    }

    /// Does it.
    pub(super) async fn call(self, arguments: JsonObject, progress: Option<&Progress>, bus: &Bus) -> Reply {
        let done = match self {
            Self::VmList => self.with(arguments, async |args| vm::list(args, bus).await).await,
            Self::VmCreate => self.with(arguments, async |args| vm::create(args, bus).await).await,
            Self::VmStart => self.with(arguments, async |args| vm::start(args, bus).await).await,
            Self::VmStop => self.with(arguments, async |args| vm::stop(args, bus).await).await,
            Self::VmDelete => self.with(arguments, async |args| vm::delete(args, bus).await).await,
            Self::ImageList => self.with(arguments, async |args| image::list(args, bus).await).await,
            Self::VmExec => match self.understand::<VmExec>(&arguments) {
                Ok(args) => inside::<Ran>(arguments, progress, bus, "run_command", args.limit()).await,
                Err(failure) => Err(failure),
            },
            Self::FileRead => self.file::<FileRead, FileContent>(arguments, progress, bus).await,
            Self::FileWrite => self.file::<FileWrite, Written>(arguments, progress, bus).await,
            Self::FileDelete => self.file::<FileDelete, FileDeleted>(arguments, progress, bus).await,
        };
        done.unwrap_or_else(Reply::from)
    }

    async fn with<T: DeserializeOwned>(
        self,
        arguments: JsonObject,
        act: impl AsyncFnOnce(T) -> Result<Reply, Failure>,
    ) -> Result<Reply, Failure> {
        act(self.understand(&arguments)?).await
    }

    /// A tool that has the same name in the VM.
    async fn file<I: DeserializeOwned, O: Serialize + DeserializeOwned>(
        self,
        arguments: JsonObject,
        progress: Option<&Progress>,
        bus: &Bus,
    ) -> Result<Reply, Failure> {
        self.understand::<I>(&arguments)?;
        inside::<O>(arguments, progress, bus, self.name(), Some(FILE_LIMIT)).await
    }

    /// The arguments, or what is wrong with them: whoever called can do better the next time.
    fn understand<T: DeserializeOwned>(self, arguments: &JsonObject) -> Result<T, Failure> {
        T::deserialize(Value::Object(arguments.clone())).map_err(|error| {
            let what = format!("the arguments of {} are not what they should be", self.name());
            Failure::new(what).because(error.to_string())
        })
    }
}

/// Calls a tool of the VM that the arguments name, with the rest of them.
async fn inside<O: Serialize + DeserializeOwned>(
    mut arguments: JsonObject,
    progress: Option<&Progress>,
    bus: &Bus,
    tool: &'static str,
    limit: Option<Duration>,
) -> Result<Reply, Failure> {
    let vm = arguments.remove("vm");
    let vm = vm.as_ref().and_then(Value::as_str).unwrap_or_default();
    Remote { bus, vm, tool, limit }.call::<O>(arguments, progress).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_both_schemas() {
        for tool in Tool::ALL {
            let told = tool.describe();
            assert_eq!(Tool::named(&told.name), Some(tool));
            let (input, output) = (told.input_schema, told.output_schema.unwrap());
            assert_eq!((&input["type"], &output["type"]), (&"object".into(), &"object".into()), "{tool:?}");
            assert!(!output["properties"].as_object().unwrap().is_empty(), "{tool:?}");
            assert_eq!(input["additionalProperties"], false, "{tool:?}");
            let described = |(_, property): (&String, &Value)| property["description"].is_string();
            let all = input.get("properties").and_then(Value::as_object);
            assert!(all.into_iter().flatten().all(described), "{input:?}");
        }
        assert_eq!(Tool::named("vm_kill"), None);
    }

    #[test]
    fn a_client_is_told_of_tools_where_there_are_any() {
        for (command, way) in [
            ("nexusctl vm start web", "vm_start"),
            ("nexusctl vm list", "vm_list"),
            ("nexusctl vm logs web", "nexusctl vm logs web"),
        ] {
            assert_eq!(Tool::instead_of(command), way);
        }
    }
}
