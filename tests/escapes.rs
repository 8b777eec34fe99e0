//! Nothing that a guest writes steers the terminal of who reads it, or makes a line of its own in the journal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use nexus_dbus::{
    ROOT,
    client::{ConnectionProxy, Options},
};
use nexus_model::steers_display;
use nexus_tests::{Liar, Lie, PATIENCE, TestDaemon};

/// What every text of the guest has in it.
const WORD: &str = "owned";

/// Everything that nexusctl writes, and whether it has a word of the guest's in it.
async fn said(daemon: &TestDaemon, arguments: &[&str]) -> bool {
    let mut command = daemon.nexusctl(arguments);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("nexusctl ends").unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let steers = |character| character != '\n' && steers_display(character);
    assert!(!text.contains(steers), "{arguments:?} writes {text:?}");
    // A line that a guest has made begins with its words.
    assert!(!text.lines().any(|line| line.starts_with(WORD)), "{arguments:?} writes {text:?}");
    text.contains(WORD)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_guest_writes_steers_a_terminal() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let _liar = Liar::in_place_of(Path::new(&daemon.read(&vm).await.vsock_path), Lie::Texts);
    let connection = ConnectionProxy::builder(&daemon.client).path(format!("{ROOT}/vm/web/connection/1"));
    connection.build().await.unwrap().close().await.unwrap();
    let guest = daemon.guest(&vm).await;
    let lied_to = async {
        while !guest.hostname().await.is_ok_and(|name| name.contains(WORD)) {
            daemon.wait(&vm, |vm| vm.guest_ready).await;
        }
    };
    tokio::time::timeout(PATIENCE, lied_to).await.unwrap();

    let metadata = guest.get_image_metadata().await.unwrap();
    assert!(format!("{metadata:?}").contains(WORD), "{metadata:?}");
    for (key, value) in metadata {
        assert!(!key.contains(steers_display) && !String::try_from(value).unwrap().contains(steers_display));
    }
    for (id, argv) in guest.list_execs().await.unwrap() {
        assert!(id == 1 && argv.iter().all(|word| word.contains(WORD) && !word.contains(steers_display)), "{argv:?}");
    }

    for shows in [&["vm", "inspect", "web"][..], &["vm", "execs", "web"], &["exec", "web", "true"], &["mcp", "web"]] {
        assert!(said(&daemon, shows).await, "{shows:?} does not show what the guest wrote");
    }
    for listing in [
        &["vm", "inspect", "web", "-o", "json"][..],
        &["vm", "execs", "web", "-o", "json"],
        &["attach", "--list", "web"],
        &["attach", "--list", "web", "-o", "json"],
        &["vm", "list"],
        &["vm", "list", "-o", "json"],
        &["vm", "history", "web"],
        &["vm", "logs", "web"],
        &["status"],
        &["tree"],
        &["tree", "-o", "json"],
        &["job", "list"],
        &["attach", "web"],
    ] {
        said(&daemon, listing).await;
    }

    let _ = guest.run(&["true"], Options::new()).await.unwrap_err();
    let log = daemon.log();
    assert!(!log.contains(|character| character != '\n' && steers_display(character)), "{log:?}");
}
