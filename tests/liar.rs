//! Guests that lie, in every way and all at the same time, in a real nexusd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, Options},
};
use nexus_model::ErrorKind;
use nexus_tests::{BreakableDaemon, Liar, Lie, PATIENCE, TestDaemon, VmPath};
use zbus::proxy::CacheProperties;

/// What nexusd may hold more than before: caches, and a log that is written later.
const SPARE_BYTES: i64 = 2 << 20;
/// What one connection may cost while somebody lies on it: a frame, and what is made of it.
const LIE_BYTES: i64 = 4 << 20;
/// How many times longer a call to an honest guest may take: liars and listeners share its processors.
const MUCH_LONGER: u32 = 10;
/// What takes less than that takes as long as the machine has something else to do.
const SHORT: Duration = Duration::from_millis(30);

/// What is said of a lie that an agent can't tell by mistake: to who asks for something, and in the journal.
fn told(lie: Lie) -> Option<&'static str> {
    match lie {
        Lie::EndlessProxy => Some("instead of `OK <port>`"),
        Lie::GiantWelcome | Lie::GiantFrame => Some("is over the limit of 1048576"),
        Lie::EndlessHandshake => Some("answered something else than was asked"),
        Lie::Future => Some("speaks revision 2 of the protocol"),
        Lie::Escapes => Some("unknown variant"),
        Lie::DeepFrame => Some("the frame can't be understood"),
        Lie::WrongId => Some("which nobody had made"),
        Lie::FloodOfEvents => Some("flooded the host with events"),
        Lie::FloodOfAnswers => Some("answered request 0, which nobody had made"),
        // These end as connections do, or are seen when something is wanted of them.
        Lie::SilentProxy
        | Lie::Closes { .. }
        | Lie::Drip
        | Lie::HalfFrame
        | Lie::WrongAnswer
        | Lie::Deaf
        | Lie::Texts
        | Lie::Sizes
        | Lie::Streams
        | Lie::Starts
        | Lie::Connections
        | Lie::Spares => None,
    }
}

/// A VM whose guest lies.
struct Victim {
    name: String,
    vm: VmPath,
    lie: Lie,
}

async fn hang_up(daemon: &TestDaemon, name: &str) {
    let builder = ConnectionProxy::builder(&daemon.client).path(format!("{ROOT}/vm/{name}/connection/1"));
    builder.cache_properties(CacheProperties::No).build().await.unwrap().close().await.unwrap();
}

/// How long nine of ten calls to an honest guest take at most.
async fn speed(daemon: &TestDaemon, honest: &VmPath) -> Duration {
    let guest = daemon.guest(honest).await;
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        let run = guest.run(&["true"], Options::new());
        assert_eq!(tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap().0, 0);
        times.push(begun.elapsed());
    }
    times.sort();
    times[90]
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_lie_harm_nobody_else() {
    let daemon = BreakableDaemon::start().await;
    let honest = daemon.run("honest", []).await;
    let mut victims = Vec::new();
    for (number, lie) in Lie::ALL.into_iter().enumerate() {
        let name = format!("liar{number}");
        let vm = daemon.run(&name, []).await;
        victims.push(Victim { name, vm, lie });
    }
    let quiet = speed(&daemon, &honest).await;
    let before = daemon.heap_bytes().await;

    let mut liars = Vec::new();
    for Victim { name, vm, lie } in &victims {
        let socket = daemon.read(vm).await.vsock_path;
        liars.push(Liar::in_place_of(Path::new(&socket), *lie));
        hang_up(&daemon, name).await;
    }
    let mut most = 0;
    for _ in 0..3 {
        let loud = speed(&daemon, &honest).await;
        assert!(loud < quiet.max(SHORT) * MUCH_LONGER, "{loud:?} instead of {quiet:?}");
        most = most.max(daemon.heap_bytes().await);
    }
    assert!(most < before + LIE_BYTES * i64::try_from(victims.len()).unwrap(), "{before} bytes became {most}");

    for Victim { name, vm, lie } in &victims {
        let Some(words) = told(*lie) else { continue };
        if *lie == Lie::WrongId {
            daemon.wait(vm, |vm| vm.guest_ready).await;
            // Its connection may have ended already with the question whether it is there.
            let asking = async {
                loop {
                    daemon.wait(vm, |vm| vm.guest_ready).await;
                    let said = daemon.guest(vm).await.run(&["true"], Options::new()).await.unwrap_err();
                    if said.kind() == Some(ErrorKind::GuestFailed) {
                        return said;
                    }
                }
            };
            let said = tokio::time::timeout(PATIENCE, asking).await.expect("it answers wrongly");
            assert!(said.to_string().contains(words), "{said}");
        }
        let line = complaint(&daemon, name, words).await;
        assert!(line.len() < 5000, "{lie:?}: {} bytes", line.len());
        let actor = daemon.actor(&format!("{ROOT}/vm/{name}/connection/1")).await;
        assert!(actor.failure_count > 0 && actor.fault_count == 0, "{lie:?}: {actor:?}");
    }
    let log = daemon.log();
    assert!(!log.contains(|character| character != '\n' && nexus_model::steers_display(character)));
    sizes(&daemon, &victims).await;

    drop(liars);
    for Victim { vm, .. } in &victims {
        daemon.wait(vm, |vm| vm.guest_ready).await;
        assert_eq!(daemon.shell(vm, "echo honest").await, (0, "honest\n".to_owned()));
    }
    let over = async {
        while daemon.heap_bytes().await > before + SPARE_BYTES {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let over = tokio::time::timeout(PATIENCE, over).await;
    assert!(over.is_ok(), "{before} bytes became {}", daemon.heap_bytes().await);
}

/// Waits for the line of the log that says so of a VM.
async fn complaint(daemon: &TestDaemon, name: &str, words: &str) -> String {
    let beginning = format!("the guest agent of VM {name} does not keep to the protocol");
    let written = async {
        loop {
            let log = daemon.log();
            let line = log.lines().find(|line| line.contains(&beginning) && line.contains(words));
            if let Some(line) = line {
                return line.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let written = tokio::time::timeout(PATIENCE, written).await;
    written.unwrap_or_else(|_| panic!("`{words}` is not said of {name}"))
}

/// What is said of commands is within what there can be.
async fn sizes(daemon: &TestDaemon, victims: &[Victim]) {
    let of = |lie| victims.iter().find(|victim| victim.lie == lie).map(|victim| &victim.vm).unwrap();
    let vm = of(Lie::Sizes);
    daemon.wait(vm, |vm| vm.guest_ready).await;
    let guest = daemon.guest(vm).await;
    // Nobody knows how that ended.
    let (code, out, err, truncated) = guest.run(&["true"], Options::new()).await.unwrap();
    assert_eq!((code, truncated, out.len() + err.len()), (-1, true, 256 << 10));
    assert_eq!(guest.list_execs().await.unwrap().len(), 1024);
    for error in
        [guest.open_shell(&[], Options::new()).await.unwrap_err(), guest.open_tools(Options::new()).await.unwrap_err()]
    {
        assert_eq!(error.kind(), Some(ErrorKind::GuestFailed), "{error}");
    }
    let many = daemon.wait(of(Lie::Connections), |vm| vm.connections.len() > 256).await;
    assert!(many.connections.len() <= 5 + 512, "{}", many.connections.len());
    let babbles = daemon.read(of(Lie::Spares)).await.name;
    for number in 2..=5 {
        let path = format!("{ROOT}/vm/{babbles}/connection/{number}");
        let spare = daemon.wait_actor(&path, |actor| actor.health == "degraded").await;
        // It is dialled slowly.
        assert!((5..50).contains(&spare.failure_count) && spare.fault_count == 0, "{spare:?}");
    }
    for (lie, words) in [(Lie::Streams, "over the limit of 4096"), (Lie::WrongAnswer, "something else than was asked")]
    {
        let vm = of(lie);
        daemon.wait(vm, |vm| vm.guest_ready).await;
        let error = daemon.guest(vm).await.exec(&["true"], Options::new()).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
