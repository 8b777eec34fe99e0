//! That a VMM which its guest has taken over reaches nothing but its own.

use std::{
    fs::{self, File},
    io::Write as _,
    net::TcpListener,
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
};

use nexus_host::unit::ProgramRole;
use nexus_model::ExitStatus;
use nix::errno::Errno;
use tempfile::NamedTempFile;

use crate::{
    escape::{Attempt, Plan, Report},
    scene::{Scene, program},
    stand_in,
};

crate::both_ways!(a_vmm_cannot_get_out, its_sockets_can_be_reached);

/// A descriptor that nexusd forgot to protect, by a number that nothing else has.
const LEAKED: i32 = 200;

async fn a_vmm_cannot_get_out(scene: Scene) {
    let host = Host::new(&scene);
    let neighbour = scene.shell("sleep 1000");
    let neighbour_started = scene.start(&neighbour).await;
    let neighbour_file = neighbour.shared.join("config.json");
    fs::write(&neighbour_file, "{}").unwrap();

    let mut unit = scene.unit(vec![program(ProgramRole::Vmm, &["/bin/true"])]);
    let (kernel, disk) = (host.file("kernel"), host.file("disk"));
    let sandbox = unit.spec.launch.sandbox.as_mut().unwrap();
    sandbox.read_only.push(kernel.clone());
    sandbox.read_write.push(disk.clone());

    let mut forbidden = vec![
        Attempt::ConnectAbstract(host.abstract_name.clone()),
        Attempt::ConnectTcp(host.tcp.local_addr().unwrap().port()),
        Attempt::Read(host.file("home/secret")),
        Attempt::Read("/etc/passwd".into()),
        Attempt::List("/proc".into()),
        Attempt::List("/sys".into()),
        Attempt::List("/run".into()),
        Attempt::Read(host.file("nexus.db")),
        Attempt::Write(host.file("nexus.db")),
        Attempt::Read(neighbour_file.clone()),
        Attempt::Write(neighbour_file),
        Attempt::Read(host.file("neighbour-disk")),
        Attempt::Read(neighbour.runtime_dir().join("process.json")),
        Attempt::Create(unit.runtime_dir().join("forged.json")),
        Attempt::Write(kernel.clone()),
        Attempt::Signal(std::process::id().cast_signed()),
        Attempt::Signal(host.victim.0.id().cast_signed()),
        Attempt::Signal(neighbour_started.leader.pid.cast_signed()),
        Attempt::Trace(host.victim.0.id().cast_signed()),
        Attempt::Read(format!("/proc/{}/environ", host.victim.0.id()).into()),
        Attempt::Descriptor(LEAKED),
        Attempt::SharedMemory(host.memory.0),
        Attempt::NewUserNamespace,
    ];
    forbidden.extend(host.sockets.iter().cloned().map(Attempt::Connect));
    forbidden.extend(host.key.map(Attempt::Key));
    forbidden.extend(host.at_home.iter().map(|file| Attempt::Read(file.path().to_owned())));
    if nix::unistd::geteuid().is_root() {
        // What no other user can do outside either.
        forbidden.extend([Attempt::Capability, Attempt::Create("/usr/nexus-was-here".into())]);
    }
    let needed = vec![
        Attempt::Read(kernel),
        Attempt::Read(disk.clone()),
        Attempt::Write(disk),
        Attempt::Create(unit.shared.join("new")),
        Attempt::Listen(unit.shared.join("api.sock")),
        Attempt::Read("/dev/urandom".into()),
        Attempt::Read("/dev/zero".into()),
        Attempt::Write("/dev/null".into()),
        Attempt::Read("/usr/bin/env".into()),
    ];

    let plan =
        Plan { attempts: forbidden.iter().chain(&needed).cloned().collect(), report: unit.shared.join("report.json") };
    let plan_path = unit.shared.join("plan.json");
    fs::write(&plan_path, serde_json::to_vec(&plan).unwrap()).unwrap();
    let part = stand_in::program(ProgramRole::Vmm, stand_in::ESCAPE, plan_path.to_str().unwrap());

    stand_in::run(stand_in::ESCAPE, plan_path.to_str().unwrap());
    let failed: Vec<_> = report(&plan.report).into_iter().filter(|(_, failure)| failure.is_some()).collect();
    assert_eq!(failed, [], "outside, everything works, or its failure inside says nothing");

    unit.spec.launch.programs = vec![part];
    let started = scene.start(&unit).await;
    assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Code(0));
    let report = report(&plan.report);
    let (tried, used) = report.split_at(forbidden.len());
    let reached: Vec<_> = tried.iter().filter(|(_, failure)| failure.is_none()).collect();
    assert!(reached.is_empty(), "the VMM reached {reached:#?}");
    let missed: Vec<_> = used.iter().filter(|(_, failure)| failure.is_some()).collect();
    assert!(missed.is_empty(), "the VMM needs {missed:#?}");
}

async fn its_sockets_can_be_reached(scene: Scene) {
    let mut unit = scene.unit(Vec::new());
    let socket = unit.shared.join("api.sock");
    let mut vmm = stand_in::program(ProgramRole::Vmm, stand_in::LISTEN, socket.to_str().unwrap());
    vmm.ready_socket = Some(socket.clone());
    unit.spec.launch.programs = vec![vmm];
    let started = scene.start(&unit).await;
    UnixStream::connect(socket).unwrap().write_all(b"x").unwrap();
    assert_eq!(scene.end(&unit, &started).await.status, ExitStatus::Code(0));
}

/// Things of the user that a VMM must not reach.
struct Host {
    folder: PathBuf,
    sockets: Vec<PathBuf>,
    abstract_name: String,
    tcp: TcpListener,
    victim: Victim,
    memory: Memory,
    key: Option<i64>,
    /// In the home of the user, for real.
    at_home: Option<NamedTempFile>,
    _listeners: Vec<UnixListener>,
}

impl Host {
    fn new(scene: &Scene) -> Self {
        let folder = scene.folder().join("host");
        fs::create_dir_all(folder.join("home")).unwrap();
        for file in ["home/secret", "nexus.db", "neighbour-disk", "kernel", "disk"] {
            fs::write(folder.join(file), file).unwrap();
        }
        let mut listeners = Vec::new();
        let mut sockets = Vec::new();
        match scene.manager() {
            Some(manager) => {
                let names = ["bus", "systemd/private"];
                sockets.extend(names.map(|name| manager.runtime_dir().join(name)));
            }
            None => {
                sockets.push(folder.join("bus"));
                listeners.push(UnixListener::bind(&sockets[0]).unwrap());
            }
        }
        let abstract_name = format!("nexus-test-{}", scene.instance);
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        listeners.push(UnixListener::bind_addr(&address).unwrap());
        let leaked = File::open(folder.join("home/secret")).unwrap();
        // SAFETY: nobody else owns this number; it stays open until this test's process ends.
        Errno::result(unsafe { libc::dup2(leaked.as_raw_fd(), LEAKED) }).unwrap();
        Self {
            folder,
            sockets,
            abstract_name,
            tcp: TcpListener::bind(("127.0.0.1", 0)).unwrap(),
            victim: Victim::start(),
            memory: Memory::new(),
            key: add_key(),
            at_home: file_at_home(),
            _listeners: listeners,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Another process of the user.
struct Victim(Child);

impl Victim {
    fn start() -> Self {
        Self(Command::new("/bin/sleep").arg("1000").env("SECRET", "1").spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Shared memory of the user.
struct Memory(i32);

impl Memory {
    fn new() -> Self {
        // SAFETY: integers only.
        Self(Errno::result(unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) }).unwrap())
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: this command takes no structure.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

fn file_at_home() -> Option<NamedTempFile> {
    let file = std::env::home_dir().and_then(|home| NamedTempFile::new_in(home).ok());
    match file {
        Some(mut file) => {
            file.write_all(b"secret").unwrap();
            Some(file)
        }
        None => {
            println!("not tried: this user has no home that can be written");
            None
        }
    }
}

/// A key that processes of this session can read; none where the kernel has no keyrings.
fn add_key() -> Option<i64> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    let anonymous: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name, and then C strings and one byte of the given length.
    let key = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, anonymous);
        let (kind, name, secret) = (c"user".as_ptr(), c"nexus-test".as_ptr(), c"x".as_ptr());
        libc::syscall(libc::SYS_add_key, kind, name, secret, 1_usize, KEY_SPEC_SESSION_KEYRING)
    };
    if key < 0 {
        println!("not tried: this kernel has no keyrings");
    }
    (key > 0).then_some(key)
}

fn report(path: &Path) -> Report {
    let report = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    fs::remove_file(path).unwrap();
    report
}
