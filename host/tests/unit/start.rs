//! Starts that fail, that nobody waits for, and that find something left.

use std::{
    fs,
    io::Write as _,
    os::unix::{
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
};

use nexus_host::{
    process::{ProcessWatch, identify},
    unit::{
        Keeper, Log, ProgramRole, StartFailure, UnitError, UnitState,
        record::{Records, START_SOCKET, StartRequest},
    },
};
use nexus_model::{ErrorKind, ExitStatus, ProcessIdentity};
use nix::sched::{CloneFlags, unshare};

use crate::{
    scene::{SHIM, SOON, Scene, Unit, descendants, files, gone, program, shell},
    stand_in,
};

crate::both_ways!(
    a_program_that_is_missing,
    a_file_that_is_missing,
    a_folder_that_is_missing,
    a_sidecar_that_ends,
    a_shim_that_is_missing,
    a_log_that_is_a_link,
    the_vmm_waits_for_its_sidecar,
    a_start_that_is_dropped,
    a_start_that_is_dropped_at_any_time,
    what_an_interrupted_start_left,
);

async fn a_program_that_is_missing(scene: Scene) {
    let unit = scene.unit(vec![program(ProgramRole::Vmm, &["/usr/bin/no-such-vmm"])]);
    let failure = refused(&scene, &unit).await;
    assert_eq!(
        failure.to_string(),
        "cannot start the VMM /usr/bin/no-such-vmm: No such file or directory (os error 2)"
    );
}

async fn a_file_that_is_missing(scene: Scene) {
    let mut unit = scene.shell("exit 0");
    let sandbox = unit.spec.launch.sandbox.as_mut().unwrap();
    sandbox.read_only.push("/nonexistent/kernel".into());
    let failure = refused(&scene, &unit).await;
    assert_eq!(
        failure.to_string(),
        "cannot share /nonexistent/kernel for the sandbox: No such file or directory (os error 2)"
    );
}

async fn a_folder_that_is_missing(scene: Scene) {
    let mut unit = scene.shell("exit 0");
    unit.spec.launch.working_directory = "/home".into();
    let failure = refused(&scene, &unit).await;
    assert_eq!(failure.to_string(), "cannot enter /home for the sandbox: No such file or directory (os error 2)");
}

async fn a_sidecar_that_ends(scene: Scene) {
    let unit = with_sidecar_script(&scene, "exit 4");
    let failure = refused(&scene, &unit).await;
    let expected = StartFailure::Ended { role: ProgramRole::VsockSidecar, status: ExitStatus::Code(4) };
    assert_eq!(failure, expected);
}

async fn a_shim_that_is_missing(scene: Scene) {
    let bus = match scene.manager() {
        Some(manager) => Some(manager.bus().await),
        None => None,
    };
    let keeper = Keeper::detect("/nonexistent/nexus-shim".into(), bus).await;
    let unit = scene.shell("exit 0");
    let start = tokio::time::timeout(SOON, keeper.start(&unit.spec)).await.expect("it fails soon");
    let error = start.unwrap_err();
    assert!(matches!(error, UnitError::Keeper { .. } | UnitError::File { .. }), "{error:?}");
    scene.assert_nothing_left(&unit).await;
}

async fn a_log_that_is_a_link(scene: Scene) {
    let mut unit = scene.shell("echo overwritten");
    let (log, target) = (scene.folder().join("log"), scene.folder().join("target"));
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &log).unwrap();
    unit.spec.launch.programs[0].log = Some(Log { path: log, max_bytes: 1000 });
    let failure = refused(&scene, &unit).await;
    assert!(matches!(failure, StartFailure::Keeper { .. }), "{failure:?}");
    assert_eq!(fs::read_to_string(target).unwrap(), "");
}

async fn the_vmm_waits_for_its_sidecar(scene: Scene) {
    let mut unit = scene.unit(Vec::new());
    let socket = unit.shared.join("vhost.sock");
    let mut sidecar = stand_in::program(ProgramRole::VsockSidecar, stand_in::LISTEN, socket.to_str().unwrap());
    sidecar.ready_socket = Some(socket.clone());
    unit.spec.launch.programs = vec![sidecar, shell(ProgramRole::Vmm, "test -S vhost.sock && exit 9")];
    let started = scene.start(&unit).await;
    let end = scene.end(&unit, &started).await;
    assert_eq!((end.who, end.status), (ProgramRole::Vmm, ExitStatus::Code(9)));
}

async fn a_start_that_is_dropped(scene: Scene) {
    let unit = with_sidecar_script(&scene, "setsid sleep 1000 & echo up > up; wait");
    let up = unit.told("up");
    let start = scene.keeper.start(&unit.spec);
    tokio::select! {
        started = start => panic!("a sidecar that does not listen was waited for: {started:?}"),
        _ = up => {}
    }
    let keeper = keeper_of(&unit);
    let programs = descendants(keeper.pid);
    assert!(programs.len() >= 3, "init, the sidecar and what it left: {programs:?}");
    // Waits until the start is undone.
    scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
    for process in programs.iter().chain([&keeper]) {
        assert!(ProcessWatch::open(process).unwrap().is_none(), "{process:?} has gone");
    }
    scene.assert_nothing_left(&unit).await;
}

async fn a_start_that_is_dropped_at_any_time(scene: Scene) {
    let unit = scene.shell("sleep 1000");
    let mut started = 0;
    for step in 0..60 {
        let after = std::time::Duration::from_micros(500 * step);
        if let Ok(result) = tokio::time::timeout(after, scene.keeper.start(&unit.spec)).await {
            result.unwrap();
            started += 1;
        }
        scene.keeper.kill(unit.name(), unit.runtime_dir()).await.unwrap();
        scene.keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap();
        scene.assert_nothing_left(&unit).await;
    }
    println!("{started} of 60 were fast enough");
}

async fn what_an_interrupted_start_left(scene: Scene) {
    let unit = scene.shell("exit 0");
    drop(UnixListener::bind(unit.runtime_dir().join(START_SOCKET)).unwrap());
    fs::write(unit.runtime_dir().join("process.json.tmp"), "{").unwrap();
    if let Some(manager) = scene.manager() {
        manager.start_service(&format!("{}.service", unit.name()), &["/bin/sleep", "1000"]).await;
        assert_eq!(scene.keeper.list(scene.instance).await.unwrap(), [unit.name()]);
    }
    let started = scene.start(&unit).await;
    assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Code(0));
    scene.keeper.collect(unit.name(), unit.runtime_dir()).await.unwrap();
    scene.assert_nothing_left(&unit).await;
}

/// A nexusd that is killed in the middle of a start does not come to clean up.
#[tokio::test]
async fn a_start_whose_nexusd_is_killed() {
    let scene = Scene::shim().await;
    let unit = with_sidecar_script(&scene, "setsid sleep 1000 & echo up > up; wait");
    let up = unit.told("up");
    let (stream, keeper) = call(&unit);
    let request = StartRequest { unit: String::new(), launch: unit.spec.launch.clone() };
    writeln!(&stream, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    up.await;
    let programs = descendants(keeper.pid);
    assert!(programs.len() >= 3, "{programs:?}");
    drop(stream);
    gone(&keeper).await;
    for program in programs {
        assert!(ProcessWatch::open(&program).unwrap().is_none(), "{program:?} has gone");
    }
    assert_eq!(files(unit.runtime_dir()), [START_SOCKET, "vmm"]);
}

/// The same, before the keeper knew what to start.
#[tokio::test]
async fn a_start_whose_nexusd_is_killed_at_once() {
    let scene = Scene::shim().await;
    let unit = scene.shell("exit 0");
    let (stream, keeper) = call(&unit);
    drop(stream);
    gone(&keeper).await;
    assert!(Records::open(unit.runtime_dir()).unwrap().unwrap().process().unwrap().is_none());
}

#[tokio::test]
async fn two_keepers_do_not_share_a_folder() {
    let scene = Scene::shim().await;
    let unit = scene.shell("sleep 1000");
    let started = scene.start(&unit).await;
    let (stream, keeper) = call(&unit);
    let request = StartRequest { unit: String::new(), launch: unit.spec.launch.clone() };
    writeln!(&stream, "{}", serde_json::to_string(&request).unwrap()).unwrap();
    gone(&keeper).await;
    let state = scene.keeper.inspect(unit.name(), unit.runtime_dir()).await.unwrap();
    assert_eq!(state, UnitState::Running(Box::new(started)));
}

#[tokio::test]
async fn systemd_limits_what_it_starts() {
    let Some(scene) = Scene::systemd().await else { return };
    let unit = scene.shell("sleep 1000");
    let started = scene.start(&unit).await;
    let manager = scene.manager().unwrap();
    assert_eq!(started.unit, format!("{}.service", unit.name()));
    assert_eq!(manager.property(&started.unit, "MemoryMax").await, "268435456");
    assert_eq!(manager.property(&started.unit, "Slice").await, "nexus.slice");
    assert_eq!(manager.property(&started.unit, "InvocationID").await, started.invocation_id.unwrap());
    assert_eq!(manager.property(&started.unit, "MainPID").await, started.keeper.pid.to_string());
}

/// As on machines whose administrator forbids it: played in a namespace that allows no more of them.
#[test]
fn a_machine_without_namespaces() {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let mut command = stand_in::command(stand_in::WITHOUT_NAMESPACES, "");
    // SAFETY: writes to files and system calls.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
            fs::write("/proc/sys/user/max_user_namespaces", "0")
        });
    }
    assert!(command.status().unwrap().success());
}

/// A part of [`a_machine_without_namespaces`].
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn without_namespaces() {
    let scene = Scene::shim().await;
    let unit = scene.shell("exit 0");
    let error = scene.keeper.start(&unit.spec).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostUnsupported);
    assert!(matches!(error, UnitError::Start { source: StartFailure::Namespaces { .. }, .. }), "{error:?}");
    scene.assert_nothing_left(&unit).await;
}

/// A unit whose sidecar is never ready.
fn with_sidecar_script(scene: &Scene, script: &str) -> Unit {
    let mut unit = scene.unit(vec![shell(ProgramRole::VsockSidecar, script), shell(ProgramRole::Vmm, "exit 0")]);
    unit.spec.launch.programs[0].ready_socket = Some(unit.shared.join("vhost.sock"));
    unit
}

/// Why a unit does not start. Nothing of it is left then.
async fn refused(scene: &Scene, unit: &Unit) -> StartFailure {
    let start = tokio::time::timeout(SOON, scene.keeper.start(&unit.spec)).await.expect("it fails soon");
    scene.assert_nothing_left(unit).await;
    match start {
        Err(UnitError::Start { source, .. }) => source,
        other => panic!("it did not start because of itself: {other:?}"),
    }
}

/// The keeper of a unit that has no record yet.
fn keeper_of(unit: &Unit) -> ProcessIdentity {
    let arguments = format!("\0{}\0{}\0", unit.name(), unit.runtime_dir().display());
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let command_line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let process = identify(entry.file_name().to_str()?.parse().ok()?).unwrap()?;
        command_line.ends_with(&arguments).then_some(process)
    });
    // Its init has the same command line, and started later.
    processes.min_by_key(|process| (process.start_ticks, process.pid)).expect("it runs")
}

/// Plays nexusd: executes a keeper and takes its call.
fn call(unit: &Unit) -> (UnixStream, ProcessIdentity) {
    let listener = UnixListener::bind(unit.runtime_dir().join(START_SOCKET)).unwrap();
    let arguments = [PathBuf::from("--detach"), unit.name().into(), unit.runtime_dir().into()];
    assert!(Command::new(SHIM).args(arguments).status().unwrap().success());
    let (stream, _) = listener.accept().unwrap();
    let peer = rustix::net::sockopt::socket_peercred(&stream).unwrap();
    let keeper = identify(peer.pid.as_raw_nonzero().get().cast_unsigned()).unwrap().expect("it waits");
    (stream, keeper)
}
