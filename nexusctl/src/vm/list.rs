//! `nexusctl vm list`.

use nexus_dbus::client::{SupervisedProperties, VmProperties};
use nexus_model::Timestamp;

use super::{inspect, vmm};
use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    output::{self, Format, ListArgs, Table, amount},
};

pub(super) async fn run(bus: &Bus, args: &ListArgs) -> Result<Exit, Failure> {
    let objects = bus.objects("list VMs").await?;
    let vms = objects.vms();
    if args.quiet {
        output::names(vms.iter().map(|(vm, _)| vm.name.as_str()))?;
        return Ok(Exit::OK);
    }
    match args.format.output {
        Format::Json => {
            output::json(&vms.iter().map(|(vm, actor)| inspect::as_json(vm, *actor, None, &objects)).collect())?;
        }
        Format::Table if vms.is_empty() => {
            output::line("No VMs yet. Create one: nexusctl vm create NAME --image IMAGE")?;
        }
        Format::Table => output::line(table(&vms, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

fn table(vms: &[(&VmProperties, Option<&SupervisedProperties>)], objects: &Objects) -> Table {
    let columns = ["NAME", "STATE", "HEALTH", "GUEST", "VMM", "MEMORY", "VCPUS", "SINCE"];
    let mut table = Table::new(&columns).right(&[5, 6]);
    for (vm, actor) in vms {
        table.row([
            vm.name.clone(),
            vm.state.clone(),
            actor.map(|actor| actor.health.clone()).unwrap_or_default(),
            if vm.guest_ready { "ready".to_owned() } else { "-".to_owned() },
            vmm(vm),
            amount::size(vm.memory_bytes),
            vm.vcpu_count.to_string(),
            amount::ago(Timestamp(vm.state_changed_at), objects.now),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::sample;

    #[test]
    fn a_line_for_each_by_name() {
        let mut process = sample::vm("web");
        process.vmm = "process".to_owned();
        process.isolated = false;
        process.guest_ready = false;
        let objects = sample::objects(vec![process, sample::vm("db")]);
        assert_eq!(
            table(&objects.vms(), &objects).to_string(),
            "\
NAME   STATE     HEALTH   GUEST   VMM                       MEMORY   VCPUS   SINCE
db     running   ok       ready   qemu                     512 MiB       2   2 minutes ago
web    running   ok       -       process (not isolated)   512 MiB       2   2 minutes ago"
        );
    }
}
