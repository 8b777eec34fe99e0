//! Whatever a method has returned from is there after any crash, and nothing is there by half.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use nexus_model::{ArtifactState, ErrorKind, JobState, Timestamp, WorkspaceState};
use nexus_store::{Error, Store, WorkspaceRow};
use proptest::{prelude::*, sample::select, test_runner::Config};
use tempfile::TempDir;

use crate::{
    reexec::{self, Killed},
    sample::{Content, at, fill, image, name, new_job, new_vm, step, workspace},
};

/// Something that is done to a store. Names are few, so that they meet.
#[derive(Clone, Debug)]
enum Operation {
    Insert(&'static str),
    Claim(&'static str),
    Step(&'static str),
    Fill(&'static str),
    Remove(&'static str),
    InsertWorkspace(&'static str),
    Attach(&'static str, &'static str),
    Detach(&'static str),
    RemoveWorkspace(&'static str),
    Image(ArtifactState),
    Job,
    FinishJob,
    CutOff,
    /// Close the store and open it again.
    Close,
    /// Go on with what a copy of the files holds: the daemon was killed, or the machine lost its power.
    Crash,
}

fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let vm = || select(&["a", "b", "c"][..]);
    let disk = || select(&["x", "y"][..]);
    prop_oneof![
        3 => vm().prop_map(Insert),
        2 => vm().prop_map(Claim),
        6 => vm().prop_map(Step),
        2 => vm().prop_map(Fill),
        1 => vm().prop_map(Remove),
        2 => disk().prop_map(InsertWorkspace),
        3 => (disk(), vm()).prop_map(|(disk, vm)| Attach(disk, vm)),
        2 => disk().prop_map(Detach),
        1 => disk().prop_map(RemoveWorkspace),
        1 => select(&[ArtifactState::Creating, ArtifactState::Ready, ArtifactState::Removing][..]).prop_map(Image),
        1 => Just(Job),
        1 => Just(FinishJob),
        1 => Just(CutOff),
        1 => Just(Close),
        2 => Just(Crash),
    ]
}

/// A store, and what it must hold.
struct Checked {
    folder: TempDir,
    store: Option<Store>,
    expected: Content,
    seconds: u64,
}

impl Checked {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("nexus.db")).unwrap();
        let expected = Content::of(&store);
        Self { folder, store: Some(store), expected, seconds: 0 }
    }

    fn vm(&self, vm: &str) -> Option<usize> {
        self.expected.vms.iter().position(|row| row.name == name(vm))
    }

    fn disk(&self, disk: &str) -> Option<usize> {
        self.expected.workspaces.iter().position(|row| row.name == name(disk))
    }

    fn run(&mut self, operation: &Operation) {
        self.seconds += 1;
        let now = at(self.seconds);
        let store = self.store.as_mut().unwrap();
        match *operation {
            Operation::Insert(vm) => {
                let result = store.insert_vm(&new_vm(vm));
                match self.vm(vm) {
                    Some(_) => assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists),
                    None => {
                        let place = self.expected.vms.partition_point(|row| row.name < name(vm));
                        self.expected.vms.insert(place, result.unwrap());
                        self.expected.histories.insert(place, Vec::new());
                    }
                }
            }
            Operation::Claim(vm) => {
                if let Some(index) = self.vm(vm) {
                    let store = self.store.as_mut().unwrap();
                    let row = &mut self.expected.vms[index];
                    row.generation += 1;
                    assert_eq!(store.claim_vm(row.id).unwrap(), *row);
                    let mut overtaken = row.clone();
                    overtaken.generation -= 1;
                    assert!(matches!(store.update_vm(&overtaken, None), Err(Error::Overtaken { .. })));
                }
            }
            Operation::Step(vm) => {
                if let Some(index) = self.vm(vm) {
                    let entry = step(&mut self.expected.vms[index], now);
                    self.store.as_mut().unwrap().update_vm(&self.expected.vms[index], Some(&entry)).unwrap();
                    self.expected.histories[index].insert(0, entry);
                }
            }
            Operation::Fill(vm) => {
                if let Some(index) = self.vm(vm) {
                    fill(&mut self.expected.vms[index]);
                    self.store.as_mut().unwrap().update_vm(&self.expected.vms[index], None).unwrap();
                }
            }
            Operation::Remove(vm) => {
                if let Some(index) = self.vm(vm) {
                    let row = self.expected.vms.remove(index);
                    self.expected.histories.remove(index);
                    self.store.as_mut().unwrap().delete_vm(row.id, row.generation, now).unwrap();
                    for disk in self.expected.workspaces.iter_mut().filter(|disk| disk.vm == Some(row.id)) {
                        detach(disk, now);
                    }
                }
            }
            Operation::InsertWorkspace(disk) => {
                let row = workspace(disk);
                let result = store.insert_workspace(&row);
                match self.disk(disk) {
                    Some(_) => assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists),
                    None => {
                        result.unwrap();
                        let place = self.expected.workspaces.partition_point(|other| other.name < row.name);
                        self.expected.workspaces.insert(place, row);
                    }
                }
            }
            Operation::Attach(disk, vm) => {
                let (Some(disk), Some(vm)) = (self.disk(disk), self.vm(vm)) else { return };
                let vm = self.expected.vms[vm].id;
                let row = &mut self.expected.workspaces[disk];
                let result = self.store.as_mut().unwrap().attach_workspace(row.id, vm, now);
                match row.vm {
                    Some(other) if other != vm => assert_eq!(result.unwrap_err().kind(), ErrorKind::InUse),
                    Some(_) => assert_eq!(result.unwrap(), *row),
                    None => {
                        (row.vm, row.state, row.attached_at) = (Some(vm), WorkspaceState::Attached, now);
                        assert_eq!(result.unwrap(), *row);
                    }
                }
            }
            Operation::Detach(disk) => {
                if let Some(index) = self.disk(disk) {
                    let row = &mut self.expected.workspaces[index];
                    if row.vm.is_some() {
                        detach(row, now);
                    }
                    assert_eq!(self.store.as_mut().unwrap().detach_workspace(row.id, now).unwrap(), *row);
                }
            }
            Operation::RemoveWorkspace(disk) => {
                if let Some(index) = self.disk(disk) {
                    let row = &self.expected.workspaces[index];
                    let result = self.store.as_mut().unwrap().delete_workspace(row.id);
                    if row.vm.is_some() {
                        assert_eq!(result.unwrap_err().kind(), ErrorKind::InUse);
                    } else {
                        result.unwrap();
                        self.expected.workspaces.remove(index);
                    }
                }
            }
            Operation::Image(state) => match self.expected.images.first_mut() {
                None => {
                    let row = image("base");
                    store.insert_image(&row).unwrap();
                    self.expected.images.push(row);
                }
                Some(row) if row.state == ArtifactState::Removing => {
                    store.delete_image(row.id).unwrap();
                    self.expected.images.clear();
                }
                Some(row) => {
                    row.state = state;
                    store.update_image(row).unwrap();
                }
            },
            Operation::Job => self.expected.jobs.insert(0, store.insert_job(&new_job()).unwrap()),
            Operation::FinishJob => {
                if let Some(job) = self.expected.jobs.first_mut() {
                    job.state = JobState::Done;
                    job.finished_at = now;
                    store.update_job(job, "").unwrap();
                }
            }
            Operation::CutOff => {
                let cut = store.jobs_cut_off(&[], now).unwrap();
                let open = self.expected.jobs.iter().filter(|job| job.finished_at.is_never()).count();
                assert_eq!(cut.len(), open);
                for job in cut {
                    let expected = self.expected.jobs.iter_mut().find(|expected| expected.id == job.id).unwrap();
                    assert_eq!((job.state, job.finished_at), (JobState::Cancelled, now));
                    *expected = job;
                }
            }
            Operation::Close => {
                self.store = None;
                self.store = Some(Store::open(&self.folder.path().join("nexus.db")).unwrap());
            }
            Operation::Crash => {
                let copy = copy_of(self.folder.path());
                self.store = Some(Store::open(&copy.path().join("nexus.db")).unwrap());
                self.folder = copy;
            }
        }
    }

    fn check(&self) {
        assert_eq!(Content::of(self.store.as_ref().unwrap()), self.expected);
    }
}

fn detach(disk: &mut WorkspaceRow, now: Timestamp) {
    (disk.vm, disk.state, disk.detached_at) = (None, WorkspaceState::Ready, now);
}

/// What a disk would hold if everything ended now.
fn copy_of(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in ["nexus.db", "nexus.db-wal"] {
        match fs::copy(folder.join(file), copy.path().join(file)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{file}: {error}"),
            _ => {}
        }
    }
    copy
}

fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn any_operations_survive_any_reopening(operations in prop::collection::vec(operation(), 1..60)) {
        let mut checked = Checked::new();
        for operation in &operations {
            checked.run(operation);
        }
        checked.check();
        checked.run(&Operation::Crash);
        checked.check();
        checked.run(&Operation::Close);
        checked.check();
    }

    #[test]
    fn a_log_that_was_cut_off_anywhere_holds_whole_transactions(
        operations in prop::collection::vec(operation(), 1..30),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let mut checked = Checked::new();
        let mut states = vec![(0, checked.expected.clone())];
        let log = |folder: &Path| folder.join("nexus.db-wal").metadata().map_or(0, |metadata| metadata.len());
        for operation in operations.iter().filter(|operation| !matches!(operation, Operation::Close | Operation::Crash)) {
            checked.run(operation);
            states.push((log(checked.folder.path()), checked.expected.clone()));
        }
        let end = log(checked.folder.path());
        for cut in cuts {
            let cut = cut.index(usize::try_from(end).unwrap() + 1) as u64;
            let copy = copy_of(checked.folder.path());
            let path = copy.path().join("nexus.db");
            if end > 0 {
                fs::OpenOptions::new().write(true).open(copy.path().join("nexus.db-wal")).unwrap().set_len(cut).unwrap();
            }
            let content = Content::of(&Store::open(&path).unwrap());
            let (_, expected) = states.iter().rfind(|(written, _)| *written <= cut).unwrap();
            prop_assert_eq!(&content, expected, "cut at {} of {}", cut, end);
        }
    }
}

/// Steps a VM for ever, and says each step that has been stored.
fn step_for_ever(path: &Path) {
    let mut store = Store::open(path).unwrap();
    let id = store.vms().unwrap().first().unwrap().id;
    let mut row = store.claim_vm(id).unwrap();
    for second in 0.. {
        let entry = step(&mut row, at(second));
        row.failure_count += 1;
        store.update_vm(&row, Some(&entry)).unwrap();
        let mut output = std::io::stdout().lock();
        writeln!(output, "\nstored {}", row.failure_count).unwrap();
        output.flush().unwrap();
    }
}

#[test]
fn what_a_killed_process_had_stored_is_there() {
    const TEST: &str = "crash::what_a_killed_process_had_stored_is_there";
    if let Some(path) = reexec::part() {
        return step_for_ever(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("nexus.db");
    let id = Store::open(&path).unwrap().insert_vm(&new_vm("demo")).unwrap().id;
    let mut before = 0;
    for round in 0..6 {
        let mut process = Killed::spawn(reexec::this_test(&[], TEST, path.to_str().unwrap()));
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let told = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("stored ").and_then(|count| count.parse::<u64>().ok()))
            .nth(fastrand::usize(1..60))
            .expect("the other process ended by itself");
        drop(process);

        let mut store = Store::open(&path).unwrap();
        let row = store.vm(id).unwrap();
        assert!(row.failure_count >= told && told > before, "round {round}: {} of {told}", row.failure_count);
        let history = store.history(id, u32::MAX).unwrap();
        assert_eq!(history.len() as u64, row.failure_count, "one entry for each transition");
        assert_eq!(history.first().map(|entry| entry.to), Some(row.lifecycle.state()));
        for pair in history.windows(2) {
            assert_eq!(pair[0].from, pair[1].to);
        }
        before = row.failure_count;
        assert_eq!(store.claim_vm(id).unwrap().generation, row.generation + 1);
    }
}
