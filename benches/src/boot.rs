//! How long a real VM takes until its guest answers, and the same QEMU without Nexus.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nexus_dbus::client::{ImageProperties, Options, Row, VmProperties};
use nexus_host::{
    agent::{AgentClient, AgentError},
    storage::DISK,
    vsock::{Endpoint, VsockError},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use zbus::{OwnedObjectPath, Variant};

use crate::{
    Outcome,
    changes::Changes,
    report::Report,
    scale::Scale,
    session::{PATIENCE, Programs, Session, processes},
};

/// The image's name.
const IMAGE: &str = "bench";
/// Between two tries of the bare script.
const RETRY: Duration = Duration::from_millis(5);

/// So many boots in a row whose sidecar dies are not chance.
const MAX_HUNG: usize = 6;

/// How the bare script waits for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialling {
    /// From the start.
    Blind,
    /// Once QEMU says that the guest's driver is ready.
    Careful,
}

/// One boot.
struct Boot {
    /// Until the VM, or its disk, was there.
    create: Duration,
    /// From then until its guest answered.
    start: Duration,
}

/// Measures it.
///
/// # Errors
/// When a VM does not come up.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "From nothing to a guest that answers",
        "A VM in QEMU is created from an image and started (`CreateVm`, `Vm.Start`), until a client on the bus sees \
         `GuestReady`; then what Nexus ran is run again without Nexus: the image is copied with `cp`, the sidecar and QEMU \
         get the arguments that they had (no sandbox, no log of bounded size, nobody who watches), and the agent is dialled \
         until it has shaken hands. *Blindly* is every 5 ms from the start; a sidecar may die of that, and those \
         boots are counted but not measured. *Carefully* is as Nexus does, once QEMU says that the guest's driver is ready. \
         In turns, so that all see the same machine.",
    );
    let mut session = Session::start(programs, Some(guest)).await?;
    session.start_daemon().await?;
    let image = import(&session, guest).await?;
    let mut changes = Changes::follow(&session.connection).await?;

    let (mut nexus, mut careful, mut blind) = (Vec::new(), Vec::new(), Vec::new());
    let mut hung = 0;
    // What is read for the first time, be it the kernel or QEMU itself, is not measured.
    for number in 0..=scale.boots {
        let (ours, recipe) = boot(&session, &mut changes, number, &image).await?;
        let carefully = recipe.boot(session.folder(), Dialling::Careful).await?.ok_or("a guest never answered")?;
        let blindly = recipe.boot_blindly(session.folder(), &mut hung).await?;
        if number > 0 {
            nexus.push(ours);
            careful.push(carefully);
            blind.push(blindly);
        }
    }
    report.comparisons();
    let mut compare = |what: &str, bare: &[Boot], part: fn(&Boot) -> Duration, goal| {
        report.compare(what, &nexus.iter().map(part).collect(), &bare.iter().map(part).collect(), goal);
    };
    compare(
        "create + start → guest ready ÷ copy + boot, dialled blindly",
        &blind,
        |boot| boot.create + boot.start,
        Some(1.10),
    );
    compare(
        "create + start → guest ready ÷ copy + boot, dialled carefully",
        &careful,
        |boot| boot.create + boot.start,
        Some(1.10),
    );
    compare("create ÷ copy alone", &careful, |boot| boot.create, None);
    compare("start → guest ready ÷ boot alone, dialled blindly", &blind, |boot| boot.start, None);
    report.line(format!("\nBoots whose sidecar died of being dialled blindly: {hung} of {}.", hung + scale.boots + 1));
    Ok(())
}

/// Imports the guest's parts; returns the image's file.
///
/// # Errors
/// When they can't be imported.
pub(crate) async fn import(session: &Session, guest: &Path) -> Outcome<PathBuf> {
    let manager = session.manager().await?;
    let file = |name: &str| -> Outcome<String> { Ok(guest.join(name).canonicalize()?.display().to_string()) };
    for (kind, name) in [("kernel", "vmlinuz"), ("initrd", "initrd.img")] {
        let options = Options::from([("version", Variant::from("bench")), ("default", Variant::from(true))]);
        session.job(manager.import_asset(kind, &file(name)?, options).await?).await?;
    }
    session.job(manager.import_image(&file("rootfs")?, IMAGE, Options::new()).await?).await?;
    let image = manager.get_image(IMAGE).await?;
    let folder: PathBuf = ImageProperties::read(&session.connection, &image).await?.path.into();
    Ok(folder.join(DISK))
}

/// Creates a VM from the image.
///
/// # Errors
/// When it can't be.
pub(crate) async fn create(session: &Session, name: &str) -> Outcome<OwnedObjectPath> {
    let options = Options::from([("vmm", Variant::from("qemu")), ("image", Variant::from(IMAGE))]);
    Ok(session.manager().await?.create_vm(name, options).await?)
}

/// Boots a VM by Nexus and takes it away again; returns what it ran, too.
async fn boot(session: &Session, changes: &mut Changes, number: usize, image: &Path) -> Outcome<(Boot, Recipe)> {
    let begin = Instant::now();
    let path = create(session, &format!("boot-{number}")).await?;
    let created = Instant::now();
    let vm = session.vm(&path).await?;
    changes.forget();
    let job = vm.start(Options::new()).await?;
    let ready = changes.until(&path, "GuestReady", Variant::from(true)).await?;
    session.job(job).await?;
    let boot = Boot { create: created - begin, start: ready - created };

    let recipe = Recipe::of(&VmProperties::read(&session.connection, &path).await?, image)?;
    vm.kill().await?;
    changes.until(&path, "Leader", Variant::from(0_u32)).await?;
    let options = Options::from([("force", Variant::from(true)), ("remove-workspaces", Variant::from(true))]);
    session.job(vm.remove(options).await?).await?;
    Ok((boot, recipe))
}

/// What Nexus ran for a VM.
struct Recipe {
    vmm: Vec<OsString>,
    sidecar: Option<Vec<OsString>>,
    endpoint: Endpoint,
    token: Option<String>,
    runtime: PathBuf,
    config: PathBuf,
    settings: String,
    disk: PathBuf,
    image: PathBuf,
}

impl Recipe {
    /// Reads it off the running processes.
    fn of(vm: &VmProperties, image: &Path) -> Outcome<Self> {
        let vmm = argv(vm.leader)?;
        let config = config(&vmm).ok_or("QEMU has no configuration")?;
        let runtime = config.parent().ok_or("the configuration is nowhere")?.to_owned();
        let drives = vmm.iter().skip_while(|word| *word != "-blockdev").nth(1).ok_or("QEMU has no disk")?;
        let drive: serde_json::Value = serde_json::from_slice(drives.as_bytes())?;
        let disk = drive["file"]["filename"].as_str().ok_or("the disk has no file")?.into();
        let sidecar = processes(&runtime).into_iter().filter_map(|pid| argv(pid).ok()).find(|argv| {
            argv.first().is_some_and(|program| Path::new(program).file_name() == Some(OsStr::new("vhost-device-vsock")))
        });
        let settings = fs::read_to_string(&config)?;
        let (endpoint, token) = (endpoint(vm), token(vm)?);
        Ok(Self { vmm, sidecar, endpoint, token, runtime, config, settings, disk, image: image.to_owned() })
    }

    /// Runs it without Nexus until the sidecar survives being dialled blindly, and counts when it does not.
    async fn boot_blindly(&self, folder: &Path, hung: &mut usize) -> Outcome<Boot> {
        for _ in 0..MAX_HUNG {
            match self.boot(folder, Dialling::Blind).await? {
                Some(boot) => return Ok(boot),
                None => *hung += 1,
            }
        }
        Err(format!("{MAX_HUNG} guests in a row never answered").into())
    }

    /// Runs it without Nexus, as a script would. None when the sidecar died of being dialled.
    async fn boot(&self, folder: &Path, dialling: Dialling) -> Outcome<Option<Boot>> {
        let own = tempfile::Builder::new().prefix("bare.").tempdir_in(folder)?;
        let disk = own.path().join("disk");
        let config = own.path().join(self.config.file_name().unwrap_or_default());
        fs::write(config, &self.settings)?;
        let mut processes = Processes(Vec::new());
        let words = |argv: &[OsString]| -> Vec<OsString> {
            let in_own = |word: &OsString| replace(word, &self.runtime, own.path());
            argv.iter().map(|word| replace(&in_own(word), &self.disk, &disk)).collect()
        };

        let begin = Instant::now();
        let copied =
            Command::new("cp").args(["--reflink=auto", "--sparse=auto"]).arg(&self.image).arg(&disk).status()?;
        if !copied.success() {
            return Err("the image can't be copied".into());
        }
        let created = Instant::now();
        if let Some(sidecar) = &self.sidecar {
            processes.start(&words(sidecar), &own, "sidecar.log")?;
            let socket = own.path().join("vhost.sock");
            let listening = async {
                while !socket.exists() {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(PATIENCE, listening).await.map_err(|_| "the sidecar does not listen")?;
        }
        processes.start(&words(&self.vmm), &own, "console.log")?;
        let endpoint = self.endpoint_in(own.path(), dialling)?;
        let answered = async {
            loop {
                match AgentClient::connect(&endpoint, self.token.as_deref(), Duration::from_secs(5)).await {
                    Ok(_) => return Some(created.elapsed()),
                    Err(AgentError::Timeout { .. } | AgentError::Unreachable(VsockError::Timeout { .. }))
                        if dialling == Dialling::Blind =>
                    {
                        return None;
                    }
                    Err(_) => sleep(RETRY).await,
                }
            }
        };
        let answered = timeout(PATIENCE, answered).await.map_err(|_| "the guest of the bare QEMU does not answer")?;
        Ok(answered.map(|start| Boot { create: created - begin, start }))
    }

    /// How the agent is reached when all of this runs in another folder.
    fn endpoint_in(&self, folder: &Path, dialling: Dialling) -> Outcome<Endpoint> {
        let Endpoint::Hybrid { socket } = &self.endpoint else { return Ok(self.endpoint.clone()) };
        let moved = |path: &OsStr| PathBuf::from(replace(path, &self.runtime, folder));
        let path_in = |argv: &[OsString], before: &str| {
            let word = argv.iter().find_map(|word| word.to_str()?.split_once(before).map(|(_, path)| path.to_owned()));
            word.map(|path| moved(OsStr::new(&path)))
        };
        let closed = self.sidecar.as_ref().and_then(|argv| path_in(argv, "uds-path=")).ok_or("there is no sidecar")?;
        let monitor = path_in(&self.vmm, "id=qmp,server=on,wait=off,path=").ok_or("QEMU has no monitor")?;
        Ok(match dialling {
            Dialling::Blind => Endpoint::Hybrid { socket: closed },
            Dialling::Careful => Endpoint::Sidecar { socket: moved(socket.as_os_str()), closed, monitor },
        })
    }
}

/// How the agent of a VM is reached.
pub(crate) fn endpoint(vm: &VmProperties) -> Endpoint {
    if vm.vsock_path.is_empty() {
        Endpoint::Kernel { cid: vm.context_id }
    } else {
        Endpoint::Hybrid { socket: vm.vsock_path.clone().into() }
    }
}

/// What the agent of a VM wants to be told, if anything.
///
/// # Errors
/// When that can't be read.
pub(crate) fn token(vm: &VmProperties) -> Outcome<Option<String>> {
    let Some(config) = config(&argv(vm.leader)?) else { return Ok(None) };
    let settings = fs::read_to_string(config)?;
    let words = settings.split([' ', '"', '\n']);
    Ok(words.filter_map(|word| word.strip_prefix("nexus.token=")).next().map(str::to_owned))
}

/// QEMU's configuration file.
fn config(vmm: &[OsString]) -> Option<PathBuf> {
    vmm.iter().skip_while(|word| *word != "-readconfig").nth(1).map(PathBuf::from)
}

/// Children that go with it.
struct Processes(Vec<Child>);

impl Processes {
    fn start(&mut self, argv: &[OsString], folder: &TempDir, log: &str) -> Outcome<()> {
        let (program, arguments) = argv.split_first().ok_or("there is no program")?;
        let log = fs::File::create(folder.path().join(log))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.0.push(command.spawn()?);
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.0.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The arguments that a process was started with.
fn argv(pid: u32) -> Outcome<Vec<OsString>> {
    let mut bytes = fs::read(format!("/proc/{pid}/cmdline"))?;
    bytes.pop();
    Ok(bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
}

/// The word with one path in it replaced by another.
fn replace(word: &OsStr, old: &Path, new: &Path) -> OsString {
    let (word, old, new) = (word.to_string_lossy(), old.to_string_lossy(), new.to_string_lossy());
    word.replace(&*old, &new).into()
}
