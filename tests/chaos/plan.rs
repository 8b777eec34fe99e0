//! What is to happen: drawn from a seed, so that it can be had again.

use std::{collections::BTreeSet, fmt, fs, path::Path};

use fastrand::Rng;

use crate::Vmm;

/// How many clients act at once.
const CLIENTS: usize = 3;

/// What a VM's disk is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disk {
    /// None, where the VMM can do without.
    No,
    /// A new one from an image.
    New,
    /// One that may be there already.
    Workspace { nth: u8 },
}

/// What one client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Create {
        vm: u8,
        policy: &'static str,
        disk: Disk,
        autostart: bool,
    },
    Start {
        vm: u8,
    },
    Stop {
        vm: u8,
        timeout_ms: u16,
    },
    Kill {
        vm: u8,
    },
    Restart {
        vm: u8,
    },
    Pause {
        vm: u8,
    },
    Resume {
        vm: u8,
    },
    Remove {
        vm: u8,
        disks: bool,
    },
    Policy {
        vm: u8,
        policy: &'static str,
    },
    Run {
        vm: u8,
    },
    /// Begins a command and lets go of it.
    Exec {
        vm: u8,
    },
    Reset {
        vm: u8,
    },
    /// Restarts the actor that comes at this place of all of them.
    RestartActor {
        nth: u8,
    },
    CreateWorkspace {
        nth: u8,
    },
    RemoveWorkspace {
        nth: u8,
    },
    Import {
        nth: u8,
    },
    /// Removes what the reaper takes for orphans, whatever is under way.
    Prune,
    RemoveImage {
        nth: u8,
    },
}

/// What is broken while the clients act.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    KillVmm {
        vm: u8,
    },
    FreezeVmm {
        vm: u8,
        ms: u16,
    },
    /// What holds the VMM's process.
    KillKeeper {
        vm: u8,
    },
    KillSidecar {
        vm: u8,
    },
    FreezeSidecar {
        vm: u8,
        ms: u16,
    },
    KillAgent {
        vm: u8,
    },
    FreezeAgent {
        vm: u8,
        ms: u16,
    },
    /// The guest's kernel panics.
    PanicGuest {
        vm: u8,
    },
    /// Guests, or what is started meanwhile, do not end when they are told to.
    Deaf {
        vm: u8,
        ms: u16,
    },
    /// Somebody else gets the process id of a VMM that ended while nobody looked.
    ReusePid {
        vm: u8,
    },
    KillDaemon,
    TerminateDaemon,
    FreezeDaemon {
        ms: u16,
    },
    RestartBus {
        ms: u16,
    },
    LockDatabase {
        ms: u16,
    },
    FillDisk {
        ms: u16,
    },
    /// The VMM's program ends as soon as it is started.
    VmmDies {
        ms: u16,
    },
    /// The VMM's program does nothing when it is started.
    VmmHangs {
        ms: u16,
    },
    Failpoint {
        name: String,
        actions: String,
    },
}

impl Fault {
    /// Whether nexusd may end by it, or be cut off from its clients.
    pub(crate) fn hits_daemon(&self) -> bool {
        match self {
            Self::KillDaemon | Self::TerminateDaemon | Self::RestartBus { .. } | Self::ReusePid { .. } => true,
            // Actors fall, and the root with them if it comes thick.
            Self::Failpoint { actions, .. } => !actions.contains("sleep"),
            _ => false,
        }
    }

    /// Whether software faults are what is asked for.
    pub(crate) fn is_fault_of_software(&self) -> bool {
        matches!(self, Self::Failpoint { .. })
    }
}

/// Some clients and some faults, at once; then everything heals, and must be well again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// For each client what it does, and the milliseconds that it waits before.
    pub(crate) clients: Vec<Vec<(u16, Op)>>,
    pub(crate) faults: Vec<(u16, Fault)>,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (client, ops) in self.clients.iter().enumerate().filter(|(_, ops)| !ops.is_empty()) {
            writeln!(f, "  client {client}: {ops:?}")?;
        }
        writeln!(f, "  faults: {:?}", self.faults)
    }
}

/// What rounds are drawn from.
#[derive(Clone, Debug)]
pub(crate) struct Deck {
    pub(crate) vms: u8,
    /// Whether nexusd itself stays as it is, so that what it holds can be compared over many rounds.
    pub(crate) steady: bool,
    pub(crate) vmm: Vmm,
    pub(crate) failpoints: Vec<String>,
}

impl Deck {
    /// A round; one in four has no fault.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Round {
        let clients = (0..CLIENTS)
            .map(|_| {
                let count = rng.usize(1..=4);
                (0..count).map(|_| (rng.u16(0..200), self.op(rng))).collect()
            })
            .collect();
        let count = if rng.u8(0..4) == 0 { 0 } else { rng.usize(1..=2) };
        let faults = (0..count).map(|_| (rng.u16(0..500), self.fault(rng))).collect();
        Round { clients, faults }
    }

    fn op(&self, rng: &mut Rng) -> Op {
        let vm = rng.u8(0..self.vms);
        let policy = ["no", "on-failure", "always"][rng.usize(0..3)];
        let nth = rng.u8(0..2);
        match rng.u8(0..42) {
            0..=8 => {
                let disk = [Disk::No, Disk::New, Disk::Workspace { nth }][rng.usize(0..3)];
                Op::Create { vm, policy, disk, autostart: rng.bool() }
            }
            9..=17 => Op::Start { vm },
            18..=20 => Op::Stop { vm, timeout_ms: rng.u16(0..3000) },
            21 => Op::Kill { vm },
            22..=23 => Op::Restart { vm },
            24 => Op::Pause { vm },
            25 => Op::Resume { vm },
            26..=28 => Op::Remove { vm, disks: rng.bool() },
            29..=30 => Op::Policy { vm, policy },
            31..=32 => Op::Run { vm },
            33 => Op::Exec { vm },
            34 => Op::Reset { vm },
            35 => Op::RestartActor { nth: rng.u8(..) },
            36 => Op::CreateWorkspace { nth },
            37 => Op::RemoveWorkspace { nth },
            38 => Op::Import { nth },
            39..=40 => Op::Prune,
            _ => Op::RemoveImage { nth },
        }
    }

    fn fault(&self, rng: &mut Rng) -> Fault {
        let vm = rng.u8(0..self.vms);
        let ms = rng.u16(200..2500);
        let qemu = self.vmm == Vmm::Qemu;
        loop {
            let fault = match rng.u8(0..30) {
                0..=4 => Fault::KillVmm { vm },
                5..=6 => Fault::FreezeVmm { vm, ms },
                7 => Fault::KillKeeper { vm },
                8 => Fault::LockDatabase { ms },
                9..=10 => Fault::FillDisk { ms },
                11 => Fault::VmmDies { ms },
                12 => Fault::VmmHangs { ms },
                13 => Fault::Deaf { vm, ms },
                14 => Fault::FreezeDaemon { ms: ms.min(1500) },
                15..=16 => Fault::KillDaemon,
                17 => Fault::TerminateDaemon,
                18 => Fault::RestartBus { ms },
                19 => Fault::ReusePid { vm },
                20..=24 => self.failpoint(rng),
                // What a plain process has no parts for.
                25 if qemu => Fault::KillSidecar { vm },
                26 if qemu => Fault::FreezeSidecar { vm, ms },
                27 if qemu => Fault::KillAgent { vm },
                28 if qemu => Fault::FreezeAgent { vm, ms },
                29 if qemu => Fault::PanicGuest { vm },
                _ => continue,
            };
            if !(self.steady && fault.hits_daemon()) {
                return fault;
            }
        }
    }

    fn failpoint(&self, rng: &mut Rng) -> Fault {
        let name = self.failpoints[rng.usize(0..self.failpoints.len())].clone();
        let before = rng.u8(0..4);
        let what = match rng.u8(0..4) {
            0 => "1*sleep(700)",
            1 => "1*return",
            _ => "1*panic",
        };
        let actions = if before == 0 { what.to_owned() } else { format!("{before}*off->{what}") };
        Fault::Failpoint { name, actions }
    }
}

/// The names of all failpoints that there are, from the source itself.
pub(crate) fn failpoints(repository: &Path) -> Vec<String> {
    let mut names = BTreeSet::new();
    let mut folders: Vec<_> =
        ["store", "host", "actors", "dbus", "nexusd"].map(|part| repository.join(part).join("src")).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the source is there").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let calls = text.split("failpoint(\"").skip(1);
                names.extend(calls.filter_map(|call| call.split('"').next()).map(str::to_owned));
            }
        }
    }
    assert!(names.len() > 20, "the failpoints are found: {names:?}");
    names.into_iter().collect()
}
