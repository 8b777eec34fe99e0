//! Getters: rows, proxies, and what `Manager` finds and lists.

use nexus_dbus::client::{ManagerProperties, ManagerProxy, Row, SupervisedProperties, VmProperties, VmProxy, objects};
use nexus_model::{ErrorKind, Health, vm::VmState};
use zbus::{ObjectPath, proxy::CacheProperties};

use crate::fixture::{Fixture, in_state, one_of_everything, status};

fn path(below: &str) -> ObjectPath<'static> {
    format!("/org/workfort/Nexus1/{below}").try_into().unwrap()
}

#[tokio::test]
async fn a_row_has_what_the_picture_has() {
    let fixture = Fixture::with(one_of_everything).await;
    let vm = VmProperties::read(&fixture.client, &path("vm/web")).await.unwrap();
    assert_eq!((vm.id.as_str(), vm.name.as_str(), vm.state.as_str()), ("0000000000000007", "web", "running"));
    assert_eq!((vm.state_reason.as_str(), vm.state_changed_at), ("vmm-started", 10));
    assert_eq!((vm.guest_ready, vm.memory_bytes, vm.boot_duration_usec), (true, 256 << 20, 5));
    assert_eq!(vm.image.as_str(), path("image/alpine_2d3_2e20").as_str());
    assert_eq!(vm.connections[0].as_str(), path("vm/web/connection/1").as_str());
    assert_eq!((vm.job.as_str(), vm.kernel.as_str()), ("/", "/"));
    assert_eq!((vm.api_socket_path.as_str(), vm.vsock_path.as_str()), ("", "/run/v"));
    let machine = SupervisedProperties::read(&fixture.client, &path("vm/web")).await.unwrap();
    assert_eq!((machine.health.as_str(), machine.intensity, machine.window_usec), ("ok", 5, 60_000_000));
    assert_eq!(machine.supervisor.as_str(), path("supervisor/vms_2fweb").as_str());
}

#[tokio::test]
async fn every_row_can_be_read_at_once() {
    let fixture = Fixture::with(one_of_everything).await;
    let all = objects(&fixture.client).await.unwrap();
    let at = |below: &str| &all[&path(below)];
    assert_eq!(at("vm/web").guest.as_ref().unwrap().addresses, ["10.0.0.2"]);
    assert_eq!(at("vm/web").guest.as_ref().unwrap().features, ["clock", "terminals"]);
    assert_eq!(at("vm/web/connection/1").connection.as_ref().unwrap().port, 100);
    assert_eq!(at("workspace/disk").workspace.as_ref().unwrap().vm.as_str(), path("vm/web").as_str());
    assert_eq!(
        at("image/alpine_2d3_2e20").image.as_ref().unwrap().used_by[0].as_str(),
        path("workspace/disk").as_str()
    );
    assert!(at("asset/kernel_2d6_2e1").asset.as_ref().unwrap().default);
    let job = at("job/1").job.as_ref().unwrap();
    assert_eq!((job.state.as_str(), job.progress), ("done", -1.0));
    assert_eq!(job.result["vm"], zbus::OwnedVariant::from(path("vm/web")));
    let vms = at("supervisor/vms").supervisor.as_ref().unwrap();
    assert_eq!(vms.strategy, "one-for-one");
    assert_eq!(vms.children, [path("supervisor/vms_2fweb").into()]);
    let children = |supervisor: &str| at(supervisor).supervisor.as_ref().unwrap().children.clone();
    let connections = "supervisor/vms_2fweb_2fconnections";
    assert_eq!(children("supervisor/vms_2fweb"), [path("vm/web").into(), path(connections).into()]);
    assert_eq!(children(connections), [path("vm/web/connection/1").into()]);
}

#[tokio::test]
async fn the_manager_counts() {
    let fixture = Fixture::with(one_of_everything).await;
    let root = ObjectPath::from_static_str_unchecked(nexus_dbus::ROOT);
    let read = || ManagerProperties::read(&fixture.client, &root);
    let manager = read().await.unwrap();
    assert_eq!((manager.version.as_str(), manager.api_revision), ("1.2.3", nexus_dbus::API_REVISION));
    assert_eq!((manager.vm_count, manager.running_vm_count, manager.job_count), (1, 1, 1));
    assert_eq!(manager.committed_memory_bytes, 256 << 20);
    assert!(manager.vmm_available.contains(&"process".to_owned()));
    assert_eq!(manager.default_kernel.as_str(), "/");
    assert!(manager.storage_free_bytes > 0);
    assert!(manager.database_bytes > 0 && manager.database_path.ends_with("nexus.db"));
    assert_eq!(manager.state, "starting");
    fixture.server.started().await;
    assert_eq!(read().await.unwrap().state, "running");
    fixture.board().publish_actor("root/store".to_owned(), status("root/store", Health::Degraded));
    fixture.board().publish_vm("web".parse().unwrap(), in_state("web", VmState::Stopped, 11));
    fixture.board().flushed().await;
    let manager = read().await.unwrap();
    assert_eq!((manager.state.as_str(), manager.running_vm_count, manager.committed_memory_bytes), ("degraded", 0, 0));
    fixture.board().update_manager(|manager| manager.draining = true);
    fixture.board().flushed().await;
    assert_eq!(read().await.unwrap().state, "draining");
}

#[tokio::test]
async fn objects_are_found_by_name_and_by_id() {
    let fixture = Fixture::with(one_of_everything).await;
    let manager = ManagerProxy::new(&fixture.client).await.unwrap();
    for name in ["web", "0000000000000007"] {
        assert_eq!(manager.get_vm(name).await.unwrap().as_str(), path("vm/web").as_str());
    }
    assert_eq!(manager.get_vm_by_pid(4711).await.unwrap().as_str(), path("vm/web").as_str());
    assert_eq!(manager.get_workspace("disk").await.unwrap().as_str(), path("workspace/disk").as_str());
    assert_eq!(manager.get_image("alpine-3.20").await.unwrap().as_str(), path("image/alpine_2d3_2e20").as_str());
    assert_eq!(manager.get_asset("000000000000000a").await.unwrap().as_str(), path("asset/kernel_2d6_2e1").as_str());
    assert_eq!(manager.get_job(2).await.unwrap().as_str(), path("job/2").as_str());
    assert_eq!(manager.get_supervisor("vms/web").await.unwrap().as_str(), path("supervisor/vms_2fweb").as_str());
    assert_eq!(manager.get_supervisor("root").await.unwrap().as_str(), path("supervisor/root").as_str());
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let fixture = Fixture::with(one_of_everything).await;
    let manager = ManagerProxy::new(&fixture.client).await.unwrap();
    let kind = |error: nexus_dbus::Error| error.kind();
    assert_eq!(manager.get_vm("db").await.map_err(kind).unwrap_err(), Some(ErrorKind::NotFound));
    assert_eq!(manager.get_vm("Web").await.map_err(kind).unwrap_err(), Some(ErrorKind::InvalidName));
    assert_eq!(manager.get_vm("00000000000000ff").await.map_err(kind).unwrap_err(), Some(ErrorKind::InvalidName));
    assert_eq!(manager.get_vm_by_pid(0).await.map_err(kind).unwrap_err(), Some(ErrorKind::NotFound));
    assert_eq!(manager.get_job(99).await.map_err(kind).unwrap_err(), Some(ErrorKind::NotFound));
    assert_eq!(manager.get_supervisor("store").await.map_err(kind).unwrap_err(), Some(ErrorKind::NotFound));
}

#[tokio::test]
async fn lists_are_in_order() {
    let fixture = Fixture::with(|board| {
        one_of_everything(board);
        board.publish_vm("db".parse().unwrap(), in_state("db", VmState::Created, 1));
    })
    .await;
    let manager = ManagerProxy::new(&fixture.client).await.unwrap();
    let vms = manager.list_vms().await.unwrap();
    let rows: Vec<_> =
        vms.iter().map(|(name, state, health, _)| (name.as_str(), state.as_str(), health.as_str())).collect();
    assert_eq!(rows, [("db", "created", ""), ("web", "running", "ok")]);
    let jobs = manager.list_jobs().await.unwrap();
    let rows: Vec<_> = jobs.iter().map(|(id, kind, state, ..)| (*id, kind.as_str(), state.as_str())).collect();
    assert_eq!(rows, [(1, "start-vm", "done"), (2, "start-vm", "running")]);
}

#[tokio::test]
async fn a_cached_proxy_follows() {
    let fixture = Fixture::with(one_of_everything).await;
    let builder = VmProxy::builder(&fixture.client).path(path("vm/web")).cache_properties(CacheProperties::Yes);
    let vm = builder.build().await.unwrap();
    assert_eq!(vm.state().await.unwrap(), "running");
    let mut states = vm.receive_state_changed().await;
    fixture.board().publish_vm("web".parse().unwrap(), in_state("web", VmState::Stopping, 11));
    loop {
        let change = tokio::time::timeout(crate::fixture::LONG, futures_util::StreamExt::next(&mut states)).await;
        if change.unwrap().unwrap().get().await.unwrap() == "stopping" {
            break;
        }
    }
    assert_eq!(vm.state().await.unwrap(), "stopping");
}
