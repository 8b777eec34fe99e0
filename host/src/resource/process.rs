//! Keepers that no unit holds, found by their command lines. When one goes, the kernel takes along what it keeps.

use std::collections::BTreeMap;

use nexus_model::ResourceKind;

use super::{Ground, Owner, Place, Resource, Standing};
use crate::unit::KeeperProcess;

/// Those of `keepers` that are of no unit in `units`. Their forks have the same command line: the first one is the keeper.
pub(super) fn list(ground: &Ground, keepers: &[KeeperProcess], units: &[String]) -> Vec<Resource> {
    let mut first: BTreeMap<&str, &KeeperProcess> = BTreeMap::new();
    for keeper in keepers.iter().filter(|keeper| !units.contains(&keeper.unit)) {
        let age = |keeper: &KeeperProcess| (keeper.process.start_ticks, keeper.process.pid);
        let known = first.entry(&keeper.unit).or_insert(keeper);
        if age(keeper) < age(known) {
            *known = keeper;
        }
    }
    first.into_values().map(|keeper| resource(ground, keeper)).collect()
}

fn resource(ground: &Ground, keeper: &KeeperProcess) -> Resource {
    let vm = ground.vm_of(&keeper.unit);
    let standing = match (vm, ground.elsewhere(keeper)) {
        (None, _) => Standing::Doubtful("its name has no VM's id".to_owned()),
        _ if !keeper.is_shim => Standing::Doubtful("its program is another one, or another user's".to_owned()),
        (Some(_), Some(why)) => Standing::Doubtful(why),
        (Some(_), None) => Standing::Ours,
    };
    Resource {
        kind: ResourceKind::Process,
        place: Place::Process(keeper.unit.clone(), (&keeper.process).into()),
        owner: vm.map_or(Owner::Nobody, Owner::Vm),
        standing,
    }
}
