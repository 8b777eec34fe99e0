//! The guest agent as a plain process.

use nexus_host::vmm::{GuestEnd, MachinePlan, MachineState, VmmError};
use nexus_model::{ExitStatus, vm::VmmKind};
use nexus_protocol::CONTROL_PORT;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    guest::GuestFiles,
    machine::{Machine, bare, vmms},
};

async fn machine() -> Option<Machine> {
    let agent = GuestFiles::find()?.agent();
    let driver = vmms().driver(VmmKind::Process).unwrap();
    Some(Machine::new(driver, |dir| MachinePlan { agent, ..bare(dir) }).await)
}

#[tokio::test]
async fn an_agent_answers_is_halted_and_goes_on() {
    let Some(machine) = machine().await else { return };
    assert!(!machine.driver.isolated());
    let running = machine.start().await;
    let (driver, plan, leader) = (&running.machine.driver, &running.machine.plan, &running.started.leader);
    running.started.endpoint.connect(CONTROL_PORT).await.unwrap();

    assert_eq!(driver.state(plan, leader).await.unwrap(), MachineState::Running);
    driver.pause(plan, leader).await.unwrap();
    driver.pause(plan, leader).await.unwrap();
    running.reaches(MachineState::Paused).await;
    driver.resume(plan, leader).await.unwrap();
    driver.resume(plan, leader).await.unwrap();
    running.reaches(MachineState::Running).await;
    running.started.endpoint.connect(CONTROL_PORT).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_has_ended_is_gone_and_not_another_process() {
    let Some(machine) = machine().await else { return };
    let running = machine.start().await;
    kill(Pid::from_raw(running.started.leader.pid.cast_signed()), Signal::SIGKILL).unwrap();
    assert_eq!(running.end().await.status, ExitStatus::Signal(Signal::SIGKILL as i32));
    let (driver, plan, leader) = (&running.machine.driver, &running.machine.plan, &running.started.leader);
    assert!(matches!(driver.state(plan, leader).await, Err(VmmError::Gone { .. })));
    assert!(matches!(driver.pause(plan, leader).await, Err(VmmError::Gone { .. })));
    assert_eq!(driver.guest_end(plan).unwrap(), None::<GuestEnd>);
}
