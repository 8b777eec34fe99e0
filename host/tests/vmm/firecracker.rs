//! Firecracker, where there is one: `NEXUS_TEST_FIRECRACKER` names its binary, and `NEXUS_TEST_VMLINUX` an uncompressed
//! kernel with its virtio drivers built in, which this machine's KVM can run. No package brings either, so these tests are
//! not among those that must run.

use std::{
    env,
    path::{Path, PathBuf},
    time::Instant,
};

use nexus_host::vmm::{GuestEnd, MachinePlan, MachineState, VmmConfig, VmmError, Vmms};
use nexus_model::{ExitStatus, vm::VmmKind};
use nexus_protocol::CONTROL_PORT;

use crate::{
    guest::GuestFiles,
    machine::{Machine, bare},
    vsock::connect,
};

async fn machine(init: &str) -> Option<Machine> {
    let path = |variable: &str| {
        let path = env::var_os(variable).map(PathBuf::from);
        if path.is_none() {
            eprintln!("skipped: {variable} is not set");
        }
        path
    };
    let (firecracker, kernel) = (path("NEXUS_TEST_FIRECRACKER")?, path("NEXUS_TEST_VMLINUX")?);
    let files = GuestFiles::find()?;
    let config = VmmConfig { firecracker: Some(firecracker), ..VmmConfig::default() };
    let driver = Vmms::detect(&config).driver(VmmKind::Firecracker).unwrap();
    let plan = |dir: &Path| MachinePlan {
        kernel: kernel.clone(),
        kernel_elf: Some(kernel),
        disk: Some(files.disk(dir, init)),
        ..bare(dir)
    };
    Some(Machine::new(driver, plan).await)
}

#[tokio::test]
async fn it_boots_is_reached_halted_and_resumed() {
    let Some(machine) = machine("guest-agent & exec busybox sleep 1000").await else { return };
    let start = Instant::now();
    let running = machine.start().await;
    eprintln!("vCPUs run after {:?}", start.elapsed());
    let (driver, plan, leader) = (&running.machine.driver, &running.machine.plan, &running.started.leader);
    drop(connect(&running, CONTROL_PORT).await);
    eprintln!("the agent was reached after {:?}", start.elapsed());

    let start = Instant::now();
    driver.pause(plan, leader).await.unwrap();
    driver.pause(plan, leader).await.unwrap();
    assert_eq!(driver.state(plan, leader).await.unwrap(), MachineState::Paused);
    driver.resume(plan, leader).await.unwrap();
    driver.resume(plan, leader).await.unwrap();
    assert_eq!(driver.state(plan, leader).await.unwrap(), MachineState::Running);
    eprintln!("halted and resumed twice, and asked twice, in {:?}", start.elapsed());
    // Done again, since a daemon that was killed meanwhile does so.
    driver.boot(plan, leader).await.unwrap();
}

/// A guest can't power Firecracker off: an agent that is to do so reboots and says the other.
#[tokio::test]
async fn a_guest_that_reboots_is_told_apart() {
    let Some(machine) = machine("busybox reboot -f").await else { return };
    let running = machine.start().await;
    assert_eq!(running.end().await.status, ExitStatus::Code(0));
    let end = running.machine.driver.guest_end(&running.machine.plan).unwrap();
    assert_eq!(end, Some(GuestEnd::Reboot), "{}", running.machine.console());
}

#[tokio::test]
async fn a_refusal_carries_its_own_words() {
    let Some(mut machine) = machine("busybox sleep 1000").await else { return };
    // A disk, but no kernel.
    machine.plan.kernel_elf = machine.plan.disk.clone();
    match machine.try_start().await {
        Err(VmmError::Rejected { request, message }) => assert!(!message.is_empty(), "{request}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it boots without a kernel"),
    }
}
