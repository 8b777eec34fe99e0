//! How the agent, and with it the guest, ends.

use std::path::Path;

use nexus_model::ExitStatus;
use nexus_protocol::{Command, Event, Failure, FailureKind, Role, ShutdownMode};

use crate::{
    agent::{Agent, Demand},
    exec::{self, Spawner},
    init,
    log::say,
};

/// How long the guest's init has to say that it was told.
const INIT_DEADLINE_MS: u64 = 10_000;

/// Does what a demand means for the agent in its role; whether the agent's process is to end now.
pub(crate) async fn end(agent: &Agent, demand: Demand) -> bool {
    // What stands still can't end in order, and nothing is started meanwhile.
    agent.spawner.freezer().thaw();
    let mode = match demand {
        Demand::Shutdown(mode) => Some(mode),
        Demand::Leave => match agent.ending() {
            // Told by whoever demanded that.
            Some(_) => None,
            None => systemd_is_about_to(&agent.spawner).await,
        },
    };
    if let Some(mode) = mode {
        agent.sessions.announce(Event::Ending { mode }).await;
    }
    match (agent.role, demand) {
        (Role::Init, Demand::Shutdown(mode)) => {
            init::end(mode).await;
            false
        }
        // The guest's init goes on from here, and ends this service in its turn.
        (Role::Service, Demand::Shutdown(_)) => false,
        (Role::Process, _) | (_, Demand::Leave) => {
            agent.execs.kill_all();
            true
        }
    }
}

/// Has the guest's own init take the guest down.
pub(crate) async fn ask_init(spawner: &Spawner, mode: ShutdownMode) -> Result<(), Failure> {
    let verb = match mode {
        ShutdownMode::Poweroff => "poweroff",
        ShutdownMode::Reboot => "reboot",
    };
    let mut command = words_for_init(verb);
    command.timeout_ms = Some(INIT_DEADLINE_MS);
    say!("the host asks for {verb}");
    // What stands still can't end in order.
    spawner.freezer().thaw();
    let ran = exec::run(spawner, &command).await?;
    if ran.status.is_success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&ran.stderr.0);
    let message = format!("`{verb}` {} in the guest: {}", ran.status, complaint.trim());
    Err(Failure::new(FailureKind::System, message))
}

/// What has the init that is there do that. OpenRC's own init is known by its pipe (`rc_init.h`), and has no such program
/// as the others.
fn words_for_init(verb: &str) -> Command {
    if is_systemd() {
        Command::new(["systemctl", "--no-block", verb])
    } else if Path::new("/run/openrc/init.ctl").exists() {
        Command::new(["openrc-shutdown", &format!("--{verb}"), "now"])
    } else {
        Command::new([verb])
    }
}

fn is_systemd() -> bool {
    // The test that `sd_booted(3)` makes.
    Path::new("/run/systemd/system").is_dir()
}

/// What systemd is going to do with the guest when it ends its services.
async fn systemd_is_about_to(spawner: &Spawner) -> Option<ShutdownMode> {
    if !is_systemd() {
        return None;
    }
    let mut command = Command::new(["systemctl", "list-jobs", "--no-legend", "--plain"]);
    command.timeout_ms = Some(1000);
    let ran = exec::run(spawner, &command).await.ok().filter(|ran| ran.status == ExitStatus::Code(0))?;
    mode_in_jobs(&String::from_utf8_lossy(&ran.stdout.0))
}

fn mode_in_jobs(jobs: &str) -> Option<ShutdownMode> {
    jobs.lines().find_map(|line| match line.split_whitespace().nth(1)? {
        "poweroff.target" | "halt.target" => Some(ShutdownMode::Poweroff),
        "reboot.target" | "kexec.target" | "soft-reboot.target" => Some(ShutdownMode::Reboot),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_systemd_is_about_to_do() {
        let jobs = "  712 nexus-agent.service stop  running\n  650 reboot.target start waiting\n";
        assert_eq!(mode_in_jobs(jobs), Some(ShutdownMode::Reboot));
        assert_eq!(mode_in_jobs("  712 nexus-agent.service restart running\n"), None);
    }
}
