//! Removing a resource that nobody owns.

use std::time::Duration;

use nexus_model::ResourceKind;
use tokio::time::timeout;

use super::{Ground, Inode, Owner, Place, ProcessKey, Resource, ResourceError, Standing, folder, mount};
use crate::{
    process::{ProcessWatch, Signal},
    storage,
    unit::{Keeper, UnitError, keeper_processes},
};

/// How long a process may take to be gone after it was killed. Freeing the memory of a large guest takes a second.
const END: Duration = Duration::from_secs(10);

impl Resource {
    /// Whether it is there, and still the same. What can't be looked at is.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match &self.place {
            Place::Path(path, inode) => !matches!(Inode::at(path), Ok(found) if found != Some(*inode)),
            Place::Process(_, process) => !matches!(ProcessWatch::open(&process.identity()), Ok(None)),
            Place::Unit(_) | Place::Mount(_) | Place::Device(_) => true,
        }
    }

    /// What it takes on the disk. Looks at every file of it.
    #[must_use]
    pub fn allocated_bytes(&self) -> u64 {
        match &self.place {
            Place::Path(path, _) => folder::allocated_bytes(path),
            _ => 0,
        }
    }
}

impl Ground {
    /// Ends what runs of a resource that has no owner: a unit, the processes of a keeper, those that a runtime folder tells
    /// of. Nothing there is success.
    ///
    /// # Errors
    /// [`ResourceError::Stays`] when it might be somebody else's; another error when the system refuses.
    pub async fn end(&self, keeper: &Keeper, resource: &Resource) -> Result<(), ResourceError> {
        check(resource)?;
        match (&resource.place, &resource.owner) {
            (Place::Unit(unit), _) => Ok(self.end_unit(keeper, unit).await?),
            (Place::Process(unit, process), _) => {
                self.end_unit(keeper, unit).await?;
                kill(unit, process).await
            }
            (Place::Path(..), Owner::Vm(vm)) if resource.kind == ResourceKind::Runtime => {
                Ok(self.end_unit(keeper, &format!("{}{vm}", self.prefix())).await?)
            }
            _ => Ok(()),
        }
    }

    /// Removes the files of a resource that has no owner, and of which nothing runs. Nothing there is success. Blocks.
    ///
    /// # Errors
    /// [`ResourceError::Stays`] when it might be somebody else's by now, or something is mounted in it; another error when
    /// the system refuses.
    pub fn erase(&self, resource: &Resource) -> Result<(), ResourceError> {
        check(resource)?;
        let Place::Path(path, inode) = &resource.place else { return Ok(()) };
        match Inode::at(path).map_err(ResourceError::io("look at", path))? {
            None => return Ok(()),
            Some(found) if found != *inode => return Err(stays(resource, "it is another one by now")),
            Some(_) => {}
        }
        if let Some(doubt) = self.doubt(path.parent().unwrap_or(path))? {
            return Err(stays(resource, &doubt));
        }
        if let Some(point) = mount::within(path)? {
            return Err(stays(resource, &format!("something is mounted on {}: unmount it", point.display())));
        }
        if resource.kind == ResourceKind::Draft {
            let removed = storage::remove_draft(path)?;
            return removed.then_some(()).ok_or_else(|| stays(resource, "somebody works on it by now"));
        }
        Ok(storage::remove(path)?)
    }

    /// Ends all of a unit, and forgets it.
    async fn end_unit(&self, keeper: &Keeper, unit: &str) -> Result<(), UnitError> {
        let Some(vm) = self.vm_of(unit) else { return Ok(()) };
        let folder = self.runtimes.join(vm.to_string());
        keeper.kill(unit, &folder).await?;
        keeper.collect(unit, &folder).await
    }
}

fn check(resource: &Resource) -> Result<(), ResourceError> {
    match &resource.standing {
        Standing::Doubtful(why) => Err(stays(resource, why)),
        Standing::Ours | Standing::Data => Ok(()),
    }
}

/// Kills a keeper, and waits until it and its forks are gone: the last of them is the init of what it kept.
async fn kill(unit: &str, keeper: &ProcessKey) -> Result<(), ResourceError> {
    let Some(watch) = ProcessWatch::open(&keeper.identity())? else { return Ok(()) };
    let mut dying = Vec::new();
    for fork in keeper_processes(unit)?.iter().filter(|fork| fork.unit == unit && fork.is_shim) {
        dying.extend(ProcessWatch::open(&fork.process)?);
    }
    watch.signal(Signal::SIGKILL)?;
    dying.push(watch);
    for process in dying {
        match timeout(END, process.exited()).await {
            Ok(ended) => ended?,
            Err(_) => return Err(ResourceError::Undead { pid: process.pid() }),
        }
    }
    Ok(())
}

fn stays(resource: &Resource, why: &str) -> ResourceError {
    ResourceError::Stays { name: resource.place.to_string(), why: why.to_owned() }
}
