//! What nothing owns is found, and goes or stays as it should.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nexus_actors::{Fate, ImportImage, Orphan, Prune, RemoveOptions, snapshot::ResultValue};
use nexus_host::{process::identify, storage::DISK};
use nexus_model::{ErrorKind, Id, InstanceId, JobState, Name, ResourceKind, vm::VmSpec};
use nexus_tests::{Home, PATIENCE, TestBus, TestDaemon, TestEngine};
use serde_json::Value;

const GRACE: Duration = Duration::from_secs(1);

/// Makes a folder with these files in it.
fn folder(path: PathBuf, files: &[&str]) -> PathBuf {
    fs::create_dir_all(&path).unwrap();
    for file in files {
        fs::write(path.join(file), "x").unwrap();
    }
    path
}

fn by_id(parent: &Path, files: &[&str]) -> PathBuf {
    folder(parent.join(Id::random().unwrap().to_string()), files)
}

async fn orphans(test: &TestEngine) -> Vec<Orphan> {
    tokio::time::timeout(PATIENCE, test.engine.orphans()).await.unwrap().unwrap()
}

/// Waits until what is there under Nexus' names without an owner is only this.
async fn only_left(test: &TestEngine, kinds: &[ResourceKind]) -> Vec<Orphan> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = orphans(test).await;
        if left.iter().map(|orphan| orphan.kind).eq(kinds.iter().copied()) {
            return left;
        }
        assert!(tokio::time::Instant::now() < end, "{left:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until everything that was there has had its grace: what came last has gone.
async fn graced(test: &TestEngine) {
    let last = by_id(&test.folder.path().join("logs"), &["console.log"]);
    let gone = async {
        while last.exists() {
            orphans(test).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes");
}

async fn prune(test: &TestEngine, kinds: &[ResourceKind], dry_run: bool) -> Vec<(ResourceKind, String)> {
    let request = Prune { kinds: kinds.to_vec(), dry_run };
    let job = test.engine.prune(&TestEngine::origin(), request).await.unwrap();
    let job = test.job(job).await;
    assert_eq!(job.state, JobState::Done, "{:?}", job.error);
    assert_eq!(job.result.get("dry-run"), Some(&ResultValue::Flag(dry_run)));
    let Some(ResultValue::Orphans(removed)) = job.result.get("removed") else { panic!("{:?}", job.result) };
    let bytes = removed.iter().map(|orphan| orphan.bytes).sum();
    assert_eq!(job.result.get("bytes"), Some(&ResultValue::Number(bytes)));
    removed.iter().map(|orphan| (orphan.kind, orphan.name.clone())).collect()
}

fn told(path: &Path) -> String {
    path.display().to_string()
}

/// A small image, in a folder that may be imported from.
async fn import(test: &TestEngine, name: &str) -> JobState {
    let root = folder(test.folder.path().canonicalize().unwrap().join("root"), &["file"]);
    let request = ImportImage { path: root, name: name.parse().unwrap(), size_bytes: None };
    let job = test.engine.import_image(&TestEngine::origin(), request).await.unwrap();
    test.job(job).await.state
}

/// Regression: a VM that runs and whose row is gone, as after a store that was restored from an older copy, was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_vm_without_a_row_runs_until_somebody_says_so_and_its_disk_stays() {
    let test = TestEngine::start_with(|settings| settings.orphan_grace = GRACE).await;
    assert_eq!(import(&test, "small").await, JobState::Done);
    let spec = |spec: &mut VmSpec| spec.image = Some("small".parse().unwrap());
    let name = test.create("web", spec).await.unwrap();
    let kept = test.create("db", |_| ()).await.unwrap();
    let vm = test.start_vm(&name).await;
    let owned = test.start_vm(&kept).await;
    let leader = identify(vm.leader).unwrap();
    assert!(leader.is_some());
    assert_eq!(orphans(&test).await, []);

    let test = test
        .restart_after(|store| {
            let row = store.vms().unwrap().into_iter().find(|row| row.name == name).unwrap();
            store.delete_vm(row.id, row.generation, row.created_at).unwrap();
            for disk in store.workspaces().unwrap() {
                store.delete_workspace(disk.id).unwrap();
            }
        })
        .await;
    let disk = test.folder.path().join("workspaces/@web");
    let by = ResourceKind::Process;
    let kinds = [by, ResourceKind::Runtime, ResourceKind::Console, ResourceKind::Workspace];
    let left = only_left(&test, &kinds).await;
    for (orphan, kind) in left.iter().zip(kinds) {
        let data = kind == ResourceKind::Workspace;
        assert_eq!(orphan.fate, if data { Fate::HoldsData { kind } } else { Fate::Runs { kind, by } });
    }
    assert_eq!(left[3].name, told(&disk));
    // Neither by itself, nor for whoever names only what belongs to it.
    graced(&test).await;
    assert_eq!(orphans(&test).await, left);
    assert_eq!(prune(&test, &[], false).await, []);
    assert_eq!(prune(&test, &[ResourceKind::Runtime, ResourceKind::Console], false).await, []);
    assert_eq!(orphans(&test).await, left);
    assert_eq!(identify(vm.leader).unwrap(), leader);

    let named = |orphan: &Orphan| (orphan.kind, orphan.name.clone());
    assert_eq!(prune(&test, &[by, ResourceKind::Runtime], true).await, [named(&left[0]), named(&left[1])]);
    assert_eq!(identify(vm.leader).unwrap(), leader);
    assert_eq!(prune(&test, &[by], false).await, [named(&left[0])]);
    assert_ne!(identify(vm.leader).unwrap(), leader);
    // What belonged to it goes without anybody asking, after its grace.
    let folders = ["run/vm", "logs"].map(|parent| test.folder.path().join(parent).join(vm.id.to_string()));
    let gone = async {
        while folders.iter().any(|folder| folder.exists()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("they go");
    assert!(disk.join(DISK).is_file());
    only_left(&test, &[ResourceKind::Workspace]).await;
    // The other VM is as it was.
    assert_eq!(test.wait(&kept, |vm| vm.guest.is_some()).await.leader, owned.leader);

    assert_eq!(prune(&test, &[], false).await, []);
    let web = (ResourceKind::Workspace, told(&disk));
    assert_eq!(prune(&test, &[ResourceKind::Workspace], true).await, std::slice::from_ref(&web));
    assert!(disk.exists());
    assert_eq!(prune(&test, &[ResourceKind::Workspace], false).await, [web]);
    assert!(!disk.exists());
    assert_eq!(orphans(&test).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_go_after_the_grace_and_what_is_not_nexus_s_never() {
    let test = TestEngine::start_with(|settings| settings.orphan_grace = GRACE).await;
    let root = test.folder.path().to_owned();
    let ours = [
        by_id(&root.join("run/vm"), &["token", "process.json.tmp"]),
        by_id(&root.join("logs"), &["console.log"]),
        by_id(&root.join("data/assets"), &["vmlinuz"]),
        folder(root.join("data/images/.tmp-00000000000000aa"), &[DISK]),
    ];
    let theirs = [
        folder(root.join("data/images/notes"), &["readme"]),
        by_id(&root.join("run/vm"), &["notes.txt"]),
        folder(root.join("workspaces/@web"), &[DISK]),
    ];
    // Whoever asks makes the reaper look, and it goes on by itself.
    orphans(&test).await;
    let left = only_left(&test, &[ResourceKind::Runtime, ResourceKind::Workspace, ResourceKind::Image]).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while ours.iter().any(|path| path.exists()) && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for path in &ours {
        assert!(!path.exists(), "{} is there", path.display());
    }
    for path in &theirs {
        assert!(path.exists(), "{} is gone", path.display());
        assert!(left.iter().any(|orphan| orphan.name == told(path)), "{left:#?}");
    }
    // Asked to, it removes none of them either but what holds data.
    let all: Vec<ResourceKind> = left.iter().map(|orphan| orphan.kind).collect();
    assert_eq!(prune(&test, &all, false).await, [(ResourceKind::Workspace, told(&theirs[2]))]);
    assert!(theirs[0].exists() && theirs[1].exists());
    for kind in [ResourceKind::Mount, ResourceKind::Device, ResourceKind::File] {
        let request = Prune { kinds: vec![kind], dry_run: true };
        let error = test.engine.prune(&TestEngine::origin(), request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgs);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_s_things_are_left_alone() {
    let test = TestEngine::start_with(|settings| settings.orphan_grace = GRACE).await;
    let root = test.folder.path().to_owned();
    // One in the folder itself, the other one above it.
    let name = format!(".instance-{}-1-2", InstanceId::random().unwrap());
    let marks = [root.join("run").join(&name), root.join("workspaces").join(&name)];
    for mark in &marks {
        fs::write(mark, "").unwrap();
    }
    let theirs = by_id(&root.join("run/vm"), &["token"]);
    let disk = folder(root.join("workspaces/@web"), &[DISK]);
    let left = only_left(&test, &[ResourceKind::Runtime, ResourceKind::Workspace]).await;
    for orphan in &left {
        assert!(matches!(&orphan.fate, Fate::Stays { why } if why.contains("another Nexus")), "{left:?}");
    }
    graced(&test).await;
    assert_eq!(orphans(&test).await, left);
    assert_eq!(prune(&test, &[ResourceKind::Runtime, ResourceKind::Workspace], false).await, []);
    assert!(theirs.exists() && disk.exists());

    for mark in marks {
        fs::remove_file(mark).unwrap();
    }
    only_left(&test, &[ResourceKind::Workspace]).await;
    assert!(!theirs.exists());
}

/// What comes and goes has an owner, at whichever instant somebody looks.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_no_orphan() {
    let test = TestEngine::start().await;
    let mut busy = std::pin::pin!(async {
        for round in 0..4 {
            let image = format!("image-{round}");
            assert_eq!(import(&test, &image).await, JobState::Done);
            let spec = |spec: &mut VmSpec| spec.image = Some(image.parse().unwrap());
            let name: Name = test.create("web", spec).await.unwrap();
            test.start_vm(&name).await;
            let options = RemoveOptions { force: true, remove_workspaces: true };
            let job = test.engine.remove_vm(&TestEngine::origin(), &name, options).await.unwrap();
            assert_eq!(test.job(job).await.state, JobState::Done);
            let job = test.engine.remove_image(&TestEngine::origin(), &image.parse().unwrap()).await.unwrap();
            assert_eq!(test.job(job).await.state, JobState::Done);
        }
    });
    let mut looks = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut busy => break,
            found = orphans(&test) => assert_eq!(found, [], "after {looks} looks"),
        }
        looks += 1;
    }
    assert!(looks > 10, "it was looked {looks} times");
}

/// An import that nobody can finish leaves nothing that stays.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_it_is_looked_what_that_left() {
    let test = TestEngine::start_with(|settings| settings.orphan_grace = GRACE).await;
    // The look at its start is over.
    assert_eq!(orphans(&test).await, []);
    let left = by_id(&test.folder.path().join("data/assets"), &["vmlinuz"]);
    let broken = test.folder.path().canonicalize().unwrap().join("broken");
    fs::write(&broken, "no kernel").unwrap();
    let request = nexus_actors::ImportAsset {
        kind: nexus_model::AssetKind::Kernel,
        path: broken,
        version: None,
        digest: None,
        default: false,
    };
    let job = test.engine.import_asset(&TestEngine::origin(), request).await.unwrap();
    assert_eq!(test.job(job).await.state, JobState::Failed);
    let gone = async {
        while left.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes without anybody asking");
}

/// Since when is lost with it, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_reaper_that_is_restarted_looks_again() {
    let test = TestEngine::start_with(|settings| settings.orphan_grace = GRACE).await;
    assert_eq!(orphans(&test).await, []);
    let left = by_id(&test.folder.path().join("run/vm"), &[]);
    test.engine.restart_actor("root/reaper").await.unwrap();
    let gone = async {
        while left.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it goes without anybody asking");
}

async fn said(daemon: &TestDaemon, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(PATIENCE, daemon.nexusctl(arguments).output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

async fn ok(daemon: &TestDaemon, arguments: &[&str]) -> String {
    let (code, out, err) = said(daemon, arguments).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    out
}

#[tokio::test]
async fn nexusctl_shows_orphans_and_removes_them_when_told_to() {
    let daemon = TestDaemon::start_in(Arc::new(Home::new()), Arc::new(TestBus::start())).await;
    daemon.run("web", []).await;
    assert_eq!(ok(&daemon, &["orphans"]).await, "No orphans: everything under Nexus' names has an owner.\n");
    assert_eq!(ok(&daemon, &["orphans", "-o", "json"]).await, "[]\n");
    assert_eq!(ok(&daemon, &["prune", "--dry-run"]).await, "Nothing to remove.\n");
    assert_eq!(ok(&daemon, &["prune", "--yes"]).await, "Nothing to remove.\n");

    let runtime = by_id(&daemon.home.path().join("run/nexus/vm"), &["token"]);
    let disk = folder(daemon.home.data().join("workspaces/@old"), &[DISK]);
    let stranger = folder(daemon.home.data().join("workspaces/mine"), &["notes"]);
    let beside = folder(daemon.home.data().join("notes"), &[]);
    let shown = ok(&daemon, &["orphans"]).await;
    for (kind, path, fate) in [
        ("runtime", &runtime, "goes in "),
        ("workspace", &disk, "holds data: it goes only with `nexusctl prune workspace`"),
        ("file", &stranger, "stays, because Nexus gives no such names"),
        ("file", &beside, "stays, because Nexus gives no such names"),
    ] {
        let line = shown.lines().find(|line| line.contains(&told(path))).unwrap_or_else(|| panic!("{shown}"));
        assert!(line.starts_with(kind) && line.contains(fate), "{line}");
    }
    let rows: Value = serde_json::from_str(&ok(&daemon, &["orphans", "-o", "json"]).await).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 4);
    assert_eq!((&rows[0]["kind"], &rows[0]["name"]), (&"runtime".into(), &told(&runtime).into()));

    let (code, out, err) = said(&daemon, &["prune"]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("nobody confirmed to remove orphans") && err.contains("--yes"), "{err}");
    let dry = ok(&daemon, &["prune", "--dry-run"]).await;
    assert!(dry.contains(&told(&runtime)) && dry.contains("Would remove 1 orphan, "), "{dry}");
    assert!(!dry.contains("@old") && !dry.contains("mine"), "{dry}");
    assert!(runtime.exists());

    let gone: Value = serde_json::from_str(&ok(&daemon, &["prune", "--yes", "-o", "json"]).await).unwrap();
    assert_eq!((&gone["dry_run"], &gone["removed"][0]["name"]), (&false.into(), &told(&runtime).into()));
    assert!(gone["bytes"].as_u64() > Some(0) && gone["bytes"] == gone["removed"][0]["bytes"], "{gone}");
    assert!(!runtime.exists() && disk.exists() && stranger.exists());
    let log = daemon.log();
    assert!(log.contains("which nothing owned") && log.contains("6a1c0f3d9b5e4c2f8e7d4b1a90c25f06"), "{log}");

    let removed = ok(&daemon, &["prune", "workspace", "--yes"]).await;
    assert!(removed.contains("@old") && removed.contains("Removed 1 orphan, "), "{removed}");
    assert!(!disk.exists() && stranger.exists());
    let (code, _, err) = said(&daemon, &["prune", "file", "--yes"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("Nexus removes nothing of kind `file`"), "{err}");
    let (code, _, err) = said(&daemon, &["prune", "vm", "--yes"]).await;
    assert_eq!(code, Some(2));
    assert!(err.contains("`vm` is none of unit, process"), "{err}");
    assert_eq!(ok(&daemon, &["vm", "list", "-q"]).await, "web\n");
}
