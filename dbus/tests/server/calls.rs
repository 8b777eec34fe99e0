//! Calls against a real engine: what they refuse, and that their answers come after what they changed is shown.

use std::collections::HashMap;

use nexus_dbus::client::{
    GuestProxy, JobProxy, ManagerProxy, Options, Row, SupervisedProxy, VmProperties, VmProxy, WorkspaceProxy, objects,
};
use nexus_model::ErrorKind;
use zbus::{Connection, OwnedObjectPath, Variant};

use crate::{fixture::Fixture, signals::Signals};

fn process<const N: usize>(more: [(&'static str, Variant<'static>); N]) -> Options<'static> {
    HashMap::from(more).into_iter().chain([("vmm", Variant::from("process"))]).collect()
}

/// Creates a VM that is a plain process.
async fn create(fixture: &Fixture, name: &str) -> VmProxy<'static> {
    let manager = ManagerProxy::new(&fixture.client).await.unwrap();
    let path = manager.create_vm(name, process([])).await.unwrap();
    VmProxy::builder(&fixture.client).path(path).build().await.unwrap()
}

async fn wait(client: &Connection, job: OwnedObjectPath) -> Result<(), nexus_dbus::Error> {
    JobProxy::builder(client).path(job).build().await.unwrap().wait().await.map(drop)
}

fn kind_and_text<T: std::fmt::Debug>(answer: Result<T, nexus_dbus::Error>) -> (ErrorKind, String) {
    let error = answer.unwrap_err();
    (error.kind().unwrap_or_else(|| panic!("{error:?}")), error.to_string())
}

#[tokio::test]
async fn what_was_asked_for_is_there_when_the_answer_comes() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    let row = VmProperties::read(&fixture.client, vm.inner().path()).await.unwrap();
    assert_eq!((row.name.as_str(), row.state.as_str()), ("web", "created"));
    let job = vm.remove(Options::new()).await.unwrap();
    wait(&fixture.client, job).await.unwrap();
    assert!(objects(&fixture.client).await.unwrap().values().all(|object| object.vm.is_none()));
}

#[tokio::test]
async fn a_vm_is_started_used_and_stopped() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    wait(&fixture.client, vm.start(Options::new()).await.unwrap()).await.unwrap();
    fixture.engine.wait(&"web".parse().unwrap(), |vm| vm.guest.is_some()).await;
    fixture.board().flushed().await;
    let guest = GuestProxy::builder(&fixture.client).path(vm.inner().path().clone()).build().await.unwrap();
    let script = ["sh", "-c", "echo out; echo \"$WORD\" >&2; exit 7"];
    let env = Options::from([("env", Variant::from(HashMap::from([("WORD", "err")])))]);
    assert_eq!(guest.run(&script, env).await.unwrap(), (7, "out\n".to_owned(), "err\n".to_owned(), false));
    let (id, stdin, stdout, _) = guest.exec(&["cat"], Options::new()).await.unwrap();
    assert_eq!(guest.list_execs().await.unwrap(), [(id, vec!["cat".to_owned()])]);
    std::io::Write::write_all(&mut std::fs::File::from(std::os::fd::OwnedFd::from(stdin)), b"through\n").unwrap();
    let read = tokio::task::spawn_blocking(move || {
        std::io::read_to_string(std::fs::File::from(std::os::fd::OwnedFd::from(stdout))).unwrap()
    });
    assert_eq!(read.await.unwrap(), "through\n");
    assert_eq!(guest.wait_exec(id).await.unwrap(), (0, 0));
    let size = [("columns", Variant::from(101_u32)), ("rows", Variant::from(37_u32)), ("name", Variant::from("main"))];
    let script = ["sh", "-c", "stty size; read line; stty size"];
    let (id, stream) = guest.open_shell(&script, Options::from(size)).await.unwrap();
    let terminal = std::fs::File::from(std::os::fd::OwnedFd::from(stream));
    let mut lines = std::io::BufReader::new(terminal.try_clone().unwrap());
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        (line, lines)
    });
    let (line, lines) = first.await.unwrap();
    assert_eq!(line, "37 101\r\n");
    guest.resize_exec(id, 99, 1_000_000).await.unwrap();
    assert_eq!(guest.list_shells().await.unwrap(), [(id, "main".to_owned(), 99, 500, 1)]);
    std::io::Write::write_all(&mut &terminal, b"\r").unwrap();
    let rest = tokio::task::spawn_blocking(|| std::io::read_to_string(lines).unwrap());
    assert!(rest.await.unwrap().contains("500 99"));
    assert_eq!(guest.wait_exec(id).await.unwrap(), (0, 0));
    let half = Options::from([("columns", Variant::from(80_u32))]);
    let (kind, text) = kind_and_text(guest.open_shell(&[], half).await);
    assert_eq!((kind, text.as_str()), (ErrorKind::InvalidArgs, "`columns` and `rows` go together"));
    let (kind, text) = kind_and_text(guest.open_shell(&[], Options::from([("name", "a b".into())])).await);
    assert_eq!(kind, ErrorKind::InvalidArgs);
    assert!(text.contains("a terminal's name is 1 to 64"), "{text}");
    assert_eq!(kind_and_text(guest.resize_exec(id, 80, 24).await).0, ErrorKind::NotFound);
    wait(&fixture.client, vm.stop(Options::new()).await.unwrap()).await.unwrap();
    let row = VmProperties::read(&fixture.client, vm.inner().path()).await.unwrap();
    assert_eq!((row.state.as_str(), row.guest_ready, row.leader), ("stopped", false, 0));
    let history = vm.get_history(0).await.unwrap();
    let states: Vec<&str> = history.iter().map(|(_, state, ..)| state.as_str()).collect();
    assert_eq!(states, ["stopped", "stopping", "running", "starting"]);
    wait(&fixture.client, vm.remove(Options::new()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_setting_is_announced_once() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    let mut signals = Signals::of(&fixture.client).await;
    vm.set_label("A label").await.unwrap();
    vm.set_tags(&["a", "b"]).await.unwrap();
    vm.set_autostart(true).await.unwrap();
    vm.set_restart_policy("always").await.unwrap();
    fixture.board().flushed().await;
    wait(&fixture.client, vm.remove(Options::new()).await.unwrap()).await.unwrap();
    let heard = signals.until(|signal| signal.is("", "InterfacesRemoved") && signal.has("/vm/web")).await;
    for property in ["Label", "Tags", "Autostart", "RestartPolicy"] {
        let told = heard.iter().filter(|signal| signal.is("/vm/web", "PropertiesChanged") && signal.has(property));
        assert_eq!(told.count(), 1, "{property}: {heard:?}");
    }
}

#[tokio::test]
async fn a_setting_of_the_wrong_kind_is_refused() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    let (kind, text) = kind_and_text(vm.set_restart_policy("never").await);
    assert_eq!(
        (kind, text.as_str()),
        (ErrorKind::InvalidArgs, "`RestartPolicy`: `never` is none of no, on-failure, always")
    );
    let wrong = vm.inner().set_property("Label", 7_u32).await.map_err(nexus_dbus::Error::from);
    let (kind, text) = kind_and_text(wrong);
    assert_eq!((kind, text.as_str()), (ErrorKind::InvalidArgs, "property `Label` must be of type `s`, not `u`"));
    assert!(vm.inner().set_property("State", "running").await.is_err());
}

#[tokio::test]
async fn options_are_refused_before_anything_is_done() {
    let fixture = Fixture::with(|_| ()).await;
    let manager = ManagerProxy::new(&fixture.client).await.unwrap();
    for (options, wanted, says) in [
        (process([("vcpus", 2_i32.into())]), ErrorKind::InvalidArgs, "option `vcpus` must be of type `u`, not `i`"),
        (process([("vcpu", 2_u32.into())]), ErrorKind::InvalidArgs, "option `vcpu` is not known"),
        (process([("vcpus", 99_u32.into())]), ErrorKind::InvalidArgs, "use 1 to 32"),
        (process([("role", "boss".into())]), ErrorKind::InvalidArgs, "`boss` is none of portal, work, service"),
        (process([("kernel", "A".into())]), ErrorKind::InvalidName, "`kernel`: `A` is not a name"),
        (process([("dry-run", true.into())]), ErrorKind::NotImplemented, "option `dry-run` is reserved"),
        (process([("reason", "a\nb".into())]), ErrorKind::InvalidArgs, "must be one line"),
    ] {
        let (kind, text) = kind_and_text(manager.create_vm("web", options).await);
        assert_eq!(kind, wanted, "{text}");
        assert!(text.contains(says), "{text}");
    }
    let (kind, _) = kind_and_text(manager.create_vm("Web", process([])).await);
    assert_eq!(kind, ErrorKind::InvalidName);
    assert_eq!(manager.vm_count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_caller_without_a_bus_can_not_bind() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    let (kind, text) = kind_and_text(vm.start(Options::from([("bind", "caller".into())])).await);
    assert_eq!(kind, ErrorKind::InvalidArgs);
    assert!(text.contains("only on a message bus"), "{text}");
    let (kind, _) = kind_and_text(vm.start(Options::from([("bind", "forever".into())])).await);
    assert_eq!(kind, ErrorKind::InvalidArgs);
    assert_eq!(VmProperties::read(&fixture.client, vm.inner().path()).await.unwrap().state, "created");
}

#[tokio::test]
async fn the_engines_errors_keep_their_kind() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    let manager = ManagerProxy::new(&fixture.client).await.unwrap();
    assert_eq!(kind_and_text(manager.create_vm("web", process([])).await).0, ErrorKind::AlreadyExists);
    assert_eq!(kind_and_text(vm.pause().await).0, ErrorKind::InvalidState);
    assert_eq!(kind_and_text(manager.start_vm("db", Options::new()).await).0, ErrorKind::NotFound);
    let outside = manager.import_image("/etc", "etc", Options::new()).await;
    let outside = match outside {
        Ok(job) => wait(&fixture.client, job).await,
        Err(error) => Err(error),
    };
    assert_eq!(kind_and_text(outside).0, ErrorKind::PermissionDenied);
    let relative = manager.import_image("etc", "etc", Options::new()).await;
    let (kind, text) = kind_and_text(relative);
    assert_eq!(kind, ErrorKind::InvalidArgs);
    assert!(text.starts_with("etc is no absolute path: "), "{text}");
    assert_eq!(kind_and_text(manager.create_workspace("a", Options::new()).await).0, ErrorKind::InvalidArgs);
}

#[tokio::test]
async fn an_object_that_is_gone_is_unknown() {
    let fixture = Fixture::with(|_| ()).await;
    let gone = WorkspaceProxy::builder(&fixture.client).path("/org/workfort/Nexus1/workspace/a").build().await.unwrap();
    let error = gone.get_usage().await.unwrap_err();
    assert!(matches!(&error, nexus_dbus::Error::Bus(_)), "{error:?}");
}

#[tokio::test]
async fn an_actor_is_restarted_and_its_generation_goes_up() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    let builder = SupervisedProxy::builder(&fixture.client).path(vm.inner().path().clone());
    let machine = builder.cache_properties(zbus::proxy::CacheProperties::No).build().await.unwrap();
    let before = machine.generation().await.unwrap();
    machine.restart_actor(Options::from([("reason", "to see".into())])).await.unwrap();
    assert_eq!(machine.generation().await.unwrap(), before + 1);
    machine.reset_failed().await.unwrap();
    assert_eq!(machine.health().await.unwrap(), "ok");
}

#[tokio::test]
async fn the_log_level_can_be_set() {
    let fixture = Fixture::with(|_| ()).await;
    let log =
        zbus::Proxy::new(&fixture.client, nexus_dbus::SERVICE, nexus_dbus::LOG_CONTROL, "org.freedesktop.LogControl1");
    let log = log.await.unwrap();
    log.set_property("LogLevel", "debug").await.unwrap();
    assert_eq!(log.get_property::<String>("LogLevel").await.unwrap(), "debug");
    assert!(log.set_property("LogLevel", "loud").await.is_err());
    log.set_property("LogTarget", "console").await.unwrap();
    assert!(log.set_property("LogTarget", "syslog").await.is_err());
}

#[tokio::test]
async fn files_are_written_read_and_deleted() {
    let fixture = Fixture::with(|_| ()).await;
    let vm = create(&fixture, "web").await;
    wait(&fixture.client, vm.start(Options::new()).await.unwrap()).await.unwrap();
    fixture.engine.wait(&"web".parse().unwrap(), |vm| vm.guest.is_some()).await;
    fixture.board().flushed().await;
    let guest = GuestProxy::builder(&fixture.client).path(vm.inner().path().clone()).build().await.unwrap();
    let options = |key, value: Variant<'static>| Options::from([(key, value)]);
    let folders = || options("create-folders", Variant::from(true));

    guest.write_file("/files/secret", b"line\n", Options::new()).await.unwrap_err();
    guest.write_file("/files/secret", b"line\n", folders()).await.unwrap();
    guest.write_file("/files/secret", b"more\n", options("append", Variant::from(true))).await.unwrap();
    assert_eq!(guest.read_file("/files/secret", Options::new()).await.unwrap(), (b"line\nmore\n".to_vec(), false));
    let large = vec![7; 256 << 10];
    guest.write_file("/files/large", &large, options("mode", Variant::from(0o600_u32))).await.unwrap();
    guest.write_file("/files/large", b"x", options("append", Variant::from(true))).await.unwrap();
    assert_eq!(guest.read_file("/files/large", Options::new()).await.unwrap(), (large.clone(), true));
    let offset = options("offset", Variant::from(256_u64 << 10));
    assert_eq!(guest.read_file("/files/large", offset).await.unwrap(), (b"x".to_vec(), false));

    let too_large = guest.write_file("/files/large", &[7; (256 << 10) + 1], Options::new()).await;
    assert_eq!(kind_and_text(too_large).0, ErrorKind::InvalidArgs);
    let mode = options("mode", Variant::from(0o10_0000_u32));
    assert_eq!(kind_and_text(guest.write_file("/files/a", b"", mode).await).0, ErrorKind::InvalidArgs);
    let owner = options("owner", Variant::from("nobody-has-this-name"));
    assert_eq!(kind_and_text(guest.write_file("/files/a", b"", owner).await).0, ErrorKind::InvalidArgs);
    assert_eq!(kind_and_text(guest.read_file("files/secret", Options::new()).await).0, ErrorKind::InvalidArgs);
    assert_eq!(kind_and_text(guest.read_file("/files", Options::new()).await).0, ErrorKind::InvalidArgs);
    assert_eq!(kind_and_text(guest.read_file("/files/none", Options::new()).await).0, ErrorKind::NotFound);
    assert_eq!(kind_and_text(guest.delete_file("/files", Options::new()).await).0, ErrorKind::InvalidArgs);

    guest.delete_file("/files/large", Options::new()).await.unwrap();
    guest.delete_file("/files", options("recursive", Variant::from(true))).await.unwrap();
    assert_eq!(kind_and_text(guest.read_file("/files/secret", Options::new()).await).0, ErrorKind::NotFound);
}
