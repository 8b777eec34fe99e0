//! What a command in a guest costs.

use std::{path::Path, process::Command};

use nexus_dbus::client::{GuestProxy, Options, Row, VmProperties};
use nexus_host::agent::AgentClient;
use nexus_protocol::Command as GuestCommand;
use zbus::{OwnedObjectPath, Variant, proxy::CacheProperties};

use crate::{
    Outcome, boot,
    calls::timed,
    changes::Changes,
    fleet::{self, AfterDeath},
    report::Report,
    samples::Samples,
    scale::Scale,
    service,
    session::{PATIENCE, Programs, Session},
};

/// Measures it.
///
/// # Errors
/// When a guest does not answer.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "Commands in a guest",
        "`true` is run in a guest with `Guest.Run`, by a client on the bus, against a ping of the agent over a control \
         connection of the bench's own (the bare round trip over vsock, without a process in the guest), and against the same \
         `true` over that connection (what Nexus adds). Then `nexusctl exec VM -- true` as a whole process, which opens three \
         streams to the guest besides, against `busctl call` of an empty method. In turns.",
    );
    let mut session = Session::start(programs, Some(guest)).await?;
    session.start_daemon().await?;
    session.start_service().await?;
    boot::import(&session, guest).await?;
    let mut changes = Changes::follow(&session.connection).await?;
    let process = fleet::create_one(&session, "plain", AfterDeath::Down).await?;
    let real = boot::create(&session, "real").await?;
    report.comparisons();
    for (name, path) in [("plain", process), ("real", real)] {
        session.job(session.vm(&path).await?.start(Options::new()).await?).await?;
        changes.ready(&session.connection, &path).await?;
        let kind = if name == "real" { "QEMU" } else { "`process`" };
        commands(report, scale, &session, &path, kind).await?;
        whole_programs(report, scale, &session, name, kind).await?;
        session.vm(&path).await?.kill().await?;
        changes.until(&path, "Leader", Variant::from(0_u32)).await?;
    }
    Ok(())
}

/// `Guest.Run`.
async fn commands(
    report: &mut Report,
    scale: &Scale,
    session: &Session,
    path: &OwnedObjectPath,
    kind: &str,
) -> Outcome<()> {
    let guest = GuestProxy::builder(&session.connection).path(path.clone());
    let guest = guest.cache_properties(CacheProperties::No).build().await?;
    let vm = VmProperties::read(&session.connection, path).await?;
    let (agent, _, _events) =
        AgentClient::connect(&boot::endpoint(&vm), boot::token(&vm)?.as_deref(), PATIENCE).await?;
    let command = GuestCommand::new(["true"]);

    let (mut run, mut ping, mut direct) = (Samples::default(), Samples::default(), Samples::default());
    for number in 0..=scale.commands {
        let samples = (
            timed(async { Ok(guest.run(&["true"], Options::new()).await?) }).await?,
            timed(async { Ok(agent.ping().await?) }).await?,
            timed(async { Ok(agent.run(&command).await?) }).await?,
        );
        if number > 0 {
            run.push(samples.0);
            ping.push(samples.1);
            direct.push(samples.2);
        }
    }
    report.compare(&format!("{kind}: `Guest.Run` of `true` ÷ a ping of the agent"), &run, &ping, None);
    report.compare(&format!("{kind}: `Guest.Run` of `true` ÷ the agent's `run` of it"), &run, &direct, None);
    Ok(())
}

/// `nexusctl exec`.
async fn whole_programs(report: &mut Report, scale: &Scale, session: &Session, name: &str, kind: &str) -> Outcome<()> {
    let (mut exec, mut call) = (Samples::default(), Samples::default());
    for number in 0..=scale.programs {
        let mut nexusctl = session.command("nexusctl");
        nexusctl.args(["exec", name, "--", "true"]);
        let mut busctl = session.command("busctl");
        busctl.args(["--user", "call", service::NAME, service::PATH, service::INTERFACE, "Empty"]);
        let samples = (timed(succeeds(nexusctl)).await?, timed(succeeds(busctl)).await?);
        if number > 0 {
            exec.push(samples.0);
            call.push(samples.1);
        }
    }
    report.compare(
        &format!("{kind}: `nexusctl exec VM -- true` ÷ `busctl call` of an empty method"),
        &exec,
        &call,
        None,
    );
    Ok(())
}

/// Runs a program to its end.
async fn succeeds(mut command: Command) -> Outcome<()> {
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if status.success() { Ok(()) } else { Err(format!("a program ended with {status}").into()) }
}
