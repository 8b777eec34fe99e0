//! Keepers that no unit holds, found by their command lines. When one goes, the kernel takes along what it keeps.

use std::{collections::BTreeMap, path::Path};

use nexus_model::ResourceKind;

use super::{Ground, Owner, Place, Resource, Standing};
use crate::unit::{HeldUnit, KeeperProcess};

/// Those of `keepers` that are of no unit in `units`. Their forks have the same command line: the first one is the keeper.
pub(super) fn list(ground: &Ground, keepers: &[KeeperProcess], units: &[HeldUnit]) -> Vec<Resource> {
    let mut first: BTreeMap<(&str, &Path), &KeeperProcess> = BTreeMap::new();
    for keeper in keepers.iter().filter(|keeper| units.iter().all(|unit| unit.name != keeper.unit)) {
        let age = |keeper: &KeeperProcess| (keeper.process.start_ticks, keeper.process.pid);
        let known = first.entry((&keeper.unit, &keeper.runtime_dir)).or_insert(keeper);
        if age(keeper) < age(known) {
            *known = keeper;
        }
    }
    first.into_values().map(|keeper| resource(ground, keeper)).collect()
}

fn resource(ground: &Ground, keeper: &KeeperProcess) -> Resource {
    let vm = ground.vm_of(&keeper.unit);
    let no_vm = || Standing::Doubtful("its name has no VM's id".to_owned());
    let standing = vm.map_or_else(no_vm, |vm| ground.keeps(vm, keeper, ResourceKind::Process));
    Resource {
        kind: ResourceKind::Process,
        place: Place::Process(keeper.unit.clone(), (&keeper.process).into()),
        owner: vm.map_or(Owner::Nobody, Owner::Vm),
        standing,
    }
}
