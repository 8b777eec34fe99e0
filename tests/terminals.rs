//! Terminals in guests, as their clients on the bus have them.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use nexus_dbus::client::Options;
use nexus_model::ErrorKind;
use nexus_tests::{PATIENCE, TestDaemon, sees, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

/// Its viewer has the stream itself, and it goes on without one as well: neither needs the daemon.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_outlives_the_daemon_and_its_viewer() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    let script = "stty -echo; echo ready; while read line; do echo \"<$line>\"; done";
    let named = || Options::from([("name", "main".into())]);
    let (id, fd) = guest.open_shell(&["sh", "-c", script], named()).await.unwrap();
    let mut viewer = stream(fd);
    sees(&mut viewer, "ready").await;
    drop(guest);

    // By SIGKILL.
    let daemon = daemon.replace().await;
    viewer.write_all(b"one\r").await.unwrap();
    sees(&mut viewer, "<one>").await;
    daemon.wait(&vm, |vm| vm.guest_ready).await;
    let guest = daemon.guest(&vm).await;
    assert_eq!(guest.list_shells().await.unwrap(), [(id, "main".to_owned(), 80, 24, 1)]);
    drop(viewer);
    let alone = async { while guest.list_shells().await.unwrap()[0].4 > 0 {} };
    timeout(PATIENCE, alone).await.expect("the viewer is seen to leave");

    let (again, fd) = guest.open_shell(&[], named()).await.unwrap();
    assert_eq!(again, id);
    let mut viewer = stream(fd);
    sees(&mut viewer, "<one>").await;
    viewer.write_all(b"two\r").await.unwrap();
    sees(&mut viewer, "<two>").await;
    viewer.write_all(b"\x04").await.unwrap();
    timeout(PATIENCE, viewer.read_to_end(&mut Vec::new())).await.expect("the terminal ends").unwrap();
    assert_eq!(timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (0, 0));
    assert_eq!(guest.list_shells().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_viewer_too_many_is_told_what_to_look_at() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    let named = || Options::from([("name", "main".into()), ("read-only", true.into())]);
    let mut viewers = vec![guest.open_shell(&["sleep", "1000"], named()).await.unwrap()];
    for _ in 1..16 {
        viewers.push(guest.open_shell(&[], named()).await.unwrap());
    }
    let error = guest.open_shell(&[], named()).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::ResourcesExhausted));
    assert!(error.to_string().contains("leave a terminal first"), "{error}");
    guest.signal_exec(viewers[0].0, 9).await.unwrap();
    for (_, fd) in viewers {
        let mut viewer = stream(fd);
        timeout(PATIENCE, viewer.read_to_end(&mut Vec::new())).await.expect("the terminal ends").unwrap();
    }
}

/// A command that is on no terminal has no size, and a terminal without a name is its viewer's alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_without_a_name_ends_with_its_viewer() {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    let guest = daemon.guest(&vm).await;
    let (id, fd) = guest.open_shell(&["sleep", "1000"], Options::new()).await.unwrap();
    assert!(timeout(Duration::ZERO, guest.wait_exec(id)).await.is_err());
    drop(fd);
    assert_eq!(timeout(PATIENCE, guest.wait_exec(id)).await.unwrap().unwrap(), (128 + 9, 9));
    let (id, ..) = guest.exec(&["sleep", "1000"], Options::from([("detach", true.into())])).await.unwrap();
    assert_eq!(guest.resize_exec(id, 80, 24).await.unwrap_err().kind(), Some(ErrorKind::NotFound));
    guest.signal_exec(id, 9).await.unwrap();
}
