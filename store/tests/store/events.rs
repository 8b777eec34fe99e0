//! What happened is written down, in order, within bounds, and can be asked for.

use nexus_model::{ArtifactState, AssetKind, ErrorKind, EventKind, JobState, Timestamp};
use nexus_store::{Bounds, EVENTS_PER_VM, EventRow, Failure, Filter, NewEvent, Store, VmOf};
use tempfile::TempDir;

use crate::sample::{asset, at, image, name, new_job, new_vm, step, workspace};

fn empty() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("nexus.db")).unwrap();
    (folder, store)
}

fn all(store: &Store, filter: &Filter) -> Vec<EventRow> {
    let page = store.events(filter, 0, u32::MAX).unwrap();
    assert!(page.last);
    page.rows
}

/// What happened to what, and how: `vm/a vm-state created→starting`.
fn told(store: &Store) -> Vec<String> {
    let line = |EventRow { event, .. }: EventRow| {
        format!("{} {} {}→{}", event.subject, event.kind, event.from, event.to).trim_end_matches(" →").to_owned()
    };
    all(store, &Filter::default()).into_iter().map(line).collect()
}

fn fault(second: u64, subject: &str) -> NewEvent {
    NewEvent { at: at(second), ..NewEvent::now(EventKind::ActorFault, subject.to_owned()) }
}

#[test]
fn the_life_of_everything_is_told() {
    let (_folder, mut store) = empty();
    store.insert_image(&image("base")).unwrap();
    let mut vm = store.insert_vm(&new_vm("web")).unwrap();
    let disk = workspace("disk");
    store.insert_workspace(&disk).unwrap();
    store.attach_workspace(disk.id, vm.id, at(1)).unwrap();
    let entry = step(&mut vm, at(2));
    store.update_vm(&vm, Some(&entry)).unwrap();
    let mut job = store.insert_job(&new_job()).unwrap();
    job.objects = vec!["vm/web".to_owned()];
    (job.state, job.finished_at) = (JobState::Done, at(3));
    store.update_job(&job, "").unwrap();
    // Stored again, it has not ended again.
    store.update_job(&job, "").unwrap();
    store.delete_vm(vm.id, vm.generation, at(4)).unwrap();
    let mut kernel = asset(AssetKind::Kernel, "kernel-6");
    kernel.state = ArtifactState::Creating;
    store.insert_asset(&kernel).unwrap();
    kernel.state = ArtifactState::Ready;
    store.update_asset(&kernel).unwrap();
    store.delete_asset(kernel.id).unwrap();
    store.delete_workspace(disk.id).unwrap();
    store.delete_image(store.images().unwrap()[0].id).unwrap();
    assert_eq!(
        told(&store),
        [
            "image/base image-created →ready",
            "vm/web vm-created",
            "workspace/disk workspace-created →ready",
            "workspace/disk workspace-state ready→attached",
            "vm/web vm-state created→starting",
            "job/1 job-ended running→done",
            "workspace/disk workspace-state attached→ready",
            "vm/web vm-removed",
            "asset/kernel-6 asset-created →creating",
            "asset/kernel-6 asset-state creating→ready",
            "asset/kernel-6 asset-removed ready→",
            "workspace/disk workspace-removed ready→",
            "image/base image-removed ready→",
        ]
    );
    let of_web = all(&store, &Filter { vm: Some("web".to_owned()), ..Filter::default() });
    assert_eq!(of_web, all(&store, &Filter { vm: Some(vm.id.to_string()), ..Filter::default() }));
    let kinds: Vec<EventKind> = of_web.iter().map(|row| row.event.kind).collect();
    use EventKind::{JobEnded, VmCreated, VmRemoved, VmState, WorkspaceState};
    assert_eq!(kinds, [VmCreated, WorkspaceState, VmState, JobEnded, WorkspaceState, VmRemoved]);
}

#[test]
fn the_end_of_a_job_says_what_came_of_it_or_its_error() {
    let (_folder, mut store) = empty();
    let failure = Failure { kind: ErrorKind::Busy, message: "it is used".to_owned() };
    for error in [None, Some(failure)] {
        let mut job = store.insert_job(&new_job()).unwrap();
        job.error = error;
        job.finished_at = at(1);
        store.update_job(&job, "removed file /a").unwrap();
    }
    let details: Vec<String> = all(&store, &Filter::default()).into_iter().map(|row| row.event.detail).collect();
    assert_eq!(details, ["removed file /a", "Busy: it is used"]);
}

#[test]
fn whether_a_daemon_was_told_to_end_is_known() {
    let (_folder, mut store) = empty();
    let mut happens =
        |kind| store.insert_event(&NewEvent::now(kind, "daemon".to_owned())).map(|()| store.ended_in_order());
    let mut after = |kind| happens(kind).unwrap().unwrap();
    assert_eq!(after(EventKind::DaemonReady), None);
    assert_eq!(after(EventKind::DaemonStarted), Some(false));
    assert_eq!(after(EventKind::DaemonReady), Some(false));
    assert_eq!(after(EventKind::DaemonStopping), Some(true));
    assert_eq!(after(EventKind::DaemonStarted), Some(false));
}

#[test]
fn what_did_not_happen_is_not_told() {
    let (_folder, mut store) = empty();
    let mut vm = store.insert_vm(&new_vm("web")).unwrap();
    let undone = store.together(|store| {
        let entry = step(&mut vm, at(1));
        store.update_vm(&vm, Some(&entry))?;
        store.delete_vm(vm.id, 99, at(2))
    });
    assert!(undone.is_err());
    assert_eq!(told(&store), ["vm/web vm-created"]);
}

#[test]
fn so_many_are_kept_and_of_one_vm_fewer() {
    let (_folder, store) = empty();
    let mut store = store.keeping(Bounds { events: EVENTS_PER_VM + 10, ..Bounds::default() });
    store.insert_event(&fault(0, "supervisor/first")).unwrap();
    let vm = Some(VmOf { name: name("web"), id: Some(nexus_model::Id::from(7)) });
    for second in 0..u64::from(EVENTS_PER_VM) + 5 {
        store.insert_event(&NewEvent { vm: vm.clone(), ..fault(second, "vm/web") }).unwrap();
    }
    let kept = all(&store, &Filter::default());
    assert_eq!(kept.len(), EVENTS_PER_VM as usize + 1);
    assert_eq!((kept[0].event.subject.as_str(), kept[1].event.at), ("supervisor/first", at(5)));

    for second in 0..10 {
        store.insert_event(&fault(second, "supervisor/other")).unwrap();
    }
    let kept = all(&store, &Filter::default());
    assert!(kept.iter().all(|row| row.event.subject != "supervisor/first"), "the oldest of all is forgotten");
    assert_eq!(kept.last().unwrap().seq - kept[0].seq + 1, u64::from(EVENTS_PER_VM) + 10);

    // A smaller bound holds from the next one on.
    let mut store = store.keeping(Bounds { events: 2, ..Bounds::default() });
    store.insert_event(&fault(11, "supervisor/last")).unwrap();
    let subjects: Vec<String> = all(&store, &Filter::default()).into_iter().map(|row| row.event.subject).collect();
    assert_eq!(subjects, ["supervisor/other", "supervisor/last"]);
}

#[test]
fn they_are_read_piece_by_piece_from_the_newest_so_many_on() {
    let (_folder, mut store) = empty();
    for second in 1..=7 {
        let subject = if second % 2 == 0 { "even" } else { "odd" };
        let vm = Some(VmOf { name: name(subject), id: None });
        store.insert_event(&NewEvent { vm, ..fault(second, subject) }).unwrap();
    }
    let odd = Filter { vm: Some("odd".to_owned()), ..Filter::default() };
    let after = store.events_before_newest(&odd, 3).unwrap();
    let first = store.events(&odd, after, 2).unwrap();
    assert_eq!((first.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), first.last), (vec![3, 5], false));
    let second = store.events(&odd, first.next, 2).unwrap();
    assert_eq!((second.rows.iter().map(|row| row.seq).collect::<Vec<_>>(), second.last), (vec![7], true));
    assert_eq!(store.events_before_newest(&odd, 4).unwrap(), 0);

    // What is not wanted is looked at once.
    store.insert_event(&fault(8, "even")).unwrap();
    assert_eq!(store.events(&odd, second.next, 2).unwrap().next, 8);
}

#[test]
fn times_are_a_filter_from_and_until() {
    let (_folder, mut store) = empty();
    for second in 1..=4 {
        store.insert_event(&fault(second, "x")).unwrap();
    }
    let numbers = |since, until| -> Vec<u64> {
        all(&store, &Filter { vm: None, since, until }).iter().map(|row| row.seq).collect()
    };
    assert_eq!(numbers(at(2), Timestamp::NEVER), [2, 3, 4]);
    assert_eq!(numbers(at(2), at(3)), [2, 3]);
    assert_eq!(numbers(Timestamp::NEVER, at(1)), [1]);
}
