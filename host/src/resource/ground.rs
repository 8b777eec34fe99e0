//! The folders and names of one Nexus.

use std::path::{Path, PathBuf};

use nexus_model::{Id, InstanceId, ResourceKind};

use super::{
    Owner, Place, Resource, ResourceError, Standing, device, folder,
    mark::{self, Mark},
    mount, process,
    running::Running,
};
use crate::unit::{HeldUnit, KeeperProcess, keeper_processes};

/// Where one Nexus may have resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Which Nexus it is: part of the names of units and devices.
    pub instance: InstanceId,
    /// The folder that its store is in. It tells this Nexus from one whose store is a copy of this one's.
    pub state: PathBuf,
    /// Files that it has in its roots.
    pub files: Vec<PathBuf>,
    /// The folders that are its own, with all below them. Each may be below another one.
    pub roots: Vec<PathBuf>,
    /// Runtime folders of VMs, by id.
    pub runtimes: PathBuf,
    /// Consoles of VMs, by id.
    pub consoles: PathBuf,
    /// Workspaces, by name, with an `@` before it.
    pub workspaces: PathBuf,
    /// Images, by name.
    pub images: PathBuf,
    /// Assets, by id.
    pub assets: PathBuf,
    /// Where the kernel shows network devices.
    pub devices: PathBuf,
}

impl Ground {
    /// Writes down that this Nexus uses its folders, which are made where they are not there. Without that, nothing in
    /// them is surely its own.
    ///
    /// # Errors
    /// When it can't be written in one of them, or more; in the others it is.
    pub fn claim(&self) -> Result<(), ResourceError> {
        mark::make(&self.state)?;
        let mark = self.mark()?;
        let claims = self.roots.iter().chain(self.folders()).map(|folder| mark.set(folder));
        claims.fold(Ok(()), Result::and)
    }

    /// Everything there is under its names, and its `units` as [`Keeper::units`](crate::unit::Keeper::units) lists them.
    /// Resources that go before others come before them. Blocks.
    ///
    /// # Errors
    /// When a part can't be looked at. Folders that are not there have nothing in them.
    pub fn resources(&self, units: &[HeldUnit]) -> Result<Vec<Resource>, ResourceError> {
        let keepers = keeper_processes(&self.prefix())?;
        let mut found: Vec<Resource> = units.iter().map(|unit| self.unit(unit, &keepers)).collect();
        found.extend(process::list(self, &keepers, units));
        // They are named after the instance, which a copy of the state folder has, too.
        let doubt = self.doubt(&self.runtimes)?;
        for resource in &mut found {
            if let (Some(why), Standing::Ours | Standing::Runs { .. }) = (&doubt, &resource.standing) {
                resource.standing = Standing::Doubtful(why.clone());
            }
        }
        found.extend(folder::list(self, Running::of(&found))?);
        let roots: Vec<&Path> = self.roots.iter().chain(self.folders()).map(PathBuf::as_path).collect();
        found.extend(mount::list(&roots)?);
        found.extend(device::list(&self.devices, self.instance)?);
        found.sort_by(|one, other| (one.kind, &one.place).cmp(&(other.kind, &other.place)));
        Ok(found)
    }

    fn unit(&self, unit: &HeldUnit, keepers: &[KeeperProcess]) -> Resource {
        let vm = self.vm_of(&unit.name);
        let no_vm = || Standing::Doubtful("its name has no VM's id".to_owned());
        Resource {
            kind: ResourceKind::Unit,
            place: Place::Unit(unit.name.clone()),
            owner: vm.map_or(Owner::Nobody, Owner::Vm),
            standing: vm.map_or_else(no_vm, |vm| self.holds(vm, unit, keepers)),
        }
    }

    /// The standing of a unit.
    fn holds(&self, vm: Id, unit: &HeldUnit, keepers: &[KeeperProcess]) -> Standing {
        let keepers = keepers.iter().filter(|keeper| keeper.unit == unit.name);
        let mut kept: Vec<Standing> = keepers.map(|keeper| self.keeps(vm, keeper, ResourceKind::Unit)).collect();
        // Of several, one that is in doubt says that it might be somebody else's.
        kept.sort_by_key(|kept| !matches!(kept, Standing::Doubtful(_)));
        match (kept.into_iter().next(), &unit.runtime_dir) {
            (Some(kept), _) => kept,
            (None, Some(folder)) if !unit.runs => self.is_in(vm, folder).map_or(Standing::Ours, Standing::Doubtful),
            (None, _) => Standing::Doubtful("it is not what Nexus starts".to_owned()),
        }
    }

    /// The standing of what a keeper keeps, which is of that kind.
    pub(super) fn keeps(&self, vm: Id, keeper: &KeeperProcess, kind: ResourceKind) -> Standing {
        if !keeper.is_shim {
            return Standing::Doubtful("its program is another one, or another user's".to_owned());
        }
        self.is_in(vm, &keeper.runtime_dir).map_or(Standing::Runs { by: kind }, Standing::Doubtful)
    }

    /// Why what is in a runtime folder might be another Nexus': it is not where this one would have it.
    fn is_in(&self, vm: Id, folder: &Path) -> Option<String> {
        let why = || format!("it is in {}, which is not this Nexus' folder", folder.display());
        (folder != self.runtimes.join(vm.to_string())).then(why)
    }

    /// What the names of its units begin with.
    pub(super) fn prefix(&self) -> String {
        format!("nexus-{}-", self.instance)
    }

    /// The VM of a unit.
    pub(super) fn vm_of(&self, unit: &str) -> Option<Id> {
        unit.strip_prefix(&self.prefix())?.parse().ok()
    }

    /// Why what lies in `folder` might not be this Nexus' own; none when it alone uses that, and all above it up to a root.
    /// Whatever is a root of this one can be below one of another Nexus, and the other way round.
    pub(super) fn doubt(&self, folder: &Path) -> Result<Option<String>, ResourceError> {
        let is_within = |path: &&Path| self.roots.iter().any(|root| path.starts_with(root));
        if !is_within(&folder) {
            return Ok(Some("it is in none of Nexus' folders".to_owned()));
        }
        let mark = self.mark()?;
        for above in folder.ancestors().take_while(is_within) {
            let is_claimed = self.roots.iter().chain(self.folders()).any(|claimed| claimed == above);
            let doubt = if is_claimed { mark.doubt(above) } else { mark.shared(above) };
            if let Some(why) = doubt? {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    fn mark(&self) -> Result<Mark, ResourceError> {
        Mark::of(self.instance, &self.state)
    }

    pub(super) fn folders(&self) -> [&PathBuf; 5] {
        [&self.runtimes, &self.consoles, &self.workspaces, &self.images, &self.assets]
    }
}
