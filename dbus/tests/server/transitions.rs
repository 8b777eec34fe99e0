//! The projector: every transition, once, in order.

use nexus_actors::snapshot::{Change, JobSnapshot, VmSnapshot};
use nexus_dbus::{
    client::{JobProxy, objects},
    server::serve,
};
use nexus_model::{ErrorKind, ExitStatus, Health, JobState, vm::VmState};
use zbus::ObjectPath;

use crate::{
    fixture::{Fixture, guest, in_state, job, one_of_everything, options, pair, status, supervisor, vm},
    signals::Signals,
};

#[tokio::test]
async fn no_transition_is_lost_and_each_is_told_once() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut signals = Signals::of(&fixture.client).await;
    let states = [VmState::Paused, VmState::Running];
    for at in 0..1000_u64 {
        let state = states[usize::try_from(at % 2).unwrap()];
        fixture.board().publish_vm(
            "web".parse().unwrap(),
            VmSnapshot { guest: Some(guest()), ..in_state("web", state, 100 + at) },
        );
        if at % 32 == 31 {
            // A client that does not read stalls its connection: here both ends are one process.
            fixture.board().flushed().await;
            for heard in at - 31..=at {
                let signal = signals.next().await;
                assert!(signal.is("/vm/web", "PropertiesChanged"), "{signal:?}");
                assert!(signal.has(&format!("{}", 100 + heard)) && signal.has("\"State\""), "{heard}: {signal:?}");
            }
        }
    }
}

#[tokio::test]
async fn one_transition_is_one_signal_for_each_interface_that_it_touches() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut signals = Signals::of(&fixture.client).await;
    let mut changed = VmSnapshot { guest: Some(guest()), label: "Another".to_owned(), cid: 9, ..vm("web") };
    changed.guest.as_mut().unwrap().hostname = "other".to_owned();
    fixture.board().publish_vm("web".parse().unwrap(), changed);
    fixture.board().publish_job(7, job(7, JobState::Queued));
    let heard = signals.until(|signal| signal.member == "JobNew").await;
    let of_vm: Vec<_> = heard.iter().filter(|signal| signal.is("/vm/web", "PropertiesChanged")).collect();
    assert_eq!(of_vm.len(), 2, "{heard:?}");
    assert!(of_vm[0].has("Nexus1.Vm\"") && of_vm[0].has("Another") && of_vm[0].has("ContextId"), "{of_vm:?}");
    assert!(!of_vm[0].has("State"), "{of_vm:?}");
    assert!(of_vm[1].has("Nexus1.Guest\"") && of_vm[1].has("other") && !of_vm[1].has("AgentVersion"), "{of_vm:?}");
}

#[tokio::test]
async fn an_interface_is_there_while_the_agent_is_connected() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut signals = Signals::of(&fixture.client).await;
    let path: ObjectPath<'_> = "/org/workfort/Nexus1/vm/web".try_into().unwrap();
    // Whoever hears that a guest is ready finds its `Guest`.
    let ready = ("/vm/web", "PropertiesChanged", "GuestReady");
    for (connected, first, second) in [
        (false, ready, ("", "InterfacesRemoved", "Nexus1.Guest")),
        (true, ("", "InterfacesAdded", "Nexus1.Guest"), ready),
    ] {
        let guest = connected.then(guest);
        fixture.board().publish_vm("web".parse().unwrap(), VmSnapshot { guest, ..vm("web") });
        let heard = signals.until(|signal| signal.is(second.0, second.1)).await;
        assert_eq!(heard.len(), 2, "{heard:?}");
        for (signal, (path, member, text)) in heard.iter().zip([first, second]) {
            assert!(signal.is(path, member) && signal.has(text), "{heard:?}");
        }
        fixture.board().flushed().await;
        assert_eq!(objects(&fixture.client).await.unwrap()[&path].guest.is_some(), connected);
    }
}

#[tokio::test]
async fn objects_come_and_go_with_all_their_interfaces() {
    let fixture = Fixture::with(|_| ()).await;
    let own = objects(&fixture.client).await.unwrap().len();
    one_of_everything(fixture.board());
    fixture.board().flushed().await;
    assert!(objects(&fixture.client).await.unwrap().len() >= own + 8);
    let board = fixture.board();
    board.withdraw_vm(&"web".parse().unwrap());
    board.withdraw_connection(&("web".parse().unwrap(), 1));
    board.withdraw_workspace(&"disk".parse().unwrap());
    board.withdraw_image(&"alpine-3.20".parse().unwrap());
    board.withdraw_asset(&"kernel-6.1".parse().unwrap());
    board.withdraw_job(&1);
    board.withdraw_job(&2);
    for place in [
        "root/vms/web/connections/connection-1",
        "root/vms/web/connections",
        "root/vms/web/machine",
        "root/vms/web",
        "root/workspaces/disk",
    ] {
        board.withdraw_actor(&place.to_owned());
    }
    board.flushed().await;
    assert_eq!(objects(&fixture.client).await.unwrap().len(), own);
}

#[tokio::test]
async fn a_job_is_announced_when_it_is_made_and_when_it_ends() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut signals = Signals::of(&fixture.client).await;
    fixture.board().publish_job(7, job(7, JobState::Running));
    fixture.board().flushed().await;
    fixture.board().publish_job(7, job(7, JobState::Done));
    fixture.board().withdraw_job(&7);
    fixture.board().flushed().await;
    let heard = signals.until(|signal| signal.member == "InterfacesRemoved").await;
    let members: Vec<&str> =
        heard.iter().filter(|signal| !signal.has("Count")).map(|signal| signal.member.as_str()).collect();
    assert_eq!(members, ["InterfacesAdded", "JobNew", "PropertiesChanged", "JobRemoved", "InterfacesRemoved"]);
    assert!(heard.iter().any(|signal| signal.member == "JobRemoved" && signal.has("done")), "{heard:?}");
}

#[tokio::test]
async fn waiting_for_a_job_gives_its_result_or_its_own_error() {
    let fixture = Fixture::with(one_of_everything).await;
    let proxy = async |id: u32| {
        JobProxy::builder(&fixture.client).path(format!("/org/workfort/Nexus1/job/{id}")).build().await.unwrap()
    };
    assert!(proxy(1).await.wait().await.unwrap().contains_key("vm"));
    let running = proxy(2).await;
    let wait = running.wait();
    let fail = async {
        let error = Some((ErrorKind::HypervisorFailed, "QEMU ended at once".to_owned()));
        fixture.board().publish_job(2, JobSnapshot { error, ..job(2, JobState::Failed) });
    };
    let (failed, ()) = tokio::join!(wait, fail);
    let failed = failed.unwrap_err();
    assert_eq!((failed.kind(), failed.to_string().as_str()), (Some(ErrorKind::HypervisorFailed), "QEMU ended at once"));
    assert_eq!(running.error_name().await.unwrap(), "org.workfort.Nexus1.Error.HypervisorFailed");
}

#[tokio::test]
async fn the_end_of_a_vmm_is_told_on_the_vm_and_on_the_root() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut signals = Signals::of(&fixture.client).await;
    let (name, status) = ("web".parse().unwrap(), ExitStatus::Signal(9));
    fixture.board().announce(Change::VmExited { name, status, reason: "killed by signal 9".to_owned() });
    let (vm, root) = (signals.next().await, signals.next().await);
    assert!(vm.is("/vm/web", "Exited") && vm.has("137") && vm.has("\"killed\""), "{vm:?}");
    assert!(root.is("", "VmExited") && root.has("\"web\"") && root.has("137"), "{root:?}");
}

#[tokio::test]
async fn a_new_child_invalidates_its_supervisors_children() {
    let fixture = Fixture::with(one_of_everything).await;
    let mut signals = Signals::of(&fixture.client).await;
    fixture.board().publish_actor("root/vms/db".to_owned(), supervisor("root/vms/db"));
    let heard = signals.until(|signal| signal.is("/supervisor/vms", "PropertiesChanged")).await;
    assert!(heard.last().unwrap().has("[\"Children\"]"), "{heard:?}");
}

#[tokio::test]
async fn the_health_of_an_actor_is_shown_on_its_thing() {
    let fixture = Fixture::with(one_of_everything).await;
    fixture.server.started().await;
    let mut signals = Signals::of(&fixture.client).await;
    fixture
        .board()
        .publish_actor("root/vms/web/machine".to_owned(), status("root/vms/web/machine", Health::Unreachable));
    let (machine, root) = (signals.next().await, signals.next().await);
    assert!(machine.is("/vm/web", "PropertiesChanged") && machine.has("unreachable"), "{machine:?}");
    assert!(root.is("", "PropertiesChanged") && root.has("degraded"), "{root:?}");
}

#[tokio::test]
async fn a_second_server_takes_over_and_shows_all_there_is() {
    let mut first = Fixture::with(one_of_everything).await;
    let before = objects(&first.client).await.unwrap().len();
    let (served, client) = pair().await;
    let _second = serve(&served, first.engine.engine.clone(), options()).await.unwrap();
    tokio::time::timeout(crate::fixture::LONG, first.server.ended()).await.unwrap();
    assert_eq!(objects(&client).await.unwrap().len(), before);
}

#[tokio::test]
async fn losing_the_connection_ends_the_server_and_keeps_nobody_waiting() {
    let mut fixture = Fixture::with(one_of_everything).await;
    fixture.client.clone().close().await.unwrap();
    drop(fixture.client);
    tokio::time::timeout(crate::fixture::LONG, fixture.server.ended()).await.unwrap();
    tokio::time::timeout(crate::fixture::LONG, fixture.engine.engine.board().flushed()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_dropped_closes_the_connection_though_somebody_waits() {
    let fixture = Fixture::with(one_of_everything).await;
    let job = JobProxy::builder(&fixture.client).path("/org/workfort/Nexus1/job/2").build().await.unwrap();
    let drop_it = async {
        // Handlers start in the order of their calls: with this answer, the other call is being waited for.
        objects(&fixture.client).await.unwrap();
        drop(fixture.server);
    };
    let (waited, ()) =
        tokio::time::timeout(crate::fixture::LONG, async { tokio::join!(job.wait(), drop_it) }).await.unwrap();
    assert!(waited.is_err());
}
