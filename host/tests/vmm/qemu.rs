//! QEMU, with real kernels.

use std::{fs, time::Duration};

use nexus_host::vmm::{GuestEnd, MachineState};
use nexus_model::ExitStatus;

use crate::machine::Machine;

/// Waits for the guest to say something again and again, so that a machine that runs can be told from one that doesn't.
const COUNTING: &str = "i=0; while true; do i=$((i + 1)); echo count $i; busybox sleep 0.1; done";

#[tokio::test]
async fn a_guest_that_powers_off_ends_the_vmm_well() {
    let Some(machine) = Machine::qemu("busybox poweroff -f").await else { return };
    let running = machine.start().await;
    assert_eq!(running.end().await.status, ExitStatus::Code(0));
    let machine = &running.machine;
    assert_eq!(machine.driver.guest_end(&machine.plan).unwrap(), Some(GuestEnd::Poweroff), "{}", machine.console());
}

#[tokio::test]
async fn a_guest_that_reboots_ends_the_vmm_well_and_is_told_apart() {
    let Some(machine) = Machine::qemu("busybox reboot -f").await else { return };
    let running = machine.start().await;
    assert_eq!(running.end().await.status, ExitStatus::Code(0));
    let machine = &running.machine;
    assert_eq!(machine.driver.guest_end(&machine.plan).unwrap(), Some(GuestEnd::Reboot), "{}", machine.console());
}

#[tokio::test]
async fn a_guest_that_panics_is_told_apart() {
    let Some(machine) = Machine::qemu("exit 1").await else { return };
    let running = machine.start().await;
    assert_eq!(running.end().await.status, ExitStatus::Code(0));
    let machine = &running.machine;
    assert_eq!(machine.driver.guest_end(&machine.plan).unwrap(), Some(GuestEnd::Panic), "{}", machine.console());
}

#[tokio::test]
async fn the_virtual_cpus_stop_and_go_on() {
    let Some(machine) = Machine::qemu(COUNTING).await else { return };
    let running = machine.start().await;
    let (driver, plan, leader) = (&running.machine.driver, &running.machine.plan, &running.started.leader);
    running.sees("count 1\r\n").await;
    assert_eq!(driver.state(plan, leader).await.unwrap(), MachineState::Running);

    // Twice, since a call may be repeated after an interruption.
    driver.pause(plan, leader).await.unwrap();
    driver.pause(plan, leader).await.unwrap();
    assert_eq!(driver.state(plan, leader).await.unwrap(), MachineState::Paused);
    let lines = settled_lines(&running.machine).await;

    driver.resume(plan, leader).await.unwrap();
    driver.resume(plan, leader).await.unwrap();
    assert_eq!(driver.state(plan, leader).await.unwrap(), MachineState::Running);
    running.sees(&format!("count {}\r\n", lines + 3)).await;
}

/// How far the guest has counted, once that has not changed for ten of its intervals.
async fn settled_lines(machine: &Machine) -> usize {
    let count = || machine.console().matches("count ").count();
    for _ in 0..10 {
        let before = count();
        tokio::time::sleep(Duration::from_secs(1)).await;
        if count() == before {
            return before;
        }
    }
    panic!("a paused guest goes on counting:\n{}", machine.console());
}

#[tokio::test]
async fn kernel_arguments_reach_the_guest_and_nobody_else() {
    let Some(mut machine) = Machine::qemu("busybox cat /proc/cmdline; busybox sleep 1000").await else { return };
    machine.plan.kernel_args = "nexus.token=0123abcd".to_owned();
    let running = machine.start().await;
    running.sees("nexus.hostname=test nexus.token=0123abcd").await;
    for process in [&running.started.leader, &running.started.keeper] {
        let command_line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap();
        assert!(!String::from_utf8_lossy(&command_line).contains("0123abcd"));
    }
}

#[tokio::test]
async fn a_guest_that_writes_without_end_does_not_fill_the_disk() {
    let Some(machine) = Machine::qemu("busybox yes 0123456789012345678901234567890123456789").await else { return };
    let running = machine.start().await;
    let plan = &running.machine.plan;
    let older = running.machine.dir().join("console.log.1");
    let start = std::time::Instant::now();
    while !older.exists() {
        assert!(start.elapsed() < Duration::from_secs(300), "the console was never begun anew");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for log in [&plan.console_log, &older] {
        assert!(fs::metadata(log).unwrap().len() <= plan.console_max_bytes);
    }
    assert_eq!(running.machine.driver.state(plan, &running.started.leader).await.unwrap(), MachineState::Running);
}
