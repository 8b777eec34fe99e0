//! What goes in comes out, and the rules hold.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use nexus_model::{
    ArtifactState, AssetKind, ErrorKind, Id, JobState, Timestamp, WorkspaceState,
    vm::{Desired, VmState},
};
use nexus_store::{AssetRow, Bounds, EVENTS_PER_VM, Error, Failure, Noun, Store};
use tempfile::TempDir;

use crate::sample::{Content, artifact, asset, at, fill, image, name, new_job, new_vm, step, workspace};

fn empty() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("nexus.db")).unwrap();
    (folder, store)
}

#[test]
fn a_new_vm_is_created_with_a_context_id() {
    let (_folder, mut store) = empty();
    let new = new_vm("demo");
    let row = store.insert_vm(&new).unwrap();
    assert_eq!((row.generation, row.lifecycle.state()), (1, VmState::Created));
    assert_eq!((&row.id, &row.name, &row.spec, row.desired), (&new.id, &new.name, &new.spec, new.desired));
    assert_eq!(store.vm(new.id).unwrap(), row);
    assert!(store.history(new.id, 10).unwrap().is_empty());
}

#[test]
fn every_field_of_a_vm_is_kept() {
    let (_folder, mut store) = empty();
    let mut row = store.insert_vm(&new_vm("demo")).unwrap();
    fill(&mut row);
    row.spec.label = "a label with ü and \"quotes\"".to_owned();
    let entry = step(&mut row, at(5));
    store.update_vm(&row, Some(&entry)).unwrap();
    assert_eq!(store.vm(row.id).unwrap(), row);
    assert_eq!(store.vms().unwrap(), [row.clone()]);
    assert_eq!(store.history(row.id, 10).unwrap(), [entry]);
}

#[test]
fn context_ids_are_unique_and_given_out_again_once_free() {
    let (_folder, mut store) = empty();
    let cids: Vec<_> = ["a", "b", "c"].map(|vm| store.insert_vm(&new_vm(vm)).unwrap()).into();
    let first = cids[0].cid;
    assert_eq!(cids.iter().map(|vm| vm.cid).collect::<Vec<_>>(), [first, first + 1, first + 2]);
    store.delete_vm(cids[1].id, 1, at(9)).unwrap();
    assert_eq!(store.insert_vm(&new_vm("d")).unwrap().cid, first + 1);
    assert_eq!(store.insert_vm(&new_vm("e")).unwrap().cid, first + 3);
}

/// With the kernel's vhost-vsock, all instances of a machine share one space.
#[test]
fn context_ids_of_two_instances_do_not_meet() {
    let ((_one, mut one), (_other, mut other)) = (empty(), empty());
    let (one, other) = (one.insert_vm(&new_vm("demo")).unwrap().cid, other.insert_vm(&new_vm("demo")).unwrap().cid);
    // Two random instances are the same once in two thousand million runs.
    assert_ne!(one, other);
}

#[test]
fn names_are_taken_once_for_each_noun() {
    let (_folder, mut store) = empty();
    store.insert_vm(&new_vm("demo")).unwrap();
    store.insert_workspace(&workspace("demo")).unwrap();
    store.insert_image(&image("demo")).unwrap();
    store.insert_asset(&asset(AssetKind::Kernel, "demo")).unwrap();
    let before = Content::of(&store);
    let errors = [
        (Noun::Vm, store.insert_vm(&new_vm("demo")).unwrap_err()),
        (Noun::Workspace, store.insert_workspace(&workspace("demo")).unwrap_err()),
        (Noun::Image, store.insert_image(&image("demo")).unwrap_err()),
        (Noun::Asset(None), store.insert_asset(&asset(AssetKind::Initrd, "demo")).unwrap_err()),
    ];
    for (expected, error) in errors {
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            error.to_string(),
            format!("the name `demo` is taken by another {expected} already: choose another one")
        );
        assert!(matches!(error, Error::AlreadyExists { noun, name } if noun == expected && name == "demo"));
    }
    assert_eq!(Content::of(&store), before);
}

#[test]
fn what_is_not_there_is_not_found() {
    let (_folder, mut store) = empty();
    let id = Id::from(7);
    let mut vm = store.insert_vm(&new_vm("demo")).unwrap();
    vm.id = id;
    let mut job = store.insert_job(&new_job()).unwrap();
    job.id += 1;
    let kinds = [
        store.vm(id).unwrap_err(),
        store.claim_vm(id).unwrap_err(),
        store.update_vm(&vm, None).unwrap_err(),
        store.delete_vm(id, 1, at(1)).unwrap_err(),
        store.workspace(id).unwrap_err(),
        store.update_workspace(&workspace("none")).unwrap_err(),
        store.attach_workspace(id, id, at(1)).unwrap_err(),
        store.detach_workspace(id, at(1)).unwrap_err(),
        store.delete_workspace(id).unwrap_err(),
        store.image(id).unwrap_err(),
        store.update_image(&image("none")).unwrap_err(),
        store.delete_image(id).unwrap_err(),
        store.asset(id).unwrap_err(),
        store.update_asset(&asset(AssetKind::Kernel, "none")).unwrap_err(),
        store.make_default_asset(id).unwrap_err(),
        store.delete_asset(id).unwrap_err(),
        store.job(job.id).unwrap_err(),
        store.update_job(&job, "").unwrap_err(),
    ]
    .map(|error| error.kind());
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::NotFound), "{kinds:?}");
    assert!(store.history(id, 10).unwrap().is_empty());
}

#[test]
fn an_overtaken_actor_writes_nothing() {
    let (_folder, mut store) = empty();
    let mut old = store.insert_vm(&new_vm("demo")).unwrap();
    let mut new = store.claim_vm(old.id).unwrap();
    assert_eq!(new.generation, 2);
    let entry = step(&mut old, at(5));
    let error = store.update_vm(&old, Some(&entry)).unwrap_err();
    assert!(matches!(error, Error::Overtaken { generation: 1, current: 2, .. }), "{error}");
    assert!(matches!(store.delete_vm(old.id, 1, at(5)), Err(Error::Overtaken { .. })));
    assert_eq!(store.vm(new.id).unwrap(), new);
    assert!(store.history(new.id, 10).unwrap().is_empty());

    let entry = step(&mut new, at(6));
    store.update_vm(&new, Some(&entry)).unwrap();
    assert_eq!(store.history(new.id, 10).unwrap(), [entry]);
}

#[test]
fn a_transition_is_exactly_one_entry_of_history() {
    let (_folder, mut store) = empty();
    let stored = store.insert_vm(&new_vm("demo")).unwrap();
    let mut row = stored.clone();
    let entry = step(&mut row, at(5));

    assert!(matches!(store.update_vm(&row, None), Err(Error::Untold { .. })));
    assert!(matches!(store.update_vm(&stored, Some(&entry)), Err(Error::Untold { .. })));
    assert_eq!(store.vm(row.id).unwrap(), stored);
    assert!(store.history(row.id, 10).unwrap().is_empty());

    store.update_vm(&row, Some(&entry)).unwrap();
    row.desired = Desired::Stopped;
    store.update_vm(&row, None).unwrap();
    assert_eq!(store.history(row.id, 10).unwrap(), [entry]);
}

#[test]
fn history_is_newest_first_bounded_and_each_vms_own() {
    let (_folder, mut store) = empty();
    let mut other = store.insert_vm(&new_vm("other")).unwrap();
    let others = step(&mut other, at(1));
    store.update_vm(&other, Some(&others)).unwrap();

    let mut row = store.insert_vm(&new_vm("demo")).unwrap();
    let mut told = Vec::new();
    for second in 0..u64::from(EVENTS_PER_VM) + 5 {
        let entry = step(&mut row, at(second));
        store.update_vm(&row, Some(&entry)).unwrap();
        told.insert(0, entry);
    }
    assert_eq!(store.history(row.id, 3).unwrap(), told[..3]);
    told.truncate(EVENTS_PER_VM as usize);
    assert_eq!(store.history(row.id, u32::MAX).unwrap(), told);
    assert_eq!(store.history(other.id, u32::MAX).unwrap(), [others]);

    // It stays when its VM goes, whose removal is one event more.
    store.delete_vm(row.id, row.generation, at(1)).unwrap();
    told.pop();
    assert_eq!(store.history(row.id, u32::MAX).unwrap(), told);
}

#[test]
fn a_workspace_is_the_disk_of_one_vm_only() {
    let (_folder, mut store) = empty();
    let (first, second) = (store.insert_vm(&new_vm("first")).unwrap(), store.insert_vm(&new_vm("second")).unwrap());
    let disk = workspace("disk");
    store.insert_workspace(&disk).unwrap();

    let attached = store.attach_workspace(disk.id, first.id, at(7)).unwrap();
    assert_eq!((attached.state, attached.vm, attached.attached_at), (WorkspaceState::Attached, Some(first.id), at(7)));
    assert_eq!(store.attach_workspace(disk.id, first.id, at(8)).unwrap(), attached);
    let error = store.attach_workspace(disk.id, second.id, at(8)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_eq!(error.to_string(), "the workspace `disk` is used by VM first: detach or remove that first");
    assert_eq!(store.delete_workspace(disk.id).unwrap_err().kind(), ErrorKind::InUse);
    let mut removing = attached.clone();
    removing.state = WorkspaceState::Removing;
    assert_eq!(store.update_workspace(&removing).unwrap_err().kind(), ErrorKind::InUse);
    assert_eq!(store.workspace(disk.id).unwrap(), attached);

    let detached = store.detach_workspace(disk.id, at(9)).unwrap();
    assert_eq!((detached.state, detached.vm, detached.detached_at), (WorkspaceState::Ready, None, at(9)));
    assert_eq!(store.detach_workspace(disk.id, at(10)).unwrap(), detached);
    store.attach_workspace(disk.id, second.id, at(11)).unwrap();
}

#[test]
fn the_database_itself_refuses_what_no_workspace_can_be() {
    let (_folder, mut store) = empty();
    let vm = store.insert_vm(&new_vm("demo")).unwrap();
    let mut disk = workspace("disk");
    disk.state = WorkspaceState::Attached;
    assert!(matches!(store.insert_workspace(&disk), Err(Error::Refused { .. })), "attached to no VM");
    disk.state = WorkspaceState::Ready;
    disk.vm = Some(vm.id);
    assert!(matches!(store.insert_workspace(&disk), Err(Error::Refused { .. })), "ready and a VM's disk");
    assert!(store.workspaces().unwrap().is_empty());
}

#[test]
fn only_a_ready_workspace_is_attached_and_a_missing_one_stays_missing() {
    let (_folder, mut store) = empty();
    let vm = store.insert_vm(&new_vm("demo")).unwrap();
    let mut disk = workspace("disk");
    disk.state = WorkspaceState::Creating;
    store.insert_workspace(&disk).unwrap();
    assert_eq!(store.attach_workspace(disk.id, vm.id, at(1)).unwrap_err().kind(), ErrorKind::InvalidState);

    disk.state = WorkspaceState::Ready;
    store.update_workspace(&disk).unwrap();
    let mut disk = store.attach_workspace(disk.id, vm.id, at(1)).unwrap();
    disk.state = WorkspaceState::Missing;
    store.update_workspace(&disk).unwrap();
    let disk = store.detach_workspace(disk.id, at(2)).unwrap();
    assert_eq!((disk.state, disk.vm), (WorkspaceState::Missing, None));
}

#[test]
fn a_removed_vm_leaves_its_workspaces_detached() {
    let (_folder, mut store) = empty();
    let vm = store.insert_vm(&new_vm("demo")).unwrap();
    let mut disk = workspace("disk");
    disk.owner = Some(vm.id);
    store.insert_workspace(&disk).unwrap();
    store.attach_workspace(disk.id, vm.id, at(1)).unwrap();
    store.delete_vm(vm.id, vm.generation, at(2)).unwrap();
    let left = store.workspace(disk.id).unwrap();
    assert_eq!((left.state, left.vm, left.owner, left.detached_at), (WorkspaceState::Ready, None, None, at(2)));
}

#[test]
fn paths_that_are_no_utf8_are_kept() {
    let (_folder, mut store) = empty();
    let mut disk = workspace("disk");
    disk.path = PathBuf::from(OsStr::from_bytes(b"/data/\xff\xfe/disk"));
    store.insert_workspace(&disk).unwrap();
    assert_eq!(store.workspace(disk.id).unwrap(), disk);
}

#[test]
fn an_image_stays_while_a_workspace_is_made_from_it() {
    let (_folder, mut store) = empty();
    let mut base = image("base");
    store.insert_image(&base).unwrap();
    for disk in ["b", "a"] {
        let mut disk = workspace(disk);
        disk.base = Some(base.name.clone());
        store.insert_workspace(&disk).unwrap();
    }
    base.state = ArtifactState::Removing;
    for error in [store.update_image(&base).unwrap_err(), store.delete_image(base.id).unwrap_err()] {
        assert_eq!(
            error.to_string(),
            "the image `base` is used by workspace a, workspace b: detach or remove that first"
        );
        assert_eq!(error.kind(), ErrorKind::InUse);
    }
    assert_eq!(store.image(base.id).unwrap().state, ArtifactState::Ready);

    for disk in store.workspaces().unwrap() {
        store.delete_workspace(disk.id).unwrap();
    }
    store.update_image(&base).unwrap();
    let mut late = workspace("late");
    late.base = Some(base.name.clone());
    assert_eq!(store.insert_workspace(&late).unwrap_err().kind(), ErrorKind::InvalidState);
    store.delete_image(base.id).unwrap();
    assert_eq!(store.insert_workspace(&late).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(store.images().unwrap().is_empty() && store.workspaces().unwrap().is_empty());
}

#[test]
fn every_field_of_an_image_is_kept() {
    let (_folder, mut store) = empty();
    let mut row = image("python-3.12");
    row.state = ArtifactState::Creating;
    row.digest = String::new();
    store.insert_image(&row).unwrap();
    row.state = ArtifactState::Ready;
    assert!(matches!(store.update_image(&row), Err(Error::Refused { .. })), "ready without a digest");
    row.digest = "ab".repeat(32);
    row.size_bytes = 1;
    row.metadata.insert("agent".to_owned(), "0.1.0".to_owned());
    store.update_image(&row).unwrap();
    assert_eq!(store.image(row.id).unwrap(), row);
}

#[test]
fn one_asset_of_a_kind_is_the_default_one() {
    let (_folder, mut store) = empty();
    let rows = [
        asset(AssetKind::Kernel, "kernel-1"),
        asset(AssetKind::Kernel, "kernel-2"),
        asset(AssetKind::Initrd, "initrd-1"),
    ];
    for row in &rows {
        store.insert_asset(row).unwrap();
    }
    let defaults = |store: &Store| -> Vec<String> {
        store.assets().unwrap().iter().filter(|row| row.is_default).map(|row| row.name.to_string()).collect()
    };
    assert!(defaults(&store).is_empty());
    store.make_default_asset(rows[0].id).unwrap();
    store.make_default_asset(rows[2].id).unwrap();
    assert_eq!(defaults(&store), ["initrd-1", "kernel-1"]);
    store.make_default_asset(rows[1].id).unwrap();
    assert_eq!(defaults(&store), ["initrd-1", "kernel-2"]);

    let mut removing = store.asset(rows[1].id).unwrap();
    removing.state = ArtifactState::Removing;
    store.update_asset(&removing).unwrap();
    assert_eq!(defaults(&store), ["initrd-1"]);
    assert_eq!(store.make_default_asset(rows[1].id).unwrap_err().kind(), ErrorKind::InvalidState);
}

#[test]
fn the_newest_that_is_left_takes_the_place_of_a_default_asset() {
    let (_folder, mut store) = empty();
    let of_age = |name, age| AssetRow { created_at: at(age), ..asset(AssetKind::Kernel, name) };
    let rows = [of_age("kernel-2", 1), of_age("kernel-3", 3), of_age("kernel-1", 2)];
    for row in rows.iter().chain([&asset(AssetKind::Initrd, "initrd-9")]) {
        store.insert_asset(row).unwrap();
    }
    let default = |store: &Store| store.assets().unwrap().into_iter().find(|row| row.is_default).map(|row| row.id);
    store.make_default_asset(rows[0].id).unwrap();
    store.delete_asset(rows[0].id).unwrap();
    assert_eq!(default(&store), Some(rows[1].id));
    store.delete_asset(rows[2].id).unwrap();
    assert_eq!(default(&store), Some(rows[1].id));
    store.delete_asset(rows[1].id).unwrap();
    assert_eq!(default(&store), None);
}

#[test]
fn an_asset_stays_while_a_vm_asks_for_it() {
    let (_folder, mut store) = empty();
    let (kernel, initrd) = (asset(AssetKind::Kernel, "kernel-1"), asset(AssetKind::Initrd, "initrd-1"));
    store.insert_asset(&kernel).unwrap();
    store.insert_asset(&initrd).unwrap();
    let mut new = new_vm("demo");
    new.spec.kernel = Some(artifact("kernel-1"));
    let vm = store.insert_vm(&new).unwrap();
    let mut removing = kernel.clone();
    removing.state = ArtifactState::Removing;
    for error in [store.delete_asset(kernel.id).unwrap_err(), store.update_asset(&removing).unwrap_err()] {
        assert_eq!(error.to_string(), "the kernel `kernel-1` is used by VM demo: detach or remove that first");
    }
    assert_eq!(store.asset(kernel.id).unwrap(), kernel);
    store.delete_asset(initrd.id).unwrap();
    store.delete_vm(vm.id, vm.generation, at(1)).unwrap();
    store.delete_asset(kernel.id).unwrap();
}

#[test]
fn jobs_are_numbered_once() {
    let (folder, mut store) = empty();
    let mut first = store.insert_job(&new_job()).unwrap();
    assert_eq!((first.id, first.state, first.finished_at), (1, JobState::Running, Timestamp::NEVER));
    first.state = JobState::Failed;
    first.error = Some(Failure { kind: ErrorKind::HypervisorFailed, message: "QEMU ended".to_owned() });
    first.finished_at = at(9);
    store.update_job(&first, "").unwrap();
    assert_eq!(store.job(1).unwrap(), first);
    drop(store);
    let mut store = Store::open(&folder.path().join("nexus.db")).unwrap();
    assert_eq!(store.insert_job(&new_job()).unwrap().id, 2);
    assert_eq!(store.jobs(1).unwrap().iter().map(|job| job.id).collect::<Vec<_>>(), [2]);
}

#[test]
fn ended_jobs_are_bounded_and_their_numbers_stay_used() {
    let (_folder, store) = empty();
    let mut store = store.keeping(Bounds { jobs: 3, ..Bounds::default() });
    let running = store.insert_job(&new_job()).unwrap();
    for _ in 0..6 {
        let mut job = store.insert_job(&new_job()).unwrap();
        job.state = JobState::Done;
        job.finished_at = at(9);
        store.update_job(&job, "").unwrap();
    }
    let last = store.insert_job(&new_job()).unwrap();
    let jobs = store.jobs(u32::MAX).unwrap();
    assert_eq!(last.id, 8);
    assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [8, 7, 6, 5, 1]);
    assert_eq!(jobs.last(), Some(&running), "what is under way is never forgotten");
    assert!(store.job(2).is_err() && store.job(4).is_err() && store.job(5).is_ok());
}

#[test]
fn jobs_of_a_daemon_that_is_gone_are_cut_off_once() {
    let (_folder, mut store) = empty();
    let running = store.insert_job(&new_job()).unwrap();
    let mut done = store.insert_job(&new_job()).unwrap();
    done.state = JobState::Done;
    done.finished_at = at(5);
    store.update_job(&done, "").unwrap();
    let alive = store.insert_job(&new_job()).unwrap();
    let cut = store.jobs_cut_off(&[alive.id], at(6)).unwrap();
    assert_eq!(cut, [store.job(running.id).unwrap()]);
    assert_eq!((cut[0].state, cut[0].finished_at), (JobState::Cancelled, at(6)));
    assert_eq!(cut[0].error.as_ref().map(|error| error.kind), Some(ErrorKind::Cancelled));
    assert_eq!(store.job(done.id).unwrap(), done);
    assert_eq!(store.job(alive.id).unwrap(), alive);
    assert_eq!(store.jobs_cut_off(&[], at(7)).unwrap().len(), 1);
    assert!(store.jobs_cut_off(&[], at(8)).unwrap().is_empty());
}

#[test]
fn statistics_count_what_is_on_the_disk() {
    let (folder, store) = empty();
    let statistics = store.statistics().unwrap();
    assert_eq!((statistics.schema_version, statistics.table_count), (3, 8));
    let on_disk = |file: &str| folder.path().join(file).metadata().map_or(0, |metadata| metadata.len());
    assert_eq!(statistics.database_bytes, on_disk("nexus.db") + on_disk("nexus.db-wal"));
    assert!(statistics.database_bytes > 4096);
}

#[test]
fn each_store_has_an_instance_of_its_own_and_keeps_it() {
    let (folder, store) = empty();
    let (_other_folder, other) = empty();
    let instance = store.instance();
    assert_ne!(instance, other.instance());
    drop(store);
    assert_eq!(Store::open(&folder.path().join("nexus.db")).unwrap().instance(), instance);
}

#[test]
fn names_sort_the_lists() {
    let (_folder, mut store) = empty();
    for vm in ["b", "c", "a"] {
        store.insert_vm(&new_vm(vm)).unwrap();
    }
    let names: Vec<_> = store.vms().unwrap().into_iter().map(|vm| vm.name).collect();
    assert_eq!(names, ["a", "b", "c"].map(name));
}

#[test]
fn things_done_together_happen_all_or_not_at_all() {
    let (folder, mut store) = empty();
    store.insert_workspace(&workspace("taken")).unwrap();
    let before = Content::of(&store);
    let error = store
        .together(|store| {
            store.insert_vm(&new_vm("demo"))?;
            store.insert_workspace(&workspace("taken"))
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(Content::of(&store), before);

    let panic = std::panic::AssertUnwindSafe(|| {
        store.together(|store| -> Result<(), Error> {
            store.insert_vm(&new_vm("demo"))?;
            panic!("a defect in the caller");
        })
    });
    assert!(std::panic::catch_unwind(panic).is_err());
    assert_eq!(Content::of(&store), before);

    let made = store
        .together(|store| {
            let vm = store.insert_vm(&new_vm("demo"))?;
            // A part that fails is undone alone, if the whole goes on without it.
            assert!(store.insert_workspace(&workspace("taken")).is_err());
            let disk = workspace("disk");
            store.insert_workspace(&disk)?;
            store.attach_workspace(disk.id, vm.id, at(1))
        })
        .unwrap();
    drop(store);
    let store = Store::open(&folder.path().join("nexus.db")).unwrap();
    assert_eq!(store.workspace(made.id).unwrap(), made);
    assert_eq!((store.vms().unwrap().len(), store.workspaces().unwrap().len()), (1, 2));
}
