//! The tools that there are.

use std::time::Duration;

use nexus_mcp::{
    Call, Deleted as FileDeleted, Description, FileContent, FileDelete, FileRead, FileWrite, JsonObject, Progress, Ran,
    Reply, RunCommand, Tool as _, ToolAnnotations, Written,
};
use nexus_model::ErrorKind;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    guest::Remote,
    image::{self, ImageList, Images},
    inside::InVm,
    vm::{self, Deleted, Vm, VmCreate, VmDelete, VmList, VmStart, VmStop, Vms},
};
use crate::{bus::Bus, failure::Failure};

/// How long a guest may work on a file: its disk may be slow.
const FILE_LIMIT: Duration = Duration::from_secs(120);

/// What a guest may take longer for a command than it was told.
const SLACK: Duration = Duration::from_secs(30);

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
}

impl nexus_mcp::Tool for Tool {
    const ALL: &'static [Self] = &[
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

    fn name(self) -> &'static str {
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

    fn describe(self) -> Description {
        let looks = ToolAnnotations::new().read_only(true).idempotent(true).open_world(false);
        let adds = ToolAnnotations::new().read_only(false).destructive(false).open_world(false);
        let breaks = ToolAnnotations::new().read_only(false).destructive(true).open_world(false);
        match self {
            Self::VmList => self.description::<VmList, Vms>("List VMs", "Lists all VMs and how they are.", looks),
            Self::VmCreate => self.description::<VmCreate, Vm>(
                "Create a VM",
                "Creates a VM, usually with a disk of its own from an image, and does not start it.",
                adds.idempotent(false),
            ),
            Self::VmStart => self.description::<VmStart, Vm>(
                "Start a VM",
                "Starts a VM and waits until its guest has answered. One that runs already is left as it is. When that is \
                 cancelled the VM boots on.",
                adds.idempotent(true),
            ),
            Self::VmStop => self.description::<VmStop, Vm>(
                "Stop a VM",
                "Asks a VM's guest to shut down, and kills it where that takes too long. What runs in it ends; its disk stays.",
                breaks.idempotent(true),
            ),
            Self::VmDelete => self.description::<VmDelete, Deleted>(
                "Delete a VM",
                "Deletes a VM for good. One that runs is left alone unless force is given; its disk stays unless workspaces \
                 is given.",
                breaks.idempotent(false),
            ),
            Self::VmExec => self.description::<InVm<RunCommand>, Ran>(
                "Run a command in a VM",
                "Runs a command in a VM and waits for its end. What it writes comes as progress notifications meanwhile, \
                 where the client asks for them, and whole at the end; what is too much of it is cut there, which is said. A \
                 command that is cancelled, whose time is up, or whose client has gone is killed with all that it started. \
                 A VM that is booting is waited for.",
                breaks.idempotent(false).open_world(true),
            ),
            Self::FileRead => self.description::<InVm<FileRead>, FileContent>(
                "Read a file in a VM",
                "Reads a file in a VM, or a part of it. At most 1 MiB at a time: next_offset says where to go on.",
                looks,
            ),
            Self::FileWrite => self.description::<InVm<FileWrite>, Written>(
                "Write a file in a VM",
                "Writes a file in a VM, whole or not at all: what was there before is replaced, with its mode and its owner \
                 kept. A symbolic link at the end of the path is replaced, not followed.",
                breaks.idempotent(false),
            ),
            Self::FileDelete => self.description::<InVm<FileDelete>, FileDeleted>(
                "Delete a file or a folder in a VM",
                "Deletes a file, a symbolic link, or, with recursive, a folder and everything in it.",
                breaks.idempotent(false),
            ),
            Self::ImageList => self.description::<ImageList, Images>(
                "List images",
                "Lists the images that the disks of VMs can be made from.",
                looks,
            ),
        }
    }
}

/// Does what was called.
pub(super) async fn call(Call { tool, arguments, progress }: Call<Tool>, bus: &Bus) -> Reply {
    let progress = progress.as_ref();
    let done = match tool {
        Tool::VmList => with(tool, arguments, async |args| vm::list(args, bus).await).await,
        Tool::VmCreate => with(tool, arguments, async |args| vm::create(args, bus).await).await,
        Tool::VmStart => with(tool, arguments, async |args| vm::start(args, bus).await).await,
        Tool::VmStop => with(tool, arguments, async |args| vm::stop(args, bus).await).await,
        Tool::VmDelete => with(tool, arguments, async |args| vm::delete(args, bus).await).await,
        Tool::ImageList => with(tool, arguments, async |args| image::list(args, bus).await).await,
        Tool::VmExec => {
            let run = async |args: InVm<RunCommand>| {
                let limit = args.meant.timeout_ms.map(|time| Duration::from_millis(time.get()).saturating_add(SLACK));
                inside::<_, Ran>("run_command", args, progress, bus, limit).await
            };
            with(tool, arguments, run).await
        }
        Tool::FileRead => file::<FileRead, FileContent>(tool, arguments, progress, bus).await,
        Tool::FileWrite => file::<FileWrite, Written>(tool, arguments, progress, bus).await,
        Tool::FileDelete => file::<FileDelete, FileDeleted>(tool, arguments, progress, bus).await,
    };
    done.unwrap_or_else(Reply::from)
}

async fn with<T: DeserializeOwned>(
    tool: Tool,
    arguments: JsonObject,
    act: impl AsyncFnOnce(T) -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    act(tool.understand(arguments).map_err(Failure::new)?).await
}

/// Calls a tool that has the same name in the VM.
async fn file<I: DeserializeOwned, O: Serialize + DeserializeOwned>(
    tool: Tool,
    arguments: JsonObject,
    progress: Option<&Progress>,
    bus: &Bus,
) -> Result<Reply, Failure> {
    let act = async |args: InVm<I>| inside::<I, O>(tool.name(), args, progress, bus, Some(FILE_LIMIT)).await;
    with(tool, arguments, act).await
}

/// Calls a tool of a VM's agent.
async fn inside<I, O: Serialize + DeserializeOwned>(
    tool: &'static str,
    InVm { vm, arguments, .. }: InVm<I>,
    progress: Option<&Progress>,
    bus: &Bus,
    limit: Option<Duration>,
) -> Result<Reply, Failure> {
    Remote { bus, vm: &vm, tool, limit }.call::<O>(arguments, progress).await
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let mut text = failure.for_others(Tool::instead_of);
        if failure.kind() == Some(ErrorKind::NotFound) {
            text.push_str(" See what there is: vm_list, image_list");
        }
        Self::failure(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_all_of_every_tool() {
        assert_eq!(Tool::flaws(), [""; 0]);
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
