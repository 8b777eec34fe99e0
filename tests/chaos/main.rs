//! Random operations by several clients at once, while somebody else breaks things; after each round everything must be
//! well. `make chaos SEED=… ROUNDS=… VMM=process|qemu` runs more of it than `make test` does. The same seed gives the same
//! rounds; when what comes between them falls otherwise is the machine's affair, so a failing seed is tried more than once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a long run says how far it is")]

mod check;
mod client;
mod ear;
mod expectation;
mod fault;
mod level;
mod lives;
mod plan;
mod round;
mod shrink;
mod world;

use std::{env, path::Path, time::Duration};

use fastrand::Rng;
use nix::sched::{CloneFlags, unshare};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    check::Violation,
    plan::{Deck, Round},
};

/// Ten times what was ever seen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What runs the VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vmm {
    Process,
    Qemu,
}

impl Vmm {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Qemu => "qemu",
        }
    }
}

/// What a run is asked for by the environment.
struct Order {
    seed: u64,
    rounds: usize,
    vmm: Vmm,
    steady: bool,
    lives: usize,
    /// How long all may be at rest and not yet well.
    settle: Duration,
}

impl Order {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| match env::var(name) {
            Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
            _ => default,
        };
        let vmm = match env::var("NEXUS_CHAOS_VMM").as_deref() {
            Err(_) | Ok("" | "process") => Vmm::Process,
            Ok("qemu") => Vmm::Qemu,
            Ok(other) => panic!("NEXUS_CHAOS_VMM={other} is neither process nor qemu"),
        };
        Self {
            seed: number("NEXUS_CHAOS_SEED", 1),
            rounds: usize::try_from(number("NEXUS_CHAOS_ROUNDS", 15)).unwrap(),
            vmm,
            steady: number("NEXUS_CHAOS_STEADY", 0) != 0,
            lives: usize::try_from(number("NEXUS_CHAOS_LIVES", 3)).unwrap(),
            // The goal is 2 s, which `make chaos` holds it to; in `make test` other tests run beside.
            settle: Duration::from_secs(number("NEXUS_CHAOS_SETTLE_SEC", 10)),
        }
    }

    fn rounds(&self) -> Vec<Round> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let deck = Deck {
            vms: if self.vmm == Vmm::Qemu { 2 } else { 4 },
            steady: self.steady,
            vmm: self.vmm,
            failpoints: plan::failpoints(repository),
        };
        let mut rng = Rng::with_seed(self.seed);
        (0..self.rounds).map(|_| deck.draw(&mut rng)).collect()
    }
}

/// Runs something in a thread of its own, since it gets mounts of its own, and whatever it starts inherits them.
fn apart<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("this test makes mounts of its own: it needs root");
            let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
            nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(work())
        });
        run.join().unwrap()
    })
}

/// Returns when somebody ends the run, so that what it started ends with it.
async fn interrupted() -> Violation {
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    Violation::Interrupted
}

/// Runs rounds in a world of their own.
fn run(rounds: &[Round], order: &Order) -> Result<round::Report, round::Failure> {
    apart(async || round::run(rounds, order).await)
}

#[test]
fn nothing_is_left_of_a_life() {
    if !nix::unistd::geteuid().is_root() {
        return nexus_tests::not_run("chaos needs root: it makes a small file system of its own");
    }
    let order = Order::from_environment();
    match apart(async || lives::live(order.vmm, order.lives).await) {
        Ok((took, slope)) => {
            let seconds = took.as_secs_f64();
            print!("{} lives with {} in {seconds:.0} s, and nothing is left", order.lives, order.vmm.word());
            println!(
                "{}",
                slope.map(|slope| format!("; the heap grows by {slope:.0} bytes a life")).unwrap_or_default()
            );
        }
        Err(violation) => panic!("{violation}"),
    }
}

#[test]
fn everything_heals() {
    if !nix::unistd::geteuid().is_root() {
        return nexus_tests::not_run("chaos needs root: it makes a small file system of its own");
    }
    let order = Order::from_environment();
    let rounds = order.rounds();
    match run(&rounds, &order) {
        Ok(report) => println!("seed {}: {report}", order.seed),
        Err(failure) => {
            assert!(!matches!(failure.violation, Violation::Interrupted), "interrupted in round {}", failure.round);
            eprintln!("seed {}, round {}: {}\n{}", order.seed, failure.round, failure.violation, failure.log);
            let shortest = shrink::shortest(&rounds[..=failure.round], |rounds| run(rounds, &order));
            panic!("seed {} fails in round {}: {}\n{shortest}", order.seed, failure.round, failure.violation);
        }
    }
}
