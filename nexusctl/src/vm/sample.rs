//! A made-up VM for the tests of what shows one.

use std::collections::HashMap;

use nexus_dbus::client::{GuestProperties, Interfaces, SupervisedProperties, VmProperties};
use nexus_model::Timestamp;
use zbus::OwnedObjectPath;

use crate::bus::Objects;

/// An instant in the tests' now.
pub(crate) const NOW: u64 = 1_700_000_000_000_000;

pub(crate) fn path(text: &str) -> OwnedObjectPath {
    text.to_owned().try_into().unwrap()
}

/// A VM that has run for two minutes.
pub(crate) fn vm(name: &str) -> VmProperties {
    VmProperties {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        name: name.to_owned(),
        label: String::new(),
        role: "work".to_owned(),
        tags: vec!["a".to_owned(), "b".to_owned()],
        state: "running".to_owned(),
        state_reason: "vmm-started".to_owned(),
        state_changed_at: NOW - 120_000_000,
        job: path("/"),
        guest_ready: true,
        ephemeral: false,
        autostart: false,
        restart_policy: "on-failure".to_owned(),
        vmm: "qemu".to_owned(),
        isolated: true,
        image: path("/"),
        kernel: path("/gone"),
        workspaces: Vec::new(),
        connections: Vec::new(),
        vcpu_count: 2,
        memory_bytes: 512 << 20,
        context_id: 3,
        leader: 4711,
        unit: "nexus-1-2.service".to_owned(),
        invocation_id: String::new(),
        exit_code: 0,
        exit_reason: String::new(),
        created_at: NOW - 3_600_000_000,
        started_at: NOW - 121_000_000,
        stopped_at: 0,
        boot_duration_usec: 120_000,
        ready_duration_usec: 2_340_000,
        api_socket_path: "/run/nexus/1/qmp".to_owned(),
        vsock_path: "/run/nexus/1/vsock".to_owned(),
        console_log_path: "/state/nexus/1/console.log".to_owned(),
    }
}

/// The actor of one, with nothing wrong.
pub(crate) fn actor() -> SupervisedProperties {
    SupervisedProperties {
        health: "ok".to_owned(),
        generation: 1,
        restart_count: 0,
        failure_count: 0,
        fault_count: 0,
        intensity: 5,
        window_usec: 60_000_000,
        last_fault_at: 0,
        last_fault_reason: String::new(),
        next_restart_at: 0,
        started_at: NOW - 3_600_000_000,
        supervisor: path("/"),
    }
}

/// What the agent of one says.
pub(crate) fn guest() -> GuestProperties {
    GuestProperties {
        agent_version: "0.1.0".to_owned(),
        protocol_revision: 1,
        hostname: "web\x1b[2J".to_owned(),
        addresses: vec!["10.0.0.2".to_owned()],
        boot_id: "b".to_owned(),
        os_name: "alpine".to_owned(),
        os_version: "3.22".to_owned(),
        features: vec!["terminals".to_owned()],
        connected_at: NOW,
        last_heartbeat_at: NOW,
    }
}

/// All there is: these VMs.
pub(crate) fn objects(vms: Vec<VmProperties>) -> Objects {
    let object = |vm: VmProperties| Interfaces {
        vm: Some(vm),
        guest: Some(guest()),
        connection: None,
        workspace: None,
        image: None,
        asset: None,
        job: None,
        supervised: Some(actor()),
        supervisor: None,
    };
    let all: HashMap<_, _> = vms.into_iter().map(|vm| (path(&format!("/vm/{}", vm.name)), object(vm))).collect();
    Objects { all, now: Timestamp(NOW) }
}
