//! One client: what it asks for, and what it is told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nexus_dbus::{
    Error,
    client::{
        GuestProxy, ImageProxy, JobProxy, ManagerProxy, Options, SupervisedProxy, VmProxy, WorkspaceProxy, objects,
    },
};
use nexus_model::ErrorKind;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, proxy::CacheProperties};

use crate::{
    Vmm,
    check::Violation,
    plan::{Disk, Op},
    world::World,
};

/// The server's own deadline is 20 s, and a job may wait for a VMM that hangs for 60 s.
const REPLY: Duration = Duration::from_secs(150);

/// What was asked for, and what became of it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) op: Op,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) result: Result<(), Error>,
}

impl Record {
    /// Whether it certainly changed nothing.
    pub(crate) fn is_refusal(&self) -> bool {
        let Err(error) = &self.result else { return false };
        matches!(
            error.kind(),
            Some(
                ErrorKind::NotFound
                    | ErrorKind::AlreadyExists
                    | ErrorKind::InvalidState
                    | ErrorKind::Busy
                    | ErrorKind::InUse
                    | ErrorKind::InvalidArgs
            )
        )
    }
}

/// The name of a VM of the deck.
pub(crate) fn vm_name(vm: u8) -> String {
    format!("v{vm}")
}

/// Does its share of a round.
pub(crate) async fn act(world: Arc<World>, ops: Vec<(u16, Op)>) -> Result<Vec<Record>, Violation> {
    let mut records = Vec::new();
    let mut connection = world.connect().await;
    for (wait, op) in ops {
        tokio::time::sleep(Duration::from_millis(wait.into())).await;
        let begun = Instant::now();
        let done = tokio::time::timeout(REPLY, perform(&world, &connection, op)).await;
        let result = done.map_err(|_| Violation::NoReply(format!("{op:?}")))?;
        if let Err(error) = &result
            && error.kind().is_none()
        {
            // The bus is gone, or was.
            connection = world.connect().await;
        }
        records.push(Record { op, begun, ended: Instant::now(), result });
    }
    Ok(records)
}

/// Does one thing, and waits for the end of its job.
pub(crate) async fn perform(world: &World, bus: &Connection, op: Op) -> Result<(), Error> {
    let manager = ManagerProxy::builder(bus).cache_properties(CacheProperties::No).build().await?;
    match op {
        Op::Create { vm, policy, disk, autostart } => {
            let mut options = Options::from([
                ("restart-policy", Variant::from(policy)),
                ("autostart", autostart.into()),
                ("vmm", world.vmm.word().into()),
            ]);
            match disk {
                Disk::No if world.vmm == Vmm::Process => {}
                Disk::No | Disk::New => drop(options.insert("image", "base".into())),
                Disk::Workspace { nth } => drop(options.insert("workspace", format!("w{nth}").into())),
            }
            if world.vmm == Vmm::Qemu {
                options.insert("memory-bytes", (256_u64 << 20).into());
            }
            manager.create_vm(&vm_name(vm), options).await.map(drop)
        }
        Op::Start { vm } => {
            let job = manager.start_vm(&vm_name(vm), Options::new()).await?;
            wait(bus, job).await
        }
        Op::Stop { vm, timeout_ms } => {
            let timeout = u64::from(timeout_ms) * 1000;
            let job = manager.stop_vm(&vm_name(vm), [("timeout-usec", timeout.into())].into()).await?;
            wait(bus, job).await
        }
        Op::Kill { vm } => manager.kill_vm(&vm_name(vm)).await,
        Op::Restart { vm } => {
            let job = proxy(bus, &manager, vm).await?.restart([("timeout-usec", 500_000_u64.into())].into()).await?;
            wait(bus, job).await
        }
        Op::Pause { vm } => proxy(bus, &manager, vm).await?.pause().await,
        Op::Resume { vm } => proxy(bus, &manager, vm).await?.resume().await,
        Op::Remove { vm, disks } => {
            let options = [("force", true.into()), ("remove-workspaces", disks.into())].into();
            let job = proxy(bus, &manager, vm).await?.remove(options).await?;
            wait(bus, job).await
        }
        Op::Policy { vm, policy } => proxy(bus, &manager, vm).await?.set_restart_policy(policy).await,
        Op::Run { vm } => guest(bus, &manager, vm).await?.run(&["true"], Options::new()).await.map(drop),
        Op::Exec { vm } => guest(bus, &manager, vm).await?.exec(&["sleep", "60"], Options::new()).await.map(drop),
        Op::Reset { vm } => {
            let path = manager.get_vm(&vm_name(vm)).await?;
            supervised(bus, &path).await?.reset_failed().await
        }
        Op::RestartActor { nth } => {
            let all = objects(bus).await?;
            let mut actors: Vec<_> = all.iter().filter(|(_, object)| object.supervised.is_some()).collect();
            actors.sort_by_key(|(path, _)| path.as_str().to_owned());
            let (path, _) = actors[usize::from(nth) % actors.len()];
            supervised(bus, path).await?.restart_actor(Options::new()).await
        }
        Op::CreateWorkspace { nth } => {
            let job = manager.create_workspace(&format!("w{nth}"), [("base", "base".into())].into()).await?;
            wait(bus, job).await
        }
        Op::RemoveWorkspace { nth } => {
            let path = manager.get_workspace(&format!("w{nth}")).await?;
            let workspace = WorkspaceProxy::builder(bus).path(path).cache_properties(CacheProperties::No);
            let job = workspace.build().await?.remove(Options::new()).await?;
            wait(bus, job).await
        }
        Op::Prune => {
            let job = manager.prune(&[], Options::new()).await?;
            wait(bus, job).await
        }
        Op::Import { nth } => {
            let folder = world.home.user().join("root/etc");
            let job = manager.import_image(&folder.to_string_lossy(), &format!("i{nth}"), Options::new()).await?;
            wait(bus, job).await
        }
        Op::RemoveImage { nth } => {
            let path = manager.get_image(&format!("i{nth}")).await?;
            let image = ImageProxy::builder(bus).path(path).cache_properties(CacheProperties::No);
            let job = image.build().await?.remove(Options::new()).await?;
            wait(bus, job).await
        }
    }
}

/// Waits for the end of a job.
pub(crate) async fn wait(bus: &Connection, job: OwnedObjectPath) -> Result<(), Error> {
    JobProxy::builder(bus).path(job).cache_properties(CacheProperties::No).build().await?.wait().await.map(drop)
}

pub(crate) async fn supervised<'a>(
    bus: &Connection,
    path: &ObjectPath<'_>,
) -> Result<SupervisedProxy<'a>, zbus::Error> {
    SupervisedProxy::builder(bus).path(path.to_owned()).cache_properties(CacheProperties::No).build().await
}

async fn proxy<'a>(bus: &Connection, manager: &ManagerProxy<'_>, vm: u8) -> Result<VmProxy<'a>, Error> {
    let path = manager.get_vm(&vm_name(vm)).await?;
    Ok(VmProxy::builder(bus).path(path).cache_properties(CacheProperties::No).build().await?)
}

pub(crate) async fn guest<'a>(bus: &Connection, manager: &ManagerProxy<'_>, vm: u8) -> Result<GuestProxy<'a>, Error> {
    let path = manager.get_vm(&vm_name(vm)).await?;
    Ok(GuestProxy::builder(bus).path(path).cache_properties(CacheProperties::No).build().await?)
}
