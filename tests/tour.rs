//! The README's tour, word for word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, process::Stdio, time::Duration};

use nexus_tests::{GuestParts, TestDaemon, program};
use tokio::process::Command;

/// What stands before a block that belongs to the tour.
const MARK: &str = "<!-- tour -->\n```sh\n";

fn tour(readme: &str) -> String {
    let blocks = readme.split(MARK).skip(1).map(|rest| rest.split_once("```").unwrap().0);
    blocks.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_of_the_readme_can_be_taken() {
    if GuestParts::find().is_none() {
        return;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let script = tour(&fs::read_to_string(repository.join("README.md")).unwrap());
    assert!(script.contains("nexusctl run") && script.contains("busctl"), "the README has no tour:\n{script}");

    let daemon = TestDaemon::configured(&format!("paths:\n  allow: [{}]\n", repository.display())).await;
    let programs = program("nexusctl").parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let run = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(repository)
        .env("PATH", path)
        .env("DBUS_SESSION_BUS_ADDRESS", daemon.bus.address())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    // Two guests boot in it, and one of them twice.
    let output = tokio::time::timeout(Duration::from_secs(600), run).await.unwrap().unwrap();
    let told = format!(
        "{}{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        daemon.log()
    );
    assert!(output.status.success(), "{told}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("HELLO"), "{told}");
    assert!(told.contains("crashed"), "{told}");
}
