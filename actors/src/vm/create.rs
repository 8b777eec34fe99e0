//! How a VM comes to be.

use nexus_model::{
    ErrorKind, Id, Name, Timestamp, failpoint,
    vm::{Desired, VmSpec, VmmChoice},
};
use nexus_store::{NewVm, WorkspaceRow};
use tracing::{info, warn};

use super::{VmContext, context::child_spec, memory::check_total, removal::Disks};
use crate::{
    Engine, Error, Origin,
    ask::ACTOR_DEADLINE,
    snapshot::{JobId, ObjectRef},
    work::unbroken,
};

impl Engine {
    /// Creates a VM. When `spec` names an image and no workspace, a workspace named like the VM is made from it. No name
    /// is one that Nexus makes up.
    ///
    /// # Errors
    /// `InvalidArgs` for a specification that no VM can have; `NotFound` for an image, a workspace, a kernel or an
    /// initrd that is not there; `AlreadyExists`; `InUse` for a workspace that another VM has; `HostUnsupported` for a
    /// VMM that this machine does not have; `ResourcesExhausted` for more memory than it has.
    pub async fn create_vm(&self, origin: &Origin, name: Option<Name>, mut spec: VmSpec) -> Result<Name, Error> {
        self.check_accepting()?;
        spec.validate()?;
        let vmm = self.vmms.choose(spec.vmm)?.kind();
        check_total(spec.memory_bytes)?;
        if spec.vmm != VmmChoice::Process {
            let kernel = self.kernel(spec.kernel.as_ref())?;
            self.initrd(spec.initrd.as_ref(), &kernel)?;
        }
        if vmm != nexus_model::vm::VmmKind::Process && spec.image.is_none() && spec.workspace.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidArgs,
                "a VM needs a disk: name an `image` to make one from, or a `workspace`",
            ));
        }
        if spec.image.is_some() && spec.workspace.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidArgs,
                "name an `image` or a `workspace`, not both: a workspace already has its content",
            ));
        }
        let id = random_id()?;
        let name = name.map_or_else(|| generated_name(id), Ok)?;
        let now = Timestamp::from(std::time::SystemTime::now());
        let image = spec.image.clone();
        if image.is_some() {
            spec.workspace = Some(name.clone());
        }
        let made = match &image {
            Some(image) => Some(self.new_workspace_row(&name, image, Some(id), now)?),
            None => None,
        };
        let existing = match (&image, &spec.workspace) {
            (None, Some(workspace)) => Some(
                self.workspaces.get(workspace).ok_or_else(|| Error::not_found("workspace", workspace.as_str()))?.id,
            ),
            _ => None,
        };
        let new = NewVm { id, name: name.clone(), spec, desired: Desired::Resting, created_at: now };
        let (engine, made_for) = (self.clone(), origin.clone());
        unbroken(async move {
            engine.make_vm(new, made, existing).await?;
            let Origin { request, sender, .. } = made_for;
            info!(NEXUS_VM = %name, NEXUS_REQUEST = %request, DBUS_SENDER = sender, "VM {name} created");
            Ok(name)
        })
        .await
    }

    /// Creates a VM and starts it. One that can't be started at all is removed again.
    ///
    /// # Errors
    /// As those of [`create_vm`](Self::create_vm); what is wrong with the start itself is the job's error.
    pub async fn run_vm(&self, origin: &Origin, name: Option<Name>, spec: VmSpec) -> Result<(Name, JobId), Error> {
        let (engine, origin) = (self.clone(), origin.clone());
        unbroken(async move {
            let name = engine.create_vm(&origin, name, spec).await?;
            match engine.start_vm(&origin, &name).await {
                Ok(job) => Ok((name, job)),
                Err(error) => {
                    // The caller learns why it could not start; what is left of it would be nobody's.
                    if let Ok(vm) = engine.vm(&name)
                        && let Err(left) = engine.forget_vm(&vm, Disks::Own).await
                    {
                        warn!(NEXUS_VM = %name, "what is left of VM {name} stays: {}", left.text());
                    }
                    Err(error)
                }
            }
        })
        .await
    }

    /// Stores a VM and what belongs to it, and starts their actors: all of it or nothing.
    async fn make_vm(&self, new: NewVm, disk: Option<WorkspaceRow>, attach: Option<Id>) -> Result<(), Error> {
        let (id, name, now) = (new.id, new.name.clone(), new.created_at);
        let vm = match self.vms.claim(&name, || VmContext::new(id, name.clone())) {
            Some(vm) => vm,
            None => return Err(self.name_taken(ObjectRef::Vm(name))),
        };
        let claimed = disk.as_ref().map(|row| self.claim_workspace(row)).transpose();
        let made = async {
            let disk_context = claimed?;
            let stored_disk = disk.clone();
            let stored = self
                .store
                .call(move |store| {
                    store.together(|store| {
                        store.insert_vm(&new)?;
                        match (&stored_disk, attach) {
                            (Some(disk), _) => store.insert_workspace(disk).map(|()| None),
                            (None, Some(existing)) => store.attach_workspace(existing, id, now).map(Some),
                            (None, None) => Ok(None),
                        }
                    })
                })
                .await;
            failpoint("create.stored");
            let attached = match (stored, &disk_context) {
                (Ok(attached), _) => attached,
                (Err(error), None) => return Err(error),
                (Err(error), Some(context)) => {
                    self.workspaces.release(&context.name, context);
                    return Err(error);
                }
            };
            if let Some(context) = &disk_context {
                self.start_workspace(context).await?;
            }
            if let Some(context) = attached.and_then(|row| self.workspaces.get(&row.name)) {
                context.refresh().await;
            }
            failpoint("create.before-actor");
            self.start_child(&self.vms_supervisor, child_spec(self, &vm)).await
        };
        if let Err(error) = made.await {
            if let Err(left) = self.forget_vm(&vm, Disks::Own).await {
                warn!(NEXUS_VM = %name, "what is left of VM {name} stays until the next start: {}", left.text());
            }
            return Err(error);
        }
        // Its supervisor is up; the machine shows the VM.
        vm.machine.current(ACTOR_DEADLINE).await;
        vm.connection.current(ACTOR_DEADLINE).await;
        for spare in &vm.spares {
            spare.slot.current(ACTOR_DEADLINE).await;
        }
        Ok(())
    }

    /// Why a name can't be had.
    pub(crate) fn name_taken(&self, object: ObjectRef) -> Error {
        match self.removals.check(&object) {
            Err(busy) => busy,
            Ok(()) => {
                let (noun, name) = object.noun_and_name();
                Error::new(
                    ErrorKind::AlreadyExists,
                    format!("the name `{name}` is taken by another {noun} already: choose another one"),
                )
            }
        }
    }
}

/// A new identifier.
pub(crate) fn random_id() -> Result<Id, Error> {
    Id::random().map_err(|error| Error::caused(ErrorKind::Internal, "the system has no random source", error))
}

/// A name that nobody chose.
fn generated_name(id: Id) -> Result<Name, Error> {
    let text = id.to_string();
    Ok(format!("vm-{}", &text[..8]).parse()?)
}
