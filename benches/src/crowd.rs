//! What many commands at once cost.

use std::path::Path;

use futures_util::future::try_join_all;
use nexus_dbus::client::Options;
use nexus_host::agent::AgentClient;
use nexus_protocol::Command;

use crate::{
    Outcome,
    calls::timed,
    report::Report,
    samples::Samples,
    scale::Scale,
    session::Programs,
    testbed::{Kind, Subject, Testbed},
};

/// Measures it.
///
/// # Errors
/// When a command fails.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "Many commands at once",
        &format!(
            "{} times `true` with `Guest.Run`, all called at once by a client on the bus, until all have ended. Against as many \
             at once over a control connection of the bench's own (what Nexus adds), as many at once by a program of the \
             bench's in the same VM, each on a bare connection of its own (what the agent adds), and as many at once by a shell \
             in the VM (`/bin/true &`, and `wait`: the processes alone). In turns.",
            scale.crowd
        ),
    );
    let mut testbed = Testbed::start(programs, guest).await?;
    report.comparisons();
    for kind in Kind::ALL {
        let subject = testbed.run(kind).await?;
        let agent = testbed.agent(&subject).await?;
        let mut columns: [Samples; 4] = Default::default();
        for number in 0..=scale.crowds {
            let samples = [
                timed(run(&subject, scale.crowd)).await?,
                timed(run_direct(&agent, scale.crowd)).await?,
                timed(run_bare(&subject, scale.crowd)).await?,
                timed(run_in_shell(&subject, scale.crowd)).await?,
            ];
            if number > 0 {
                columns.iter_mut().zip(samples).for_each(|(column, sample)| column.push(sample));
            }
        }
        let [nexus, direct, bare, shell] = &columns;
        let label = kind.label();
        report.compare(&format!("{label}: `Guest.Run` ÷ the agent's `run`"), nexus, direct, None);
        report.compare(&format!("{label}: `Guest.Run` ÷ bare connections"), nexus, bare, None);
        report.compare(&format!("{label}: `Guest.Run` ÷ a shell in the VM"), nexus, shell, None);
        testbed.end(subject).await?;
    }
    Ok(())
}

async fn run(subject: &Subject, count: usize) -> Outcome<()> {
    try_join_all((0..count).map(|_| subject.guest.run(&["true"], Options::new()))).await?;
    Ok(())
}

async fn run_direct(agent: &AgentClient, count: usize) -> Outcome<()> {
    let command = Command::new(["true"]);
    try_join_all((0..count).map(|_| agent.run(&command))).await?;
    Ok(())
}

async fn run_bare(subject: &Subject, count: usize) -> Outcome<()> {
    try_join_all((0..count).map(|_| subject.peer.run(&["true"]))).await?;
    Ok(())
}

async fn run_in_shell(subject: &Subject, count: usize) -> Outcome<()> {
    let script = format!("for i in $(seq {count}); do /bin/true & done; wait");
    subject.peer.run(&["sh", "-c", &script]).await
}
