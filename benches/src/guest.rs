//! What a command in a guest costs.

use std::{path::Path, sync::Arc};

use nexus_bench_peer::Request;
use nexus_dbus::client::Options;
use nexus_protocol::Command as GuestCommand;

use crate::{
    Outcome, blocking,
    calls::timed,
    report::Report,
    samples::Samples,
    scale::Scale,
    service,
    session::{Programs, Session},
    testbed::{Kind, Subject, Testbed},
};

/// Measures it.
///
/// # Errors
/// When a guest does not answer.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "Commands in a guest",
        "`true` is run in a guest with `Guest.Run`, by a client on the bus. Against a byte that comes back over a bare \
         connection to a program of the bench's in the same VM (over vsock in QEMU, over a Unix socket in a `process` VM, which \
         has no vsock); against that program starting the same `true` for such a connection; and against the same `true` \
         over a control connection of the bench's own (what Nexus adds to the agent). Then `nexusctl exec VM -- true` as a \
         whole process, which opens three streams to the guest besides, against `busctl call` of an empty method. In turns.",
    );
    let mut testbed = Testbed::start(programs, guest).await?;
    report.comparisons();
    for kind in Kind::ALL {
        let subject = testbed.run(kind).await?;
        commands(report, scale, &testbed, &subject).await?;
        whole_programs(report, scale, &testbed.session, &subject).await?;
        testbed.end(subject).await?;
    }
    Ok(())
}

/// `Guest.Run`.
async fn commands(report: &mut Report, scale: &Scale, testbed: &Testbed, subject: &Subject) -> Outcome<()> {
    let (agent, command) = (testbed.agent(subject).await?, GuestCommand::new(["true"]));
    let echo = Arc::new(subject.peer.ask(Request::Echo).await?);

    let mut columns: [Samples; 4] = Default::default();
    for number in 0..=scale.commands {
        let connection = Arc::clone(&echo);
        let samples = [
            timed(async { Ok(subject.guest.run(&["true"], Options::new()).await?) }).await?,
            blocking::run(move || blocking::echo(&connection)).await?,
            timed(subject.peer.run(&["true"])).await?,
            timed(async { Ok(agent.run(&command).await?) }).await?,
        ];
        if number > 0 {
            columns.iter_mut().zip(samples).for_each(|(column, sample)| column.push(sample));
        }
    }
    let [run, echo, bare, direct] = &columns;
    let label = subject.kind.label();
    report.compare(&format!("{label}: `Guest.Run` of `true` ÷ a bare echo"), run, echo, None);
    report.compare(&format!("{label}: `Guest.Run` of `true` ÷ a bare start of it"), run, bare, None);
    report.compare(&format!("{label}: `Guest.Run` of `true` ÷ the agent's `run` of it"), run, direct, None);
    Ok(())
}

/// `nexusctl exec`.
async fn whole_programs(report: &mut Report, scale: &Scale, session: &Session, subject: &Subject) -> Outcome<()> {
    let (mut exec, mut call) = (Samples::default(), Samples::default());
    for number in 0..=scale.programs {
        let mut nexusctl = session.command("nexusctl");
        nexusctl.args(["exec", subject.name, "--", "true"]);
        let mut busctl = session.command("busctl");
        busctl.args(["--user", "call", service::NAME, service::PATH, service::INTERFACE, "Empty"]);
        let samples = (timed(blocking::succeed(nexusctl)).await?, timed(blocking::succeed(busctl)).await?);
        if number > 0 {
            exec.push(samples.0);
            call.push(samples.1);
        }
    }
    report.compare(
        &format!("{}: `nexusctl exec VM -- true` ÷ `busctl call` of an empty method", subject.kind.label()),
        &exec,
        &call,
        None,
    );
    Ok(())
}
