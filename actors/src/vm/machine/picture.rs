//! The VM as the outside sees it.

use nexus_model::{ArtifactName, vm::VmmChoice};
use nexus_store::VmRow;

use super::state::Machine;
use crate::{asset::initrd_of, snapshot::VmSnapshot};

impl Machine {
    /// Shows the newest picture.
    pub(super) fn publish(&self) {
        let picture = self.picture();
        let before = self.engine.board.vms().get(&self.vm.name);
        let same_assets = before.map_or(picture.assets.is_empty(), |before| before.assets == picture.assets);
        self.engine.board.publish_vm(self.vm.name.clone(), picture);
        if !same_assets {
            self.engine.refresh_assets();
        }
    }

    /// The kernels and initrds that it needs, or has: see [`VmSnapshot::assets`].
    fn assets(&self) -> Vec<ArtifactName> {
        let VmRow { spec, kernel, initrd, .. } = &self.row;
        let named_initrd = spec.initrd.clone().or_else(|| spec.kernel.as_ref().and_then(initrd_of));
        let mut assets: Vec<ArtifactName> = spec.kernel.iter().cloned().chain(named_initrd).collect();
        if self.state().has_vmm() {
            assets.extend(kernel.iter().chain(initrd).cloned());
        }
        assets.sort_unstable();
        assets.dedup();
        assets
    }

    pub(super) fn picture(&self) -> VmSnapshot {
        let row = &self.row;
        let plan = self.plan_of_run();
        let process = row.process.as_ref();
        VmSnapshot {
            id: row.id,
            name: row.name.clone(),
            label: row.spec.label.clone(),
            role: row.spec.role,
            tags: row.spec.tags.clone(),
            lifecycle: row.lifecycle,
            job: self.operation.as_ref().and_then(|operation| Some(operation.job.as_ref()?.id())),
            guest: self.guest.clone(),
            ephemeral: row.spec.ephemeral,
            desired: row.desired,
            autostart: row.spec.autostart,
            restart_policy: row.spec.restart_policy,
            vmm: row.vmm.or(row.spec.vmm.kind()),
            isolated: self.driver.as_ref().map_or(row.spec.vmm != VmmChoice::Process, |driver| driver.isolated()),
            image: row.spec.image.clone(),
            kernel: row.spec.kernel.clone().or_else(|| row.kernel.clone().filter(|_| self.state().has_vmm())),
            assets: self.assets(),
            workspaces: row.spec.workspace.iter().cloned().collect(),
            connections: self.vm.connection_numbers(),
            vcpus: row.spec.vcpus,
            memory_bytes: row.spec.memory_bytes,
            cid: row.cid,
            leader: process.map_or(0, |process| process.leader.pid),
            unit: process.map(|process| process.unit.clone()).unwrap_or_default(),
            invocation_id: process.and_then(|process| process.invocation_id.clone()).unwrap_or_default(),
            exit: row.exit,
            exit_reason: row.exit_reason.clone(),
            created_at: row.created_at,
            started_at: row.started_at,
            stopped_at: row.stopped_at,
            boot_duration: row.boot_duration.unwrap_or_default(),
            ready_duration: row.ready_duration.unwrap_or_default(),
            api_socket: self.driver.as_ref().and_then(|driver| driver.api_socket(&plan)),
            vsock_socket: self.vm.socket(),
            console_log: plan.console_log,
        }
    }
}
