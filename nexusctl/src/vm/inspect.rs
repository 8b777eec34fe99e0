//! `nexusctl vm inspect`.

use std::time::Duration;

use clap::Args;
use nexus_dbus::client::{GuestProperties, SupervisedProperties, VmProperties};
use nexus_model::{
    Timestamp,
    restart::{Intensity, RestartPolicy},
};
use serde_json::{Value, json};

use super::{find, vmm};
use crate::{
    bus::{Bus, Objects},
    failure::{Exit, Failure},
    output::{self, Fields, Format, FormatArgs, amount},
};

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// A name or an id
    #[arg(value_name = "VM")]
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

pub(super) async fn run(bus: &Bus, args: &Inspect) -> Result<Exit, Failure> {
    let what = format!("inspect VM {}", args.name);
    let path = find(bus, &args.name, &what).await?;
    let objects = bus.objects(&what).await?;
    let object = objects.all.get(&path);
    let vm = object.and_then(|object| object.vm.as_ref());
    let vm = vm.ok_or_else(|| Failure::new(format!("cannot {what}")).because("It is gone by now."))?;
    let actor = object.and_then(|object| object.supervised.as_ref());
    let guest = object.and_then(|object| object.guest.as_ref());
    match args.format.output {
        Format::Json => output::json(&as_json(vm, actor, guest, &objects))?,
        Format::Table => output::line(fields(vm, actor, guest, &objects).to_string())?,
    }
    Ok(Exit::OK)
}

fn fields(
    vm: &VmProperties,
    actor: Option<&SupervisedProperties>,
    guest: Option<&GuestProperties>,
    objects: &Objects,
) -> Fields {
    let now = objects.now;
    let took = |microseconds: u64| match microseconds {
        0 => String::new(),
        some => amount::duration(Duration::from_micros(some)),
    };
    let reason = vm.state_reason.replace('-', " ");
    let since = amount::ago(Timestamp(vm.state_changed_at), now);
    let fields = Fields::default()
        .field("Name", &vm.name)
        .field("Id", &vm.id)
        .field("Label", &vm.label)
        .field("State", format!("{} ({reason}, {since})", vm.state));
    let fields = match actor {
        Some(actor) => health(fields, vm, actor, now),
        None => fields,
    };
    let fields = match guest {
        Some(guest) => fields
            .field("Guest", format!("answers, agent {}", guest.agent_version))
            .field("Host name", &guest.hostname)
            .field("System", format!("{} {}", guest.os_name, guest.os_version))
            .field("Addresses", guest.addresses.join(", ")),
        None => fields.field(
            "Guest",
            match objects.silence(vm) {
                "" => "does not answer".to_owned(),
                why => format!("does not answer: {why}"),
            },
        ),
    };
    fields
        .field("VMM", vmm(vm))
        .field("Memory", amount::size(vm.memory_bytes))
        .field("vCPUs", vm.vcpu_count.to_string())
        .field("Image", objects.name(&vm.image).unwrap_or_default())
        .field("Kernel", objects.name(&vm.kernel).unwrap_or_default())
        .field("Workspaces", objects.names(&vm.workspaces).join(", "))
        .field("Role", &vm.role)
        .field("Tags", vm.tags.join(", "))
        .field("Restarts", &vm.restart_policy)
        .field("Autostart", if vm.autostart { "yes" } else { "no" })
        .field("Ephemeral", if vm.ephemeral { "yes: removed once it has stopped" } else { "no" })
        .field("Pid", if vm.leader == 0 { String::new() } else { vm.leader.to_string() })
        .field("Unit", &vm.unit)
        .field("vsock CID", if vm.context_id == 0 { String::new() } else { vm.context_id.to_string() })
        .field("API socket", &vm.api_socket_path)
        .field("vsock", &vm.vsock_path)
        .field("Console log", &vm.console_log_path)
        .field("Created", amount::when(Timestamp(vm.created_at), now))
        .field("Started", amount::when(Timestamp(vm.started_at), now))
        .field("Stopped", amount::when(Timestamp(vm.stopped_at), now))
        .field("VMM up after", took(vm.boot_duration_usec))
        .field("Guest up after", took(vm.ready_duration_usec))
        .field("Last end", &vm.exit_reason)
}

fn health(fields: Fields, vm: &VmProperties, actor: &SupervisedProperties, now: Timestamp) -> Fields {
    let next = match actor.next_restart_at {
        0 => String::new(),
        at => amount::ahead(Timestamp(at), now),
    };
    fields
        .field("Health", format!("{}, generation {}", actor.health, actor.generation))
        .field("Given up", given_up(vm).unwrap_or_default())
        .field("Failures", format!("{} in all", actor.failure_count))
        .field("Actor faults", if actor.fault_count == 0 { String::new() } else { actor.fault_count.to_string() })
        .field("Last fault", &actor.last_fault_reason)
        .field("Tried again", next)
}

/// Why a VM is not started again, and what to do.
fn given_up(vm: &VmProperties) -> Option<String> {
    let Intensity { max, window } = RestartPolicy::INTENSITY;
    (vm.state == "failed" && vm.state_reason == "too-many-failures").then(|| {
        let minutes = window.as_secs() / 60;
        format!("more than {max} failures in {minutes} min; start it with: nexusctl vm start {}", vm.name)
    })
}

/// A VM, with the same keys in lists.
pub(super) fn as_json(
    vm: &VmProperties,
    actor: Option<&SupervisedProperties>,
    guest: Option<&GuestProperties>,
    objects: &Objects,
) -> Value {
    let mut value = json!({
        "name": vm.name,
        "id": vm.id,
        "label": vm.label,
        "role": vm.role,
        "tags": vm.tags,
        "state": vm.state,
        "state_reason": vm.state_reason,
        "state_changed_at_usec": vm.state_changed_at,
        "guest_ready": vm.guest_ready,
        "ephemeral": vm.ephemeral,
        "autostart": vm.autostart,
        "restart_policy": vm.restart_policy,
        "vmm": vm.vmm,
        "isolated": vm.isolated,
        "image": objects.name(&vm.image),
        "kernel": objects.name(&vm.kernel),
        "workspaces": objects.names(&vm.workspaces),
        "vcpus": vm.vcpu_count,
        "memory_bytes": vm.memory_bytes,
        "context_id": vm.context_id,
        "pid": vm.leader,
        "unit": vm.unit,
        "invocation_id": vm.invocation_id,
        "exit_code": (vm.stopped_at != 0).then_some(vm.exit_code),
        "exit_reason": vm.exit_reason,
        "created_at_usec": vm.created_at,
        "started_at_usec": vm.started_at,
        "stopped_at_usec": vm.stopped_at,
        "boot_duration_usec": vm.boot_duration_usec,
        "ready_duration_usec": vm.ready_duration_usec,
        "api_socket_path": vm.api_socket_path,
        "vsock_path": vm.vsock_path,
        "console_log_path": vm.console_log_path,
    });
    if let Some(actor) = actor {
        value["health"] = json!(actor.health);
        value["generation"] = json!(actor.generation);
        value["failure_count"] = json!(actor.failure_count);
        value["fault_count"] = json!(actor.fault_count);
        value["last_fault_reason"] = json!(actor.last_fault_reason);
        value["next_restart_at_usec"] = json!(actor.next_restart_at);
    }
    if let Some(guest) = guest {
        value["guest"] = json!({
            "agent_version": guest.agent_version,
            "protocol_revision": guest.protocol_revision,
            "hostname": guest.hostname,
            "addresses": guest.addresses,
            "boot_id": guest.boot_id,
            "os_name": guest.os_name,
            "os_version": guest.os_version,
            "features": guest.features,
            "connected_at_usec": guest.connected_at,
            "last_heartbeat_at_usec": guest.last_heartbeat_at,
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::sample;

    #[test]
    fn everything_about_one() {
        let objects = sample::objects(vec![sample::vm("web")]);
        let text = fields(&sample::vm("web"), Some(&sample::actor()), Some(&sample::guest()), &objects).to_string();
        assert_eq!(
            text,
            "\
Name:            web
Id:              0123456789abcdef0123456789abcdef
State:           running (vmm started, 2 minutes ago)
Health:          ok, generation 1
Failures:        0 in all
Guest:           answers, agent 0.1.0
Host name:       web\u{fffd}[2J
System:          alpine 3.22
Addresses:       10.0.0.2
VMM:             qemu
Memory:          512 MiB
vCPUs:           2
Role:            work
Tags:            a, b
Restarts:        on-failure
Autostart:       no
Ephemeral:       no
Pid:             4711
Unit:            nexus-1-2.service
vsock CID:       3
API socket:      /run/nexus/1/qmp
vsock:           /run/nexus/1/vsock
Console log:     /state/nexus/1/console.log
Created:         1 hour ago (2023-11-14T21:13:20Z)
Started:         2 minutes ago (2023-11-14T22:11:19Z)
VMM up after:    120 ms
Guest up after:  2.3 s"
        );
    }

    #[test]
    fn one_that_was_given_up_on_says_why_and_what_to_do() {
        let objects = sample::objects(vec![sample::vm("web")]);
        let vm = VmProperties {
            state: "failed".to_owned(),
            state_reason: "too-many-failures".to_owned(),
            ..sample::vm("web")
        };
        let actor = SupervisedProperties { failure_count: 6, fault_count: 1, ..sample::actor() };
        let text = fields(&vm, Some(&actor), None, &objects).to_string();
        for line in [
            "Given up:        more than 5 failures in 10 min; start it with: nexusctl vm start web",
            "Failures:        6 in all",
            "Actor faults:    1",
        ] {
            assert!(text.lines().any(|told| told == line), "{text}");
        }
    }

    /// Programs rely on these: a key is never renamed, and never changes its meaning.
    #[test]
    fn keys_are_stable_and_units_raw() {
        let objects = sample::objects(vec![sample::vm("web")]);
        let value = as_json(&sample::vm("web"), Some(&sample::actor()), Some(&sample::guest()), &objects);
        let expected = r#"{
            "name": "web", "id": "0123456789abcdef0123456789abcdef", "label": "", "role": "work", "tags": ["a", "b"],
            "state": "running", "state_reason": "vmm-started", "state_changed_at_usec": 1699999880000000,
            "guest_ready": true, "ephemeral": false, "autostart": false, "restart_policy": "on-failure",
            "vmm": "qemu", "isolated": true, "image": null, "kernel": null, "workspaces": [], "vcpus": 2,
            "memory_bytes": 536870912, "context_id": 3, "pid": 4711, "unit": "nexus-1-2.service",
            "invocation_id": "", "exit_code": null, "exit_reason": "", "created_at_usec": 1699996400000000,
            "started_at_usec": 1699999879000000, "stopped_at_usec": 0, "boot_duration_usec": 120000,
            "ready_duration_usec": 2340000, "api_socket_path": "/run/nexus/1/qmp",
            "vsock_path": "/run/nexus/1/vsock", "console_log_path": "/state/nexus/1/console.log",
            "health": "ok", "generation": 1, "failure_count": 0, "fault_count": 0, "last_fault_reason": "",
            "next_restart_at_usec": 0,
            "guest": {
                "agent_version": "0.1.0", "protocol_revision": 1, "hostname": "web\u001b[2J",
                "addresses": ["10.0.0.2"], "boot_id": "b", "os_name": "alpine", "os_version": "3.22",
                "features": ["terminals"], "connected_at_usec": 1700000000000000, "last_heartbeat_at_usec": 1700000000000000
            }
        }"#;
        assert_eq!(value, expected.parse::<Value>().unwrap());
    }
}
