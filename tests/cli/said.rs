//! What nexusctl says, and what there is for it to speak of.

use std::{fs, path::Path};

use nexus_dbus::client::objects;
use nexus_tests::{GuestParts, PATIENCE, TestDaemon, VmPath};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn run(mut command: Command) -> Said {
    let output = timeout(PATIENCE, command.output()).await.expect("nexusctl ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

pub(crate) async fn ctl(daemon: &TestDaemon, arguments: &[&str]) -> Said {
    run(daemon.nexusctl(arguments)).await
}

/// What it writes when all is well.
pub(crate) async fn ok(daemon: &TestDaemon, arguments: &[&str]) -> String {
    let said = ctl(daemon, arguments).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}: {said:?}");
    said.out
}

pub(crate) async fn json(daemon: &TestDaemon, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&ok(daemon, &arguments).await).unwrap()
}

pub(crate) fn has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}

/// A daemon with an image `base`.
pub(crate) async fn with_image() -> TestDaemon {
    let daemon = TestDaemon::start().await;
    let folder = daemon.home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/os-release"), "ID=tiny\nNAME=tiny\nVERSION_ID=7\n").unwrap();
    fs::create_dir(folder.join("sbin")).unwrap();
    std::os::unix::fs::symlink("../lib/not-here", folder.join("sbin/init")).unwrap();
    let said = ok(&daemon, &["image", "import", folder.to_str().unwrap(), "base", "--size", "4M"]).await;
    has(&said, &["Image base is there."]);
    daemon
}

/// A daemon that may import the parts of a real guest; none where there are no parts.
pub(crate) async fn with_guest_parts() -> Option<(TestDaemon, GuestParts)> {
    let parts = GuestParts::find()?;
    Some((TestDaemon::for_guest_parts().await, parts))
}

pub(crate) async fn web() -> (TestDaemon, VmPath) {
    let daemon = TestDaemon::start().await;
    let vm = daemon.run("web", []).await;
    (daemon, vm)
}

pub(crate) fn interrupt(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
}

/// Waits until there is no VM and no disk any more.
pub(crate) async fn nothing_left(daemon: &TestDaemon) {
    let mut signals = nexus_tests::Signals::of(&daemon.client).await;
    let gone = async {
        loop {
            let all = objects(&daemon.client).await.unwrap();
            if all.values().all(|object| object.vm.is_none() && object.workspace.is_none()) {
                return;
            }
            signals.next().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the VM goes");
    let kept = ["images", "assets"].map(|folder| daemon.home.data().join(folder));
    let is_kept = |path: &Path| kept.iter().any(|folder| path.starts_with(folder));
    let left: Vec<_> = daemon.home.things().into_iter().filter(|path| !is_kept(path)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(daemon.home.processes().is_empty());
}
