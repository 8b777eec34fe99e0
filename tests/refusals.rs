//! What is asked wrongly, or can't be had: each is refused with the contract's error and a sentence that says what to do,
//! and everything is as it was.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    fmt::Debug,
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use nexus_dbus::{
    Error,
    client::{ImageProxy, Options, WorkspaceProxy},
};
use nexus_model::ErrorKind;
use nexus_tests::{Home, TestBus, TestDaemon, process};
use tokio::process::Command;
use zbus::{OwnedObjectPath, Variant};

/// Everything that could be left behind.
async fn everything(daemon: &TestDaemon) -> (Vec<String>, Vec<PathBuf>, usize) {
    (daemon.shown().await, daemon.home.things(), daemon.home.processes().len())
}

fn sentence<T: Debug>(answer: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), Some(kind), "{error:?}");
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains('\n') && !text.is_empty(), "{text:?} is no sentence");
}

/// How a job ends that was begun, or why it was not.
async fn end(daemon: &TestDaemon, job: Result<OwnedObjectPath, Error>) -> Result<(), Error> {
    daemon.done(&job?).await
}

/// A folder that an image can be made of.
fn root_file_system(home: &Home) -> PathBuf {
    let folder = home.user().join("rootfs");
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/os-release"), "ID=tiny\nVERSION_ID=1\n").unwrap();
    folder
}

async fn import(daemon: &TestDaemon, path: &Path, name: &str) -> Result<(), Error> {
    let job = daemon.manager().await.import_image(path.to_str().unwrap(), name, Options::new()).await;
    end(daemon, job).await
}

#[tokio::test]
async fn arguments_that_make_no_sense() {
    let daemon = TestDaemon::start().await;
    let manager = daemon.manager().await;
    let before = everything(&daemon).await;
    for name in ["Web", "a_b", "-a", "a-", "1a", "a.b", "ä", "a/b", "..", &"a".repeat(64)] {
        sentence(manager.create_vm(name, process([])).await, ErrorKind::InvalidName, &["name"]);
        let base = Options::from([("base", "base".into())]);
        sentence(manager.create_workspace(name, base).await, ErrorKind::InvalidName, &["name"]);
    }
    for name in ["", "a/b", "..", "A", &"a".repeat(65)] {
        sentence(manager.import_image("/tmp", name, Options::new()).await, ErrorKind::InvalidName, &["name"]);
    }
    for (option, kind, words) in [
        (("vcpu", Variant::from(2_u32)), ErrorKind::InvalidArgs, &["`vcpu`", "vcpus"][..]),
        (("vcpus", "two".into()), ErrorKind::InvalidArgs, &["`vcpus`", "`u`", "`s`"]),
        (("vcpus", 0_u32.into()), ErrorKind::InvalidArgs, &["1 to 32"]),
        (("memory-bytes", 1_u64.into()), ErrorKind::InvalidArgs, &["memory"]),
        (("vmm", "vmware".into()), ErrorKind::InvalidArgs, &["`vmware`", "qemu"]),
        (("restart-policy", "never".into()), ErrorKind::InvalidArgs, &["`never`", "on-failure"]),
        (("image", "nothing".into()), ErrorKind::NotFound, &["`nothing`", "import"]),
        (("workspace", "nothing".into()), ErrorKind::NotFound, &["`nothing`"]),
        (("dry-run", true.into()), ErrorKind::NotImplemented, &["`dry-run`"]),
    ] {
        let options = process([]).into_iter().chain([option]).collect();
        sentence(manager.create_vm("web", options).await, kind, words);
    }
    sentence(manager.create_workspace("a", Options::new()).await, ErrorKind::InvalidArgs, &["`base`"]);
    let nothing = Options::from([("base", "nothing".into())]);
    sentence(manager.create_workspace("a", nothing).await, ErrorKind::NotFound, &["`nothing`"]);
    sentence(manager.import_asset("coffee", "/tmp/a", Options::new()).await, ErrorKind::InvalidArgs, &["`coffee`"]);
    sentence(manager.get_vm("nobody").await, ErrorKind::NotFound, &["`nobody`"]);
    sentence(manager.get_job(4711).await, ErrorKind::NotFound, &["4711"]);
    sentence(manager.get_vm_by_pid(1).await, ErrorKind::NotFound, &["1"]);
    sentence(manager.start_vm("nobody", Options::new()).await, ErrorKind::NotFound, &["`nobody`"]);
    assert_eq!(everything(&daemon).await, before);
    assert_eq!(manager.state().await.unwrap(), "running");
}

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let daemon = TestDaemon::start().await;
    let before = everything(&daemon).await;
    let user = daemon.home.user();
    let text = user.join("text");
    fs::write(&text, "no file system\n".repeat(1000)).unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    let link = user.join("link");
    std::os::unix::fs::symlink(outside.path(), &link).unwrap();
    for (path, kind, words) in [
        ("images/a", ErrorKind::InvalidArgs, &["absolute"][..]),
        (user.join("nothing").to_str().unwrap(), ErrorKind::NotFound, &["nothing"]),
        (outside.path().to_str().unwrap(), ErrorKind::PermissionDenied, &["paths.allow"]),
        (link.to_str().unwrap(), ErrorKind::PermissionDenied, &["paths.allow"]),
        ("/proc/self/mem", ErrorKind::PermissionDenied, &["paths.allow"]),
        (text.to_str().unwrap(), ErrorKind::InvalidArgs, &["no ext4 file system"]),
    ] {
        let manager = daemon.manager().await;
        let job = manager.import_image(path, "a", Options::new()).await;
        sentence(end(&daemon, job).await, kind, words);
        let job = manager.import_asset("kernel", path, Options::new()).await;
        let words = if path == text.to_str().unwrap() { &["text"][..] } else { words };
        sentence(end(&daemon, job).await, kind, words);
        assert_eq!(everything(&daemon).await, before, "{path}");
    }
    let folder = root_file_system(&daemon.home);
    let small = Options::from([("size-bytes", 4096_u64.into())]);
    let job = daemon.manager().await.import_image(folder.to_str().unwrap(), "a", small).await;
    sentence(end(&daemon, job).await, ErrorKind::InvalidArgs, &["4096"]);
    assert_eq!(everything(&daemon).await, before);
}

#[tokio::test]
async fn a_file_that_may_not_be_read() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let secret = home.user().join("secret");
    fs::write(&secret, "not for everybody").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = TestDaemon::command(&home, &bus.address());
    if nix::unistd::geteuid().is_root() {
        // For root nothing is unreadable, unless it leaves that right behind.
        command = within(&command, &["setpriv", "--bounding-set=-dac_override,-dac_read_search"]);
    }
    let daemon = TestDaemon::start_with(home, bus, command).await;
    let before = everything(&daemon).await;
    sentence(import(&daemon, &secret, "a").await, ErrorKind::PermissionDenied, &["secret", "ermission denied"]);
    assert_eq!(everything(&daemon).await, before);
}

#[tokio::test]
async fn what_is_in_use_stays() {
    let daemon = TestDaemon::start().await;
    let manager = daemon.manager().await;
    let folder = root_file_system(&daemon.home);
    import(&daemon, &folder, "base").await.unwrap();
    let web = daemon.run("web", [("image", "base".into())]).await;
    let before = everything(&daemon).await;

    sentence(import(&daemon, &folder, "base").await, ErrorKind::AlreadyExists, &["`base`"]);
    sentence(manager.create_vm("web", process([])).await, ErrorKind::AlreadyExists, &["`web`"]);
    let taken = manager.create_workspace("web", Options::from([("base", "base".into())])).await;
    sentence(end(&daemon, taken).await, ErrorKind::AlreadyExists, &["`web`"]);
    let image = manager.get_image("base").await.unwrap();
    let image = ImageProxy::builder(&daemon.client).path(image).build().await.unwrap();
    sentence(image.remove(Options::new()).await, ErrorKind::InUse, &["`base`", "web"]);
    let disk = manager.get_workspace("web").await.unwrap();
    let disk = WorkspaceProxy::builder(&daemon.client).path(disk).build().await.unwrap();
    sentence(disk.remove(Options::new()).await, ErrorKind::InUse, &["`web`", "remove the VM first"]);
    let thief = manager.create_vm("thief", process([("workspace", "web".into())])).await;
    sentence(thief, ErrorKind::InUse, &["`web`"]);

    let vm = daemon.vm(&web).await;
    let job = vm.start(Options::new()).await;
    sentence(end(&daemon, job).await, ErrorKind::InvalidState, &["running"]);
    sentence(vm.resume().await, ErrorKind::InvalidState, &["running already"]);
    sentence(vm.remove(Options::new()).await, ErrorKind::InvalidState, &["running", "stop it first"]);
    assert_eq!(everything(&daemon).await, before);
    assert_eq!(daemon.shell(&web, "echo undisturbed").await, (0, "undisturbed\n".to_owned()));
}

#[tokio::test]
async fn a_vm_that_does_not_run_does_nothing() {
    let daemon = TestDaemon::start().await;
    let web = daemon.create("web", []).await;
    let before = everything(&daemon).await;
    let vm = daemon.vm(&web).await;
    sentence(vm.pause().await, ErrorKind::InvalidState, &["created"]);
    sentence(vm.resume().await, ErrorKind::InvalidState, &["created"]);
    // An interface that is not there is how the bus says that there is no guest.
    let error = daemon.guest(&web).await.run(&["true"], Options::new()).await.unwrap_err();
    let Error::Bus(zbus::Error::FDO(error)) = error else { panic!("{error:?}") };
    assert!(matches!(*error, zbus::fdo::Error::UnknownInterface(_) | zbus::fdo::Error::UnknownMethod(_)), "{error:?}");
    assert_eq!(everything(&daemon).await, before);
}

#[tokio::test]
async fn a_guest_that_is_asked_wrongly() {
    let daemon = TestDaemon::start().await;
    let web = daemon.run("web", []).await;
    let guest = daemon.guest(&web).await;
    sentence(guest.run(&[], Options::new()).await, ErrorKind::InvalidArgs, &["argv"]);
    sentence(guest.run(&["no-such-program"], Options::new()).await, ErrorKind::NotFound, &["no-such-program"]);
    let nowhere = Options::from([("working-directory", "/nowhere".into())]);
    let words = &["there is no folder `/nowhere` in the guest"];
    sentence(guest.run(&["true"], nowhere).await, ErrorKind::InvalidArgs, words);
    let nobody = Options::from([("user", "nobody-at-all".into())]);
    let words = &["there is no user `nobody-at-all` in the guest"];
    sentence(guest.run(&["true"], nobody).await, ErrorKind::InvalidArgs, words);
    let short = Options::from([("timeout-usec", 200_000_u64.into())]);
    sentence(guest.run(&["sleep", "1000"], short).await, ErrorKind::Timeout, &["killed"]);
    for unknown in [guest.wait_exec(4711).await.map(|_| ()), guest.signal_exec(4711, 9).await] {
        sentence(unknown, ErrorKind::NotFound, &["command 4711 is unknown"]);
    }
    assert_eq!(guest.list_execs().await.unwrap(), []);
    assert_eq!(daemon.shell(&web, "echo well").await, (0, "well\n".to_owned()));
}

#[tokio::test]
async fn a_job_that_has_ended_is_not_cancelled() {
    let daemon = TestDaemon::start().await;
    let web = daemon.create("web", []).await;
    let job = daemon.vm(&web).await.start(Options::new()).await.unwrap();
    daemon.done(&job).await.unwrap();
    let cancelled = daemon.job(&job).await.cancel(Options::new()).await;
    sentence(cancelled, ErrorKind::InvalidState, &["has ended", "done"]);
    assert_eq!(daemon.read(&web).await.state, "running");
}

#[tokio::test]
async fn more_memory_than_there_is() {
    let daemon = TestDaemon::start().await;
    let manager = daemon.manager().await;
    let before = everything(&daemon).await;
    let huge = process([("memory-bytes", (1_u64 << 50).into())]);
    let refused = manager.create_vm("huge", huge).await;
    sentence(refused, ErrorKind::ResourcesExhausted, &["1073741824 MiB", "MiB at most"]);
    assert_eq!(everything(&daemon).await, before);
}

#[tokio::test]
async fn a_machine_without_a_vmm() {
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    home.configure("");
    let mut command = TestDaemon::command(&home, &bus.address());
    command.env("PATH", home.path());
    let daemon = TestDaemon::start_with(home, bus, command).await;
    let manager = daemon.manager().await;
    assert_eq!(manager.vmm_available().await.unwrap(), [""; 0]);
    let before = everything(&daemon).await;
    sentence(manager.create_vm("web", Options::new()).await, ErrorKind::HostUnsupported, &["qemu"]);
    sentence(manager.create_vm("web", process([])).await, ErrorKind::PermissionDenied, &["vmm.allow-process"]);
    let firecracker = Options::from([("vmm", "firecracker".into())]);
    sentence(manager.create_vm("web", firecracker).await, ErrorKind::HostUnsupported, &["firecracker"]);
    assert_eq!(everything(&daemon).await, before);
}

#[tokio::test]
async fn no_space_left() {
    if !nix::unistd::geteuid().is_root() {
        nexus_tests::not_run("it needs root, for a small disk of its own");
        return;
    }
    let (home, bus) = (Arc::new(Home::new()), Arc::new(TestBus::start()));
    let folder = root_file_system(&home);
    let fill = |bytes: usize| {
        let mut noise = vec![0; bytes];
        fastrand::fill(&mut noise);
        File::create(folder.join("noise")).unwrap().write_all(&noise).unwrap();
    };
    let mount = format!("mount -t tmpfs -o size=24m tmpfs '{}' && exec \"$@\"", home.path().join("data").display());
    let command = TestDaemon::command(&home, &bus.address());
    let command = within(&command, &["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"]);
    let daemon = TestDaemon::start_with(home, bus, command).await;
    // The disk is seen by the daemon alone.
    let data = PathBuf::from(format!("/proc/{}/root{}", daemon.pid(), daemon.home.data().display()));
    let files = || {
        let found = std::process::Command::new("find").arg(&data).args(["-mindepth", "2"]).output().unwrap();
        assert!(found.status.success());
        String::from_utf8(found.stdout).unwrap()
    };
    let before = (daemon.shown().await, files());
    fill(40 << 20);
    sentence(import(&daemon, &folder, "big").await, ErrorKind::ResourcesExhausted, &["space"]);
    assert_eq!((daemon.shown().await, files()), before);

    fill(14 << 20);
    import(&daemon, &folder, "base").await.unwrap();
    let before = (daemon.shown().await, files());
    let base = Options::from([("base", "base".into())]);
    let job = daemon.manager().await.create_workspace("disk", base).await;
    sentence(end(&daemon, job).await, ErrorKind::ResourcesExhausted, &["space"]);
    assert_eq!((daemon.shown().await, files()), before);

    // A VM whose disk can't be made is refused when it is to start, and goes without a trace.
    let web = daemon.create("web", [("image", "base".into())]).await;
    let job = daemon.vm(&web).await.start(Options::new()).await;
    sentence(end(&daemon, job).await, ErrorKind::ResourcesExhausted, &["workspace `web`", "failed", "no space left"]);
    let job = daemon.vm(&web).await.remove(Options::new()).await;
    end(&daemon, job).await.unwrap();
    assert_eq!((daemon.shown().await, files()), before);
    assert_eq!(daemon.manager().await.state().await.unwrap(), "running");
}

/// The same command, executed by another one.
fn within(command: &Command, outer: &[&str]) -> Command {
    let inner = command.as_std();
    let mut command = Command::new(outer[0]);
    command.args(&outer[1..]).arg(inner.get_program()).args(inner.get_args()).env_clear();
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}
