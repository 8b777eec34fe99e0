//! Connections that are there before anybody wants them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, future::Future, os::fd::AsRawFd, time::Duration};

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, Options},
};
use nexus_model::ErrorKind;
use nexus_protocol::Features;
use nexus_tests::{Manners, PATIENCE, StandIn, TestDaemon};

/// Number, kind and port of each.
const SPARES: [(u32, &str, u32); 4] = [(2, "tools", 200), (3, "terminal", 300), (4, "bulk", 102), (5, "stdio", 101)];

async fn connection(daemon: &TestDaemon, number: u32) -> ConnectionProxy<'static> {
    let builder = ConnectionProxy::builder(&daemon.client).path(format!("{ROOT}/vm/web/connection/{number}"));
    builder.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap()
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

async fn until_state(daemon: &TestDaemon, number: u32, state: &str) {
    let connection = connection(daemon, number).await;
    until(&format!("connection {number} is {state}"), || async { connection.state().await.unwrap() == state }).await;
}

/// The sockets of a process, by the numbers that they have in the kernel.
fn sockets(pid: i32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("socket:")).collect()
}

fn socket(stream: &impl AsRawFd) -> String {
    fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap().display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_open_before_anybody_wants_it_and_replaced() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.create("web", []).await;
    for (number, kind, _) in SPARES {
        let connection = connection(&daemon, number).await;
        assert_eq!(connection.kind().await.unwrap(), kind);
        assert_eq!(connection.state().await.unwrap(), "parked");
        assert_eq!(connection.close().await.unwrap_err().kind(), Some(ErrorKind::InvalidState));
    }
    daemon.start_vm(&vm).await;
    for (number, _, port) in SPARES {
        until_state(&daemon, number, "open").await;
        let connection = connection(&daemon, number).await;
        assert_eq!((connection.port().await.unwrap(), connection.owner().await.unwrap().as_str()), (port, "nexusd"));
        assert!(connection.opened_at().await.unwrap() > 0);
    }
    let opened_at = connection(&daemon, 5).await.opened_at().await.unwrap();
    let guest = daemon.guest(&vm).await;
    let nexusd = daemon.pid().as_raw();

    // What a client is given is what nexusd had before; and again, once that is replaced.
    for _ in 0..2 {
        until("a session of MCP is given what was there", || async {
            let before = sockets(nexusd);
            let tools = guest.open_tools(Options::new()).await.unwrap();
            before.contains(&socket(&tools))
        })
        .await;
        until("a command is given three that were there", || async {
            let before = sockets(nexusd);
            let (_, stdin, stdout, stderr) = guest.exec(&["true"], Options::new()).await.unwrap();
            [stdin, stdout, stderr].iter().all(|stream| before.contains(&socket(stream)))
        })
        .await;
        until("a copy is given what was there", || async {
            let before = sockets(nexusd);
            let copy = guest.copy_out("/", Options::new()).await.unwrap();
            before.contains(&socket(&copy))
        })
        .await;
    }
    assert_eq!(connection(&daemon, 5).await.opened_at().await.unwrap(), opened_at, "it is the same all the time");

    // That of a terminal is where the next one will be.
    let mut terminals = Vec::new();
    for port in [300, 301, 302] {
        let spare = connection(&daemon, 3).await;
        until("the next terminal's port", || async { spare.port().await.unwrap() == port }).await;
        let before = sockets(nexusd);
        let (_, terminal) = guest.open_shell(&["cat"], Options::new()).await.unwrap();
        assert!(before.contains(&socket(&terminal)), "port {port}");
        terminals.push(terminal);
    }

    let stop = daemon.vm(&vm).await.stop(Options::new()).await.unwrap();
    daemon.done(&stop).await.unwrap();
    for (number, ..) in SPARES {
        until_state(&daemon, number, "parked").await;
        assert_eq!(connection(&daemon, number).await.opened_at().await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_closed_is_opened_again() {
    let daemon = TestDaemon::start().await;
    daemon.run("web", []).await;
    for (number, ..) in SPARES {
        until_state(&daemon, number, "open").await;
        let connection = connection(&daemon, number).await;
        let opened_at = connection.opened_at().await.unwrap();
        connection.close().await.unwrap();
        until("it is another", || async { connection.opened_at().await.unwrap() > opened_at }).await;
        let statistics = connection.get_statistics().await.unwrap();
        assert_eq!((statistics["reconnects"], statistics["bytes-in"], statistics["bytes-out"]), (1, 0, 0));
    }
    // With the one to the agent they are all opened again.
    connection(&daemon, 1).await.close().await.unwrap();
    for (number, ..) in SPARES {
        let connection = connection(&daemon, number).await;
        until("it is another", || async { connection.get_statistics().await.unwrap()["reconnects"] == 2 }).await;
        until_state(&daemon, number, "open").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_kept_open_is_degraded_and_nothing_else() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let socket = daemon.read(&vm).await.vsock_path;
    let manners = Manners { features: &[Features::SPARES, Features::TOOLS], shut: true, ..Manners::default() };
    let _agent = StandIn::take_place(socket.as_ref(), manners);
    connection(&daemon, 1).await.close().await.unwrap();
    for number in [2, 5] {
        let actor =
            daemon.wait_actor(&format!("{ROOT}/vm/web/connection/{number}"), |actor| actor.health == "degraded").await;
        assert!(actor.failure_count >= 5 && actor.fault_count == 0, "{actor:?}");
        let connection = connection(&daemon, number).await;
        until("why is said", || async {
            connection.failure_reason().await.unwrap().contains("closed on the guest's side")
        })
        .await;
    }
    daemon.logged("nothing can be kept open to port 200 in the guest of VM web", 1).await;
    // It says of nothing else that it takes it ahead.
    for (number, lacking) in [(3, "can't open terminals"), (4, "can't copy files")] {
        let connection = connection(&daemon, number).await;
        assert_eq!(connection.state().await.unwrap(), "parked");
        let why = connection.failure_reason().await.unwrap();
        assert!(why.contains(lacking), "{why}");
    }
    assert_eq!(daemon.shell(&vm, "true").await.1, "stand-in\n");
    assert_eq!(daemon.actor(&format!("{ROOT}/vm/web")).await.health, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_loses_none() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    for (number, ..) in SPARES {
        until_state(&daemon, number, "open").await;
    }
    let (guest, real) = (daemon.guest(&vm).await, daemon.vm(&vm).await);
    let nexusd = daemon.pid().as_raw();
    for _ in 0..5 {
        // The next one may be under way when everything stands still.
        let tools = guest.open_tools(Options::new()).await.unwrap();
        real.pause().await.unwrap();
        real.resume().await.unwrap();
        until("another is given that was there", || async {
            let before = sockets(nexusd);
            before.contains(&socket(&guest.open_tools(Options::new()).await.unwrap()))
        })
        .await;
        drop(tools);
    }
    for (number, ..) in SPARES {
        until_state(&daemon, number, "open").await;
        let actor = daemon.actor(&format!("{ROOT}/vm/web/connection/{number}")).await;
        assert_eq!((actor.health.as_str(), actor.fault_count, actor.failure_count), ("ok", 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_terminal_can_be_opened_none_is_kept_for_it() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    let mut terminals = Vec::new();
    for _ in 0..100 {
        terminals.push(guest.open_shell(&["cat"], Options::new()).await.unwrap().1);
    }
    until_state(&daemon, 3, "connecting").await;
    let spare = connection(&daemon, 3).await;
    assert!(spare.failure_reason().await.unwrap().contains("no port that is left for another terminal"));
    assert_eq!(spare.close().await.unwrap_err().kind(), Some(ErrorKind::InvalidState));
    assert_eq!(daemon.actor(&format!("{ROOT}/vm/web/connection/3")).await.health, "ok");
    // Whoever opens the next terminal hears of a port, once there is one again beside that one's own.
    terminals.truncate(90);
    until("one is kept again", || async {
        let opened = guest.open_shell(&["cat"], Options::new()).await;
        assert!(
            opened.as_ref().err().is_none_or(|error| error.kind() == Some(ErrorKind::ResourcesExhausted)),
            "{opened:?}"
        );
        spare.state().await.unwrap() == "open"
    })
    .await;
}
