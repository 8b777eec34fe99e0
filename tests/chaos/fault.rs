//! What breaks things, and what mends them again.

use std::{fs, sync::Arc, sync::atomic::Ordering, time::Duration};

use nexus_dbus::client::{ManagerProxy, Options, VmProperties, objects};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};
use rusqlite::Connection as Database;

use crate::{
    Vmm,
    client::{guest, vm_name},
    plan::Fault,
    world::{Mood, World},
};

/// How often somebody tries to get a process id.
const TRIES: u32 = 100;

/// Breaks what is to be broken, one after the other.
pub(crate) async fn strike(world: Arc<World>, faults: Vec<(u16, Fault)>) {
    for (wait, fault) in faults {
        tokio::time::sleep(Duration::from_millis(wait.into())).await;
        one(&world, fault).await;
    }
}

async fn one(world: &Arc<World>, fault: Fault) {
    match fault {
        Fault::KillVmm { vm } => signal_vmm(world, vm, Signal::SIGKILL).await,
        Fault::FreezeVmm { vm, ms } => {
            signal_vmm(world, vm, Signal::SIGSTOP).await;
            pass(ms).await;
            signal_vmm(world, vm, Signal::SIGCONT).await;
        }
        Fault::KillKeeper { vm } => {
            if let Some(vm) = look_at(world, vm).await {
                send(parent_of(vm.leader), Signal::SIGKILL);
            }
        }
        Fault::KillSidecar { vm } => signal_sidecar(world, vm, Signal::SIGKILL).await,
        Fault::FreezeSidecar { vm, ms } => {
            signal_sidecar(world, vm, Signal::SIGSTOP).await;
            pass(ms).await;
            signal_sidecar(world, vm, Signal::SIGCONT).await;
        }
        Fault::KillAgent { vm } => in_guest(world, vm, "kill -9 $(pidof guest-agent)").await,
        Fault::FreezeAgent { vm, ms } => {
            let seconds = f64::from(ms) / 1000.0;
            let freeze = "p=$(pidof guest-agent); kill -STOP $p; sleep";
            in_guest(
                world,
                vm,
                &format!("setsid sh -c '{freeze} {seconds}; kill -CONT $p' </dev/null >/dev/null 2>&1 &"),
            )
            .await;
            pass(ms).await;
        }
        Fault::PanicGuest { vm } => in_guest(world, vm, "echo c >/proc/sysrq-trigger").await,
        Fault::Deaf { vm, ms } if world.vmm == Vmm::Qemu => {
            in_guest(world, vm, "ln -sf /bin/true $(which poweroff)").await;
            pass(ms).await;
        }
        Fault::Deaf { ms, .. } => {
            world.set_mood(Mood::Deaf);
            pass(ms).await;
            world.set_mood(Mood::Well);
        }
        Fault::ReusePid { vm } => reuse_pid(world, vm).await,
        Fault::KillDaemon => world.signal_daemon(Signal::SIGKILL),
        Fault::TerminateDaemon => {
            let Some(pid) = world.pid() else { return };
            world.signal_daemon(Signal::SIGTERM);
            // It finishes first what is under way.
            world.gone(pid).await;
        }
        Fault::FreezeDaemon { ms } => {
            world.signal_daemon(Signal::SIGSTOP);
            pass(ms).await;
            world.signal_daemon(Signal::SIGCONT);
        }
        Fault::RestartBus { ms } => {
            world.bus_is_up.store(false, Ordering::SeqCst);
            world.bus.stop();
            pass(ms).await;
            world.bus.start_again();
            world.bus_is_up.store(true, Ordering::SeqCst);
        }
        Fault::LockDatabase { ms } => {
            let path = world.home.database();
            let locked = tokio::task::spawn_blocking(move || {
                let Ok(database) = Database::open(path) else { return };
                if database.execute_batch("BEGIN IMMEDIATE").is_ok() {
                    std::thread::sleep(Duration::from_millis(ms.into()));
                    let _ = database.execute_batch("ROLLBACK");
                }
            });
            let _ = locked.await;
        }
        Fault::FillDisk { ms } => {
            let _ = world.disk.fill();
            pass(ms).await;
            world.disk.free();
        }
        Fault::VmmDies { ms } => {
            world.set_mood(Mood::Dies);
            pass(ms).await;
            world.set_mood(Mood::Well);
        }
        Fault::VmmHangs { ms } => {
            world.set_mood(Mood::Hangs);
            pass(ms).await;
            world.set_mood(Mood::Well);
        }
        Fault::Failpoint { name, actions } => world.set_failpoints(&format!("{name}={actions}\n")),
    }
}

/// Whatever stands still goes on, and whatever was taken away is there again.
pub(crate) fn heal(world: &World) {
    world.disk.free();
    world.set_mood(Mood::Well);
    world.set_failpoints("");
    world.want_daemon(true);
    world.signal_daemon(Signal::SIGCONT);
}

async fn pass(ms: u16) {
    tokio::time::sleep(Duration::from_millis(ms.into())).await;
}

async fn look_at(world: &World, vm: u8) -> Option<VmProperties> {
    let look = async {
        let bus = world.connect().await;
        let all = objects(&bus).await.ok()?;
        all.into_values().filter_map(|object| object.vm).find(|found| found.name == vm_name(vm) && found.leader != 0)
    };
    tokio::time::timeout(Duration::from_secs(5), look).await.ok()?
}

async fn signal_vmm(world: &World, vm: u8, signal: Signal) {
    if let Some(vm) = look_at(world, vm).await {
        send(vm.leader, signal);
    }
}

/// What the keeper holds beside the VMM.
async fn signal_sidecar(world: &World, vm: u8, signal: Signal) {
    let Some(vm) = look_at(world, vm).await else { return };
    for other in children_of(parent_of(vm.leader)).into_iter().filter(|child| *child != vm.leader) {
        send(other, signal);
    }
}

/// Runs something in a guest, if it can be had to.
async fn in_guest(world: &World, vm: u8, script: &str) {
    let run = async {
        let bus = world.connect().await;
        let guest = guest(&bus, &ManagerProxy::new(&bus).await.ok()?, vm).await.ok()?;
        guest.run(&["sh", "-c", script], Options::new()).await.ok()
    };
    let _ = tokio::time::timeout(Duration::from_secs(5), run).await;
}

fn send(pid: u32, signal: Signal) {
    if let Ok(pid @ 2..) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// A VMM ends while nexusd is away, and its process id becomes that of somebody who has nothing to do with it.
async fn reuse_pid(world: &World, vm: u8) {
    let Some(vm) = look_at(world, vm).await else { return };
    world.want_daemon(false);
    world.signal_daemon(Signal::SIGKILL);
    let keeper = parent_of(vm.leader);
    send(vm.leader, Signal::SIGKILL);
    send(keeper, Signal::SIGKILL);
    let Ok(pid) = i32::try_from(vm.leader) else { return };
    let taken = tokio::task::spawn_blocking(move || (0..TRIES).find_map(|_| stranger(pid))).await;
    world.want_daemon(true);
    let Ok(Some(stranger)) = taken else { return };
    // Long enough for nexusd to come back and to take it for its own.
    pass(1500).await;
    let alive = kill(stranger, None).is_ok()
        && waitpid(stranger, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
            .is_ok_and(|status| status == nix::sys::wait::WaitStatus::StillAlive);
    world.strangers_harmed.fetch_add(usize::from(!alive), Ordering::SeqCst);
    world.strangers.fetch_add(1, Ordering::SeqCst);
    let _ = kill(stranger, Signal::SIGKILL);
    let _ = waitpid(stranger, None);
}

/// A process with that id, if the kernel can be had to give it.
fn stranger(pid: i32) -> Option<Pid> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
    let child = std::process::Command::new("sleep").arg("60").spawn().ok()?;
    let got = Pid::from_raw(i32::try_from(child.id()).ok()?);
    if got.as_raw() == pid {
        return Some(got);
    }
    let _ = kill(got, Signal::SIGKILL);
    let _ = waitpid(got, None);
    None
}

fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    after.split(' ').nth(1).and_then(|parent| parent.parse().ok()).unwrap_or_default()
}

fn children_of(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
