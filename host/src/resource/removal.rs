//! Removing a resource that nobody owns.

use std::{path::Path, time::Duration};

use nexus_model::ResourceKind;
use tokio::time::timeout;

use super::{Ground, Inode, Owner, Place, ProcessKey, Resource, ResourceError, Standing, folder, mount, opened};
use crate::{
    process::{ProcessWatch, Signal},
    storage,
    unit::{Keeper, keeper_processes},
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
    /// Forgets what a resource that has no owner is told by: a unit, records in a runtime folder. What runs of it is killed,
    /// if it was listed as [`Standing::Runs`]. Nothing there is success.
    ///
    /// # Errors
    /// [`ResourceError::Stays`] when it might be somebody else's; another error when it runs by now, or the system refuses.
    pub async fn end(&self, keeper: &Keeper, resource: &Resource) -> Result<(), ResourceError> {
        check(resource)?;
        let Owner::Vm(vm) = resource.owner else { return Ok(()) };
        let (unit, folder) = (format!("{}{vm}", self.prefix()), self.runtimes.join(vm.to_string()));
        if !matches!(resource.kind, ResourceKind::Unit | ResourceKind::Process | ResourceKind::Runtime) {
            return Ok(());
        }
        if resource.standing == (Standing::Runs { by: resource.kind }) {
            keeper.kill(&unit, &folder).await?;
            if let Place::Process(_, process) = &resource.place {
                kill(&unit, &folder, process).await?;
            }
        }
        Ok(keeper.collect(&unit, &folder).await?)
    }

    /// Removes the files of a resource that has no owner. Nothing there is success. Blocks.
    ///
    /// # Errors
    /// [`ResourceError::Stays`] when it might be somebody else's by now, something of its VM runs, a process has its disk
    /// open, or something is mounted in it; another error when the system refuses.
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
        if let Owner::Vm(vm) = resource.owner
            && self.runs(vm)?
        {
            return Err(stays(resource, "something of its VM runs"));
        }
        if let (ResourceKind::Workspace | ResourceKind::Image, Some(user)) = (resource.kind, opened::by(path)?) {
            return Err(stays(resource, &format!("process {user} has its disk open")));
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
}

fn check(resource: &Resource) -> Result<(), ResourceError> {
    match &resource.standing {
        Standing::Doubtful(why) => Err(stays(resource, why)),
        Standing::Ours | Standing::Runs { .. } | Standing::Data => Ok(()),
    }
}

/// Kills a keeper, and waits until it and its forks are gone: the last of them is the init of what it kept.
async fn kill(unit: &str, folder: &Path, keeper: &ProcessKey) -> Result<(), ResourceError> {
    let Some(watch) = ProcessWatch::open(&keeper.identity())? else { return Ok(()) };
    let mut dying = Vec::new();
    let forks = keeper_processes(unit)?;
    for fork in forks.iter().filter(|fork| fork.unit == unit && fork.runtime_dir == folder && fork.is_shim) {
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
