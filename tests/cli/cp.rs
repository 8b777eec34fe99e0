//! Files between the host and a guest.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use nexus_tests::{GuestParts, PATIENCE, Terminal, TestDaemon};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::said::{ctl, has, nothing_left, ok, web};

/// What is at each path: kind and permissions, name count, content or target.
fn look(top: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
    let (mut seen, mut waiting) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        let names = if metadata.is_dir() { 1 } else { metadata.nlink() };
        seen.insert(path.strip_prefix(top).unwrap().to_owned(), (metadata.mode(), names, content));
    }
    seen
}

fn left_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A tree with some of everything.
fn plant(top: &Path) {
    fs::create_dir_all(top.join("folder/below")).unwrap();
    fs::write(top.join("folder/script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(top.join("folder/script"), Permissions::from_mode(0o751)).unwrap();
    fs::hard_link(top.join("folder/script"), top.join("folder/below/again")).unwrap();
    symlink("../script", top.join("folder/below/link")).unwrap();
    symlink("/nowhere", top.join("dangling")).unwrap();
    fs::write(top.join("ümläut and \n line"), [0, 255, 10]).unwrap();
    let mut sparse = File::create(top.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(64 << 20)).unwrap();
    sparse.write_all(b"end").unwrap();
    fs::set_permissions(top.join("folder/below"), Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_back() {
    let (daemon, _) = web().await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    plant(&folder.path().join("tree"));
    assert_eq!(ok(&daemon, &["cp", &path("tree"), "web:/copied"]).await, "");
    ok(&daemon, &["cp", "web:/copied", &path("back")]).await;
    assert_eq!(look(&folder.path().join("tree")), look(&folder.path().join("back")));
    let taken = fs::metadata(folder.path().join("back/sparse")).unwrap().blocks() * 512;
    assert!(taken < 1 << 20, "{taken} bytes are taken");

    // Into a folder that is there, and not over one.
    ok(&daemon, &["cp", &path("tree"), "web:/copied"]).await;
    ok(&daemon, &["cp", "web:/copied/tree/folder/script", &path("back")]).await;
    assert_eq!(fs::read_to_string(path("back/script")).unwrap(), "#!/bin/sh\n");
    let said = ctl(&daemon, &["cp", &path("tree"), "web:/copied"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    has(&said.err, &["cannot copy", "/copied/tree` is there already"]);
    fs::write(path("tree/new"), "new").unwrap();
    ok(&daemon, &["cp", "--replace", &path("tree"), "web:/copied"]).await;
    ok(&daemon, &["cp", "web:/copied/tree/new", &path("new")]).await;
    let said = ctl(&daemon, &["cp", &format!("{}/.", path("tree")), "web:/copied"]).await;
    has(&said.err, &["`/copied` is there already"]);
    let said = ctl(&daemon, &["cp", "web:/copied/.", &path("back")]).await;
    has(&said.err, &["is there already"]);
    ok(&daemon, &["cp", "web:/copied/tree/.", &path("content")]).await;
    assert_eq!(look(&folder.path().join("tree")), look(&folder.path().join("content")));
    assert_eq!(left_in(folder.path()), ["back", "content", "new", "tree"]);
}

#[tokio::test]
async fn what_can_not_be_copied_says_why() {
    let (daemon, _) = web().await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file").to_str().unwrap().to_owned();
    fs::write(&file, "content").unwrap();
    let below = format!("{file}/below");
    let missing = format!("{}/missing/", folder.path().display());
    for (arguments, code, said) in [
        (["cp", "web:/none", &below], 1, "Not a directory"),
        (["cp", "web:/none", &missing], 1, "No such file"),
        (["cp", "/no/such/file", "web:/a"], 1, "No such file"),
        (["cp", &file, "web:/no/such/folder"], 1, "the folder that it would be in is not there"),
        (["cp", "/dev/null", "web:/a"], 1, "it is a device or a socket"),
        (["cp", "web:/none", "/dev/null"], 1, "it is a device, a pipe or a socket"),
        (["cp", &file, "web:/none/"], 1, "no such folder"),
        (["cp", &file, "nobody:/a"], 1, "There is no VM `nobody`"),
        (["cp", &file, "other"], 2, "neither is in a VM"),
        (["cp", "web:/a", "web:/b"], 2, "both are in a VM"),
        (["cp", "-", "web:/b"], 2, "standard input"),
    ] {
        let answer = ctl(&daemon, &arguments).await;
        assert_eq!(answer.code, Some(code), "{arguments:?}: {answer:?}");
        has(&answer.err, &["Error: ", said]);
    }
    let said = ctl(&daemon, &["cp", "web:/none", folder.path().to_str().unwrap()]).await;
    has(&said.err, &["/none", "No such file"]);
    assert_eq!(left_in(folder.path()), ["file"]);
    assert_eq!(ok(&daemon, &["exec", "web", "--", "true"]).await, "");
}

#[tokio::test]
async fn an_archive_goes_to_standard_output() {
    let (daemon, _) = web().await;
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "content").unwrap();
    ok(&daemon, &["cp", folder.path().join("file").to_str().unwrap(), "web:/file"]).await;
    let output = daemon.nexusctl(&["cp", "web:/file", "-"]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::write(folder.path().join("tar"), &output.stdout).unwrap();
    let listed = std::process::Command::new("tar").arg("-xOf").arg(folder.path().join("tar")).output().unwrap();
    assert_eq!((listed.status.success(), listed.stdout), (true, b"content".to_vec()));
    let output = daemon.nexusctl(&["cp", "web:/none", "-"]).output().await.unwrap();
    assert_eq!((output.status.success(), output.stdout.len()), (false, 0));
}

#[tokio::test]
async fn no_archive_goes_to_a_terminal() {
    let (daemon, _) = web().await;
    let mut person = Terminal::run(daemon.nexusctl(&["cp", "web:/etc", "-"]));
    let (code, said) = person.exits().await;
    assert_eq!(code, Some(2));
    has(&said, &["nothing for a terminal"]);
}

#[tokio::test]
async fn tens_of_thousands_of_files_go_in_one_stream() {
    const FILES: usize = 12_000;
    let (daemon, _) = web().await;
    let folder = TempDir::new().unwrap();
    let top = folder.path().join("many");
    for part in 0..FILES / 1000 {
        let below = top.join(part.to_string());
        fs::create_dir_all(&below).unwrap();
        for number in 0..1000 {
            fs::write(below.join(number.to_string()), format!("{part} {number}")).unwrap();
        }
    }
    ok(&daemon, &["cp", top.to_str().unwrap(), "web:/many"]).await;
    let back = folder.path().join("back");
    ok(&daemon, &["cp", "web:/many", back.to_str().unwrap()]).await;
    assert_eq!(look(&top), look(&back));
}

/// Whoever ends it, and however: what was there before is there, and nothing else.
#[tokio::test]
async fn a_copy_that_is_ended_amid_leaves_nothing() {
    let (daemon, vm) = web().await;
    let socket = PathBuf::from(daemon.wait(&vm, |vm| vm.guest_ready).await.vsock_path);
    // The files of a mere process lie below its own folder.
    let guest = socket.parent().unwrap().join("guest");
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("guest/old")).unwrap();
    fs::write(path("guest/file"), "old").unwrap();
    ok(&daemon, &["cp", &path("guest"), "web:/guest"]).await;
    fs::create_dir_all(path("host/old")).unwrap();
    fs::write(path("host/file"), "old").unwrap();
    // A file that is far from copied when a tenth of it has come: it is no file of zeros, and of no end.
    let large = File::create(path("large")).unwrap();
    let noise = vec![0x5a; 1 << 20];
    for _ in 0..512 {
        (&large).write_all(&noise).unwrap();
    }

    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let large = path("large");
        let mut child = daemon.nexusctl(&["cp", &large, "web:/guest/file"]).spawn().unwrap();
        wait_for(|| left_in(&guest).iter().any(|name| name.starts_with(".nexus-"))).await;
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
        assert!(!status.success());
        wait_for(|| left_in(&guest) == ["file", "old"]).await;
        assert_eq!(fs::read_to_string(guest.join("file")).unwrap(), "old", "{signal}");
    }

    ok(&daemon, &["cp", &path("large"), "web:/large"]).await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut child = daemon.nexusctl(&["cp", "web:/large", &path("host/file")]).spawn().unwrap();
        let host = folder.path().join("host");
        wait_for(|| left_in(&host).iter().any(|name| name.starts_with(".nexus-"))).await;
        kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), signal).unwrap();
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(status.code(), Some(128 + signal as i32));
        assert_eq!(left_in(&host), ["file", "old"]);
        assert_eq!(fs::read_to_string(host.join("file")).unwrap(), "old", "{signal}");
    }
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("it happens in time");
}

#[tokio::test]
async fn a_tree_goes_into_a_real_vm_and_comes_back() {
    const FILES: usize = 300;
    let Some(parts) = GuestParts::find() else { return };
    let daemon = TestDaemon::with_real_vm(&parts, &[]).await;
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    plant(&folder.path().join("tree"));
    fs::create_dir(path("tree/many")).unwrap();
    for number in 0..FILES {
        fs::write(folder.path().join("tree/many").join(number.to_string()), number.to_string()).unwrap();
    }
    fs::write(path("tree/large"), vec![0x5a; 1 << 20]).unwrap();
    ok(&daemon, &["cp", &path("tree"), "web:/root/tree"]).await;
    let script = "stat -c '%a %u:%g' /root/tree/folder/script; find /root/tree/many -type f | wc -l; ls -A /root";
    let said = ok(&daemon, &["exec", "web", "--", "sh", "-c", script]).await;
    assert_eq!(said, format!("751 0:0\n{FILES}\ntree\n"));
    ok(&daemon, &["cp", "web:/root/tree", &path("back")]).await;
    assert_eq!(look(&folder.path().join("tree")), look(&folder.path().join("back")));

    // One that is ended amid leaves what was there.
    let mut child = daemon.nexusctl(&["cp", "--replace", &path("tree"), "web:/root"]).spawn().unwrap();
    let begun = ["exec", "web", "--", "sh", "-c", "until ls -A /root | grep -q nexus; do sleep 0.1; done"];
    ok(&daemon, &begun).await;
    kill(Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()), Signal::SIGKILL).unwrap();
    timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    let gone = "while ls -A /root | grep -q nexus; do sleep 0.1; done; find /root/tree/many -type f | wc -l";
    assert_eq!(ok(&daemon, &["exec", "web", "--", "sh", "-c", gone]).await, format!("{FILES}\n"));

    ok(&daemon, &["vm", "delete", "web", "--force", "--workspaces", "--yes"]).await;
    nothing_left(&daemon).await;
}
