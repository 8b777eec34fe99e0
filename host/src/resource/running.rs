//! VMs of which something runs. Their folders stay with that: somebody may be at work in them.

use std::{collections::BTreeMap, path::Path};

use nexus_model::{Id, ResourceKind};

use super::{Ground, Owner, Resource, ResourceError, Standing};
use crate::{
    process::ProcessWatch,
    unit::{keeper_processes, record::Records},
};

/// What becomes of the folders of each.
#[derive(Debug)]
pub(super) struct Running(BTreeMap<Id, Standing>);

impl Running {
    /// By the units and processes that there are.
    pub(super) fn of(found: &[Resource]) -> Self {
        let standing = |found: &Resource| {
            let Owner::Vm(vm) = found.owner else { return None };
            match &found.standing {
                Standing::Ours | Standing::Data => None,
                Standing::Runs { .. } => Some((vm, found.standing.clone())),
                Standing::Doubtful(_) => {
                    Some((vm, Standing::Doubtful(format!("the {} {} might use it", found.kind, found.place))))
                }
            }
        };
        Self(found.iter().filter_map(standing).collect())
    }

    /// What becomes of a folder of a VM that would be [`Standing::Ours`] otherwise. Runtime folders have records, too, of
    /// what runs: they are asked about first.
    pub(super) fn standing(&mut self, vm: Id, kind: ResourceKind, folder: &Path) -> Standing {
        if kind == ResourceKind::Runtime && !self.0.contains_key(&vm) && is_recorded_to_run(folder) {
            self.0.insert(vm, Standing::Runs { by: kind });
        }
        self.0.get(&vm).unwrap_or(&Standing::Ours).clone()
    }
}

impl Ground {
    /// Whether anything of a VM runs: its keeper, or what its runtime folder tells of.
    pub(super) fn runs(&self, vm: Id) -> Result<bool, ResourceError> {
        let unit = format!("{}{vm}", self.prefix());
        let is_kept = keeper_processes(&unit)?.iter().any(|keeper| keeper.unit == unit && keeper.is_shim);
        Ok(is_kept || is_recorded_to_run(&self.runtimes.join(vm.to_string())))
    }
}

/// Whether a process runs that the record in a runtime folder names.
fn is_recorded_to_run(runtime: &Path) -> bool {
    let record = Records::open(runtime).ok().flatten().and_then(|records| records.process().ok().flatten());
    record.is_some_and(|record| {
        let others = record.others.iter().map(|program| &program.process);
        let mut processes = others.chain([&record.keeper, &record.leader]);
        processes.any(|process| matches!(ProcessWatch::open(process), Ok(Some(_))))
    })
}
