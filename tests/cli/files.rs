//! Files that a VM is given when it is made.

use std::{fs, os::unix::fs::MetadataExt};

use nexus_dbus::ROOT;
use nexus_tests::TestDaemon;
use tempfile::TempDir;

use crate::said::{ctl, has, ok};

#[tokio::test]
async fn a_vm_has_its_files_before_the_first_command() {
    let daemon = TestDaemon::start().await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "canary-7b0d\n").unwrap();
    let token = token.to_str().unwrap();
    let (secret, plain) = (format!("/etc/app/token={token}:600"), format!("/motd={token}"));
    ok(&daemon, &["vm", "create", "web", "--vmm", "process", "--file", &secret, "--file", &plain]).await;
    // As it was then.
    fs::write(token, "changed").unwrap();
    ok(&daemon, &["vm", "start", "web"]).await;
    let there = |name: &'static str| ["cp", name, folder.path().join("back").to_str().unwrap()].map(str::to_owned);
    let copy = async |name: &'static str| {
        let arguments = there(name);
        ok(&daemon, &arguments.each_ref().map(String::as_str)).await;
        fs::read_to_string(folder.path().join("back")).unwrap()
    };
    assert_eq!(copy("web:/etc/app/token").await, "canary-7b0d\n");
    let mode = fs::metadata(folder.path().join("back")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(copy("web:/motd").await, "canary-7b0d\n");

    // What the guest makes of it stays for as long as it runs, whoever connects anew.
    let own = folder.path().join("own");
    fs::write(&own, "the guest's own").unwrap();
    ok(&daemon, &["cp", own.to_str().unwrap(), "web:/motd"]).await;
    let daemon = daemon.replace().await;
    let back = folder.path().join("back");
    ok(&daemon, &["cp", "web:/motd", back.to_str().unwrap()]).await;
    assert_eq!(fs::read_to_string(&back).unwrap(), "the guest's own");

    // Nobody is told what is in them.
    for arguments in [&["audit"][..], &["events"], &["vm", "inspect", "web"], &["vm", "inspect", "web", "-o", "json"]] {
        let said = ok(&daemon, arguments).await;
        assert!(!said.contains("canary") && !said.contains("Y2FuYXJ5"), "{arguments:?}: {said}");
    }
    let log = daemon.log();
    assert!(!log.contains("canary") && !log.contains("Y2FuYXJ5"), "{log}");
}

#[tokio::test]
async fn a_file_that_no_vm_can_have_is_refused() {
    let daemon = TestDaemon::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, vec![b'x'; 200 << 10]).unwrap();
    let given = |guest: &str| format!("{guest}={}", file.display());
    let create = async |files: &[String]| {
        let mut arguments = vec!["vm", "create", "web", "--vmm", "process"];
        for file in files {
            arguments.extend(["--file", file]);
        }
        ctl(&daemon, &arguments).await
    };
    for (files, code, said) in [
        (vec![given("etc/motd")], 1, "`etc/motd`, which is no path of a file"),
        (vec![given("/a"), given("/a")], 1, "`/a` twice"),
        ((0..6).map(|number| given(&format!("/{number}"))).collect(), 1, "altogether"),
        (vec!["/a=/no/such/file".to_owned()], 2, "cannot read /no/such/file"),
    ] {
        let answer = create(&files).await;
        assert_eq!(answer.code, Some(code), "{answer:?}");
        has(&answer.err, &[said]);
    }
    assert_eq!(ok(&daemon, &["vm", "list", "--quiet"]).await, "");
}

#[tokio::test]
async fn a_guest_that_does_not_take_them_is_not_ready_and_the_log_says_why_once() {
    let daemon = TestDaemon::start().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "content").unwrap();
    let (one, below) = (format!("/one={}", file.display()), format!("/one/below={}", file.display()));
    ok(&daemon, &["vm", "create", "web", "--vmm", "process", "--file", &one, "--file", &below]).await;
    let said = ctl(&daemon, &["vm", "start", "web", "--boot-timeout", "2s"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    has(&said.err, &["It can't be given `/one/below`", "Not a directory"]);
    for shows in [&["vm", "inspect", "web"][..], &["tree"]] {
        has(&ok(&daemon, shows).await, &["it can't be given `/one/below`"]);
    }
    let connection = format!("{ROOT}/vm/web/connection/1");
    daemon.wait_actor(&connection, |actor| actor.health == "degraded" && actor.failure_count > 2).await;
    let log = daemon.log();
    let why = "the guest of VM web can't be used: it can't be given `/one/below`";
    assert_eq!(log.matches(why).count(), 1, "{log}");
    assert!(log.lines().any(|line| line.contains(why) && line.contains("Not a directory")), "{log}");
}
