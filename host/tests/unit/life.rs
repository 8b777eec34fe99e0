//! From a unit's start to its end.

use std::fs;

use futures_util::future::join_all;
use nexus_host::{
    process::{ProcessWatch, Signal},
    unit::{Log, ProgramRole, UnitError, UnitState, record::Records},
};
use nexus_model::{ExitStatus, InstanceId, ProcessIdentity};

use crate::{
    scene::{Scene, Unit, descendants, files, gone, shell, signal},
    stand_in,
};

crate::both_ways!(
    an_exit_code_is_known,
    a_signal_is_known,
    a_new_nexusd_finds_what_runs,
    the_end_is_known_though_nobody_was_there,
    all_end_when_the_sidecar_does,
    all_end_when_the_vmm_does,
    all_end_when_the_keeper_is_killed,
    killed_is_gone,
    killed_without_a_sandbox_is_gone,
    a_keeper_that_is_asked_to_end_asks_the_vmm,
    a_vmm_that_ignores_the_question_is_killed,
    what_runs_is_not_collected,
    a_start_takes_the_place_of_what_is_left_of_an_older_run,
    instances_do_not_meet,
    output_is_kept_within_bounds,
    many_start_and_end_at_once,
);

async fn an_exit_code_is_known(scene: Scene) {
    let unit = scene.shell("exit 7");
    let started = scene.start(&unit).await;
    let end = scene.end(&unit, &started).await;
    assert_eq!((end.who, end.status), (ProgramRole::Vmm, ExitStatus::Code(7)));
    assert_eq!(inspect(&scene, &unit).await, UnitState::Ended(end));
    collect(&scene, &unit).await;
    assert_eq!(inspect(&scene, &unit).await, UnitState::Absent);
    scene.assert_nothing_left(&unit).await;
}

async fn a_signal_is_known(scene: Scene) {
    let unit = scene.shell("kill -SEGV $$");
    let started = scene.start(&unit).await;
    assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Signal(Signal::SIGSEGV as i32));
}

async fn a_new_nexusd_finds_what_runs(scene: Scene) {
    let unit = scene.shell("read go < gate; exit 3");
    unit.gate();
    let started = scene.start(&unit).await;
    assert_eq!(started.unit.is_empty(), scene.manager().is_none());
    assert_eq!(started.endpoint, unit.spec.launch.endpoint);
    assert_eq!(started.invocation_id.as_ref().map(String::len), scene.manager().map(|_| 32));
    let keeper = scene.another_keeper().await;
    assert_eq!(
        keeper.inspect(unit.name(), unit.runtime_dir()).await.unwrap(),
        UnitState::Running(Box::new(started.clone()))
    );
    assert_eq!(keeper.list(scene.instance).await.unwrap(), [unit.name()]);
    unit.let_go().await;
    gone(&started.leader).await;
    assert_eq!(keeper.ended(unit.name(), unit.runtime_dir()).await.unwrap().status, ExitStatus::Code(3));
}

async fn the_end_is_known_though_nobody_was_there(scene: Scene) {
    let unit = scene.shell("read go < gate; exit 4");
    unit.gate();
    let started = scene.start(&unit).await;
    unit.let_go().await;
    gone(&started.keeper).await;
    let keeper = scene.another_keeper().await;
    let state = keeper.inspect(unit.name(), unit.runtime_dir()).await.unwrap();
    assert!(matches!(state, UnitState::Ended(end) if end.status == ExitStatus::Code(4)), "{state:?}");
    keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap();
    scene.assert_nothing_left(&unit).await;
}

async fn all_end_when_the_sidecar_does(scene: Scene) {
    let unit = with_sidecar(&scene, "read go < gate; exit 5", "sleep 1000");
    unit.gate();
    let started = scene.start(&unit).await;
    unit.let_go().await;
    let end = scene.end(&unit, &started).await;
    assert_eq!((end.who, end.status), (ProgramRole::VsockSidecar, ExitStatus::Code(5)));
}

async fn all_end_when_the_vmm_does(scene: Scene) {
    let unit = with_sidecar(&scene, "sleep 1000", "read go < gate; exit 6");
    unit.gate();
    let started = scene.start(&unit).await;
    let sidecar = sidecar(&unit);
    unit.let_go().await;
    let end = scene.end(&unit, &started).await;
    assert_eq!((end.who, end.status), (ProgramRole::Vmm, ExitStatus::Code(6)));
    assert!(ProcessWatch::open(&sidecar).unwrap().is_none(), "the sidecar has gone, too");
}

async fn all_end_when_the_keeper_is_killed(scene: Scene) {
    let unit = with_sidecar(&scene, "sleep 1000", "sleep 1000");
    let started = scene.start(&unit).await;
    let sidecar = sidecar(&unit);
    signal(&started.keeper, Signal::SIGKILL);
    let end = scene.end(&unit, &started).await;
    let known = if scene.manager().is_some() { ExitStatus::Signal(9) } else { ExitStatus::Unknown };
    assert_eq!(end.status, known);
    gone(&sidecar).await;
    // Whoever asks later hears the same.
    assert_eq!(inspect(&scene, &unit).await, UnitState::Ended(end));
    collect(&scene, &unit).await;
    scene.assert_nothing_left(&unit).await;
}

async fn killed_is_gone(scene: Scene) {
    let unit = scene.shell("setsid sleep 1000 & echo up > up; wait");
    let up = unit.told("up");
    let started = scene.start(&unit).await;
    up.await;
    let processes = descendants(started.keeper.pid);
    assert!(processes.len() >= 3, "init, the shell and what it left: {processes:?}");
    scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
    for process in processes {
        assert!(ProcessWatch::open(&process).unwrap().is_none(), "{process:?} has gone");
    }
    let state = inspect(&scene, &unit).await;
    assert!(matches!(state, UnitState::Ended(end) if end.status == ExitStatus::Signal(9)), "{state:?}");
    // Twice is not too often.
    scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
}

async fn killed_without_a_sandbox_is_gone(scene: Scene) {
    let mut unit = scene.shell("setsid sleep 1000 & echo up > up; wait");
    unit.spec.launch.sandbox = None;
    let up = unit.told("up");
    let started = scene.start(&unit).await;
    up.await;
    let processes = descendants(started.keeper.pid);
    assert_eq!(processes.len(), 2, "{processes:?}");
    scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
    for process in processes {
        assert!(ProcessWatch::open(&process).unwrap().is_none(), "{process:?} has gone");
    }
}

async fn a_keeper_that_is_asked_to_end_asks_the_vmm(scene: Scene) {
    let unit = scene.shell("trap 'exit 8' TERM; echo up > up; while :; do sleep 1000 & wait; done");
    let up = unit.told("up");
    let started = scene.start(&unit).await;
    up.await;
    signal(&started.keeper, Signal::SIGTERM);
    assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Code(8));
}

async fn a_vmm_that_ignores_the_question_is_killed(scene: Scene) {
    let unit = scene.shell("trap '' TERM; echo up > up; while :; do sleep 1000 & wait; done");
    let up = unit.told("up");
    let started = scene.start(&unit).await;
    up.await;
    signal(&started.keeper, Signal::SIGTERM);
    assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Signal(9));
}

async fn what_runs_is_not_collected(scene: Scene) {
    let unit = scene.shell("sleep 1000");
    let started = scene.start(&unit).await;
    let error = scene.keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap_err();
    assert!(matches!(error, UnitError::Running(_)), "{error:?}");
    assert_eq!(inspect(&scene, &unit).await, UnitState::Running(Box::new(started)));
}

async fn a_start_takes_the_place_of_what_is_left_of_an_older_run(scene: Scene) {
    let unit = scene.shell("sleep 1000");
    let first = scene.start(&unit).await;
    // It still runs.
    let second = scene.start(&unit).await;
    assert!(ProcessWatch::open(&first.leader).unwrap().is_none(), "{first:?} has gone");
    assert_ne!(first.leader, second.leader);
    // It has ended, and was not collected.
    scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
    let third = scene.start(&unit).await;
    assert_eq!(inspect(&scene, &unit).await, UnitState::Running(Box::new(third)));
}

async fn instances_do_not_meet(scene: Scene) {
    let (mine, mut other) = (scene.shell("sleep 1000"), scene.shell("sleep 1000"));
    let id = mine.spec.name.rsplit_once('-').unwrap().1;
    let instance = InstanceId::random().unwrap();
    other.spec.name = format!("nexus-{instance}-{id}");
    scene.start(&mine).await;
    let other_started = scene.start(&other).await;
    assert_eq!(scene.keeper.list(scene.instance).await.unwrap(), [mine.name()]);
    assert_eq!(scene.keeper.list(instance).await.unwrap(), [other.name()]);
    scene.keeper.kill(mine.name(), mine.runtime_dir()).await.unwrap();
    collect(&scene, &mine).await;
    assert_eq!(inspect(&scene, &other).await, UnitState::Running(Box::new(other_started)));
}

async fn output_is_kept_within_bounds(scene: Scene) {
    const MAX: u64 = 16 << 10;
    let mut unit = scene.shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo last >&2");
    let path = unit.runtime_dir().join("vmm.log");
    unit.spec.launch.programs[0].log = Some(Log { path: path.clone(), max_bytes: MAX });
    let started = scene.start(&unit).await;
    scene.end(&unit, &started).await;
    let (new, old) =
        (fs::read_to_string(&path).unwrap(), fs::read_to_string(unit.runtime_dir().join("vmm.log.1")).unwrap());
    assert!(new.ends_with("line 19999\nlast\n"), "the end is there");
    // What comes at once stays together: at most a pipe full of it.
    assert!(new.len() as u64 <= MAX.max(64 << 10) && old.len() as u64 <= MAX.max(64 << 10));
    assert_eq!(files(unit.runtime_dir()), ["exit.json", "process.json", "vmm", "vmm.log", "vmm.log.1"]);
}

/// More than the 64 messages that a bus connection queues for each who listens: nobody may wait for another's.
async fn many_start_and_end_at_once(scene: Scene) {
    let units: Vec<_> = (0..70).map(|_| scene.shell("sleep 1000")).collect();
    join_all(units.iter().map(|unit| scene.start(unit))).await;
    assert_eq!(scene.keeper.list(scene.instance).await.unwrap().len(), units.len());
    join_all(units.iter().map(async |unit| {
        scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
        collect(&scene, unit).await;
    }))
    .await;
    assert_eq!(scene.keeper.list(scene.instance).await.unwrap(), Vec::<String>::new());
}

/// Counts what its process has open, so it is a process of its own: see [`stand_in::RUN_A_HUNDRED`].
pub(crate) async fn run_a_hundred(scene: Scene) {
    let unit = scene.shell("exit 0");
    let run = async || {
        let started = scene.start(&unit).await;
        assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Code(0));
        collect(&scene, &unit).await;
    };
    // What is opened once for all is not counted.
    run().await;
    let before = (files("/proc/self/fd".as_ref()).len(), descendants(std::process::id()).len());
    for _ in 0..100 {
        run().await;
    }
    assert_eq!((files("/proc/self/fd".as_ref()).len(), descendants(std::process::id()).len()), before);
    scene.assert_nothing_left(&unit).await;
}

#[test]
fn a_hundred_runs_leave_nothing_with_the_shim_alone() {
    stand_in::run(stand_in::RUN_A_HUNDRED, stand_in::WITH_THE_SHIM_ALONE);
}

#[test]
fn a_hundred_runs_leave_nothing_with_systemd() {
    stand_in::run(stand_in::RUN_A_HUNDRED, stand_in::WITH_SYSTEMD);
}

fn with_sidecar(scene: &Scene, sidecar: &str, vmm: &str) -> Unit {
    scene.unit(vec![shell(ProgramRole::VsockSidecar, sidecar), shell(ProgramRole::Vmm, vmm)])
}

fn sidecar(unit: &Unit) -> ProcessIdentity {
    let records = Records::open(unit.runtime_dir()).unwrap().unwrap();
    let record = records.process().unwrap().unwrap();
    let [sidecar] = &record.others[..] else { panic!("one sidecar: {record:?}") };
    assert_eq!(sidecar.role, ProgramRole::VsockSidecar);
    sidecar.process.clone()
}

async fn inspect(scene: &Scene, unit: &Unit) -> UnitState {
    scene.keeper.inspect(unit.name(), unit.runtime_dir()).await.unwrap()
}

async fn collect(scene: &Scene, unit: &Unit) {
    scene.keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap();
}
