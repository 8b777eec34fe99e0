//! What clients hear of a real daemon: everything once, in order, and never later than the answer to who caused it.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;

use nexus_dbus::client::{JobProperties, Options, Row, VmProperties, objects};
use nexus_tests::{Interfaces, Signal, Signals, TestDaemon, VmPath};
use nix::{
    sys::signal::{Signal as Kill, kill},
    unistd::Pid,
};
use zbus::{OwnedObjectPath, OwnedVariant};

const VM: &str = "org.workfort.Nexus1.Vm";
const GUEST: &str = "org.workfort.Nexus1.Guest";

fn strike(vm: &VmProperties) {
    kill(Pid::from_raw(i32::try_from(vm.leader).unwrap()), Kill::SIGKILL).unwrap();
}

/// What a VM's signals say of a property, one after the other.
fn told(heard: &[Signal], vm: &VmPath, property: &str) -> Vec<String> {
    let of_vm = heard.iter().filter(|signal| signal.is(vm.as_str(), "PropertiesChanged"));
    of_vm
        .filter_map(Signal::changed)
        .filter(|changed| changed.interface == VM)
        .filter_map(|changed| changed.properties.get(property).map(text))
        .collect()
}

fn text(value: &OwnedVariant) -> String {
    value.to_string().trim_matches('"').to_owned()
}

fn count(heard: &[Signal], wanted: impl Fn(&Signal) -> bool) -> usize {
    heard.iter().filter(|signal| wanted(signal)).count()
}

fn is_ready(signal: &Signal, vm: &VmPath) -> bool {
    told(std::slice::from_ref(signal), vm, "GuestReady") == ["true"]
}

#[tokio::test]
async fn every_transition_is_told_once_and_in_order() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.create("web", []).await;
    let mut signals = Signals::of(&daemon.client).await;
    daemon.vm(&vm).await.start(Options::new()).await.unwrap();
    let mut heard = signals.until(|signal| is_ready(signal, &vm)).await;
    strike(&daemon.read(&vm).await);
    heard.extend(signals.until(|signal| is_ready(signal, &vm)).await);
    let job = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    heard.extend(signals.until(|signal| signal.member == "VmExited").await);

    let states = told(&heard, &vm, "State");
    assert_eq!(states, ["starting", "running", "crashed", "starting", "running", "stopping", "stopped"]);
    let history = daemon.vm(&vm).await.get_history(0).await.unwrap();
    assert_eq!(states, history.iter().rev().map(|line| line.1.clone()).collect::<Vec<_>>());
    assert_eq!(told(&heard, &vm, "GuestReady"), ["true", "false", "true", "false"]);

    // What goes with a transition is in its signal, and nothing is said twice.
    let mut last = BTreeMap::new();
    for changed in heard.iter().filter(|signal| signal.path == vm.as_str()).filter_map(Signal::changed) {
        if changed.properties.contains_key("State") {
            assert!(changed.properties.contains_key("StateChangedAt"), "{changed:?}");
        }
        for (property, value) in &changed.properties {
            let value = value.to_string();
            let place = (changed.interface.clone(), property.clone());
            let before = last.insert(place, value.clone());
            assert_ne!(before, Some(value), "{property} is said twice: {changed:?}");
        }
    }

    // The inside is an interface that comes and goes.
    assert_eq!(count(&heard, |signal| signal.member == "InterfacesAdded" && signal.has(GUEST)), 2);
    assert_eq!(count(&heard, |signal| signal.member == "InterfacesRemoved" && signal.has(GUEST)), 2);

    // Its two ends: killed, and as asked.
    let exits = |member: &str| heard.iter().filter(|signal| signal.member == member).cloned().collect::<Vec<_>>();
    let (on_vm, on_root) = (exits("Exited"), exits("VmExited"));
    assert_eq!((on_vm.len(), on_root.len()), (2, 2), "{on_vm:?} {on_root:?}");
    assert!(on_vm[0].path == vm.as_str() && on_vm[0].has("137") && on_vm[0].has("killed"), "{on_vm:?}");
    assert!(on_root[0].path == nexus_dbus::ROOT && on_root[0].has("\"web\"") && on_root[0].has("137"), "{on_root:?}");
    assert!(on_vm[1].has("(0, \"exited\""), "{on_vm:?}");
}

#[tokio::test]
async fn a_job_is_announced_once_at_each_end() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.create("web", []).await;
    let mut signals = Signals::of(&daemon.client).await;
    let job = daemon.vm(&vm).await.start(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    let again = daemon.vm(&vm).await.start(Options::new()).await.unwrap();
    daemon.done(&again).await.unwrap_err();
    let heard = signals.until(|signal| signal.member == "JobRemoved" && signal.has(again.as_str())).await;
    for (job, state) in [(&job, "\"done\""), (&again, "\"failed\"")] {
        let of_job = |member: &str| {
            heard
                .iter()
                .filter(|signal| signal.member == member && signal.has(job.as_str()))
                .cloned()
                .collect::<Vec<_>>()
        };
        let (new, removed) = (of_job("JobNew"), of_job("JobRemoved"));
        assert_eq!((new.len(), removed.len()), (1, 1), "{heard:#?}");
        assert!(new[0].has("start-vm") && removed[0].has(state), "{new:?} {removed:?}");
        // It is still there to be asked.
        assert!(state.contains(&JobProperties::read(&daemon.client, job).await.unwrap().state));
    }
}

#[tokio::test]
async fn who_was_answered_never_reads_what_was_before() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let proxy = daemon.vm(&vm).await;
    for round in 0..50 {
        proxy.pause().await.unwrap();
        assert_eq!(proxy.state().await.unwrap(), "paused", "round {round}");
        proxy.resume().await.unwrap();
        assert_eq!(proxy.state().await.unwrap(), "running", "round {round}");
        let label = format!("round {round}");
        proxy.set_label(&label).await.unwrap();
        assert_eq!(proxy.label().await.unwrap(), label);
    }
    for round in 0..10 {
        let name = format!("vm-{round}");
        let other = daemon.create(&name, []).await;
        assert_eq!(daemon.read(&other).await.state, "created");
        let manager = daemon.manager().await;
        assert_eq!(manager.vm_count().await.unwrap(), 2);
        assert!(manager.list_vms().await.unwrap().iter().any(|row| row.0 == name));
        let job = daemon.vm(&other).await.start(Options::new()).await.unwrap();
        daemon.done(&job).await.unwrap();
        let row = daemon.read(&other).await;
        assert_eq!((row.state.as_str(), row.leader != 0), ("running", true), "{name}");
        assert_eq!(manager.get_vm_by_pid(row.leader).await.unwrap(), other);
        daemon.vm(&other).await.kill().await.unwrap();
        let row = daemon.read(&other).await;
        assert_eq!((row.state.as_str(), row.leader), ("stopped", 0), "{name}");
        let job = daemon.vm(&other).await.remove(Options::new()).await.unwrap();
        daemon.done(&job).await.unwrap();
        assert!(!objects(&daemon.client).await.unwrap().contains_key(&other), "{name}");
        assert_eq!(manager.vm_count().await.unwrap(), 1);
    }
}

/// All objects, their interfaces and their properties.
type Tree = BTreeMap<String, BTreeMap<String, BTreeMap<String, String>>>;

async fn tree(daemon: &TestDaemon) -> Tree {
    let all = daemon.objects().await;
    all.into_iter().map(|(path, interfaces)| (path.to_string(), as_text(interfaces))).collect()
}

fn as_text(interfaces: Interfaces) -> BTreeMap<String, BTreeMap<String, String>> {
    let properties =
        |all: BTreeMap<String, OwnedVariant>| all.into_iter().map(|(name, value)| (name, value.to_string())).collect();
    interfaces.into_iter().map(|(name, all)| (name, properties(all))).collect()
}

/// What a client that only listens makes of a signal.
fn apply(tree: &mut Tree, signal: &Signal) {
    match signal.member.as_str() {
        "InterfacesAdded" => {
            let (path, interfaces): (OwnedObjectPath, Interfaces) = signal.read();
            tree.entry(path.to_string()).or_default().extend(as_text(interfaces));
        }
        "InterfacesRemoved" => {
            let (path, interfaces): (OwnedObjectPath, Vec<String>) = signal.read();
            let object = tree.get_mut(path.as_str()).unwrap_or_else(|| panic!("{path} was never there"));
            for interface in interfaces {
                assert!(object.remove(&interface).is_some(), "{interface} of {path} was never there");
            }
            if object.is_empty() {
                tree.remove(path.as_str());
            }
        }
        "PropertiesChanged" if signal.path != nexus_dbus::ROOT => {
            let changed = signal.changed().unwrap();
            let object = tree.get_mut(&signal.path).unwrap_or_else(|| panic!("{signal:?} is of nothing that is there"));
            let interface = object.get_mut(&changed.interface);
            let properties = interface.unwrap_or_else(|| panic!("{signal:?} is of no interface that is there"));
            properties.extend(changed.properties.into_iter().map(|(name, value)| (name, value.to_string())));
            for name in changed.invalidated {
                properties.remove(&name);
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn who_only_listens_knows_as_much_as_who_asks() {
    let daemon = TestDaemon::start().await;
    let mut signals = Signals::of(&daemon.client).await;
    let mut known = tree(&daemon).await;
    let lives = (0..4).map(|number| {
        let daemon = &daemon;
        async move {
            let vm = daemon.run(&format!("vm-{number}"), []).await;
            let before = daemon.read(&vm).await;
            strike(&before);
            daemon.wait(&vm, |vm| vm.guest_ready && vm.leader != before.leader).await;
            let proxy = daemon.vm(&vm).await;
            proxy.pause().await.unwrap();
            proxy.resume().await.unwrap();
            proxy.set_tags(&["a", "b"]).await.unwrap();
            let job = proxy.stop(Options::new()).await.unwrap();
            daemon.done(&job).await.unwrap();
            if number % 2 == 0 {
                let job = proxy.remove(Options::new()).await.unwrap();
                daemon.done(&job).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(lives).await;
    // Something that comes after all of it on the same ordered stream.
    let last = daemon.create("last", []).await;
    let heard = signals.until(|signal| signal.member == "InterfacesAdded" && signal.has(last.as_str())).await;
    let mut asked = tree(&daemon).await;
    heard.iter().for_each(|signal| apply(&mut known, signal));
    // Of the newest object, its interfaces may come one by one; and what is only invalidated has to be asked for.
    known.retain(|path, _| !path.contains("/last") && !path.contains("_2flast"));
    asked.retain(|path, _| known.contains_key(path) || !(path.contains("/last") || path.contains("_2flast")));
    for (path, interfaces) in &mut asked {
        for (interface, properties) in interfaces {
            let known = known.get(path).and_then(|known| known.get(interface));
            properties.retain(|name, _| known.is_some_and(|known| known.contains_key(name)) || name != "Children");
        }
    }
    assert_eq!(known, asked);
}
