//! Signals that ask the agent, or the guest, to end.

use std::{io, rc::Rc};

use nexus_protocol::{Role, ShutdownMode};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_local,
};

use crate::agent::{Agent, Demand};

/// What a signal means to the agent in its role. Process 1 understands what the `poweroff`, `halt` and `reboot` of
/// busybox (`init/halt.c`), of sysvinit and of systemd (`SIGNALS` in `systemd(1)`) send, and Ctrl-Alt-Del.
fn meanings(role: Role) -> Vec<(i32, Demand)> {
    use ShutdownMode::{Poweroff, Reboot};
    match role {
        Role::Init => vec![
            (libc::SIGUSR1, Demand::Shutdown(Poweroff)),
            (libc::SIGUSR2, Demand::Shutdown(Poweroff)),
            (libc::SIGPWR, Demand::Shutdown(Poweroff)),
            (libc::SIGRTMIN() + 3, Demand::Shutdown(Poweroff)),
            (libc::SIGRTMIN() + 4, Demand::Shutdown(Poweroff)),
            (libc::SIGTERM, Demand::Shutdown(Reboot)),
            (libc::SIGINT, Demand::Shutdown(Reboot)),
            (libc::SIGRTMIN() + 5, Demand::Shutdown(Reboot)),
        ],
        Role::Service => vec![(libc::SIGTERM, Demand::Leave), (libc::SIGINT, Demand::Leave)],
        Role::Process => {
            vec![(libc::SIGTERM, Demand::Shutdown(Poweroff)), (libc::SIGINT, Demand::Shutdown(Poweroff))]
        }
    }
}

/// Passes such signals on for as long as the agent lives.
pub(crate) fn listen(agent: &Rc<Agent>) -> io::Result<()> {
    for (number, demand) in meanings(agent.role) {
        let mut signals = signal(SignalKind::from_raw(number))?;
        let agent = Rc::clone(agent);
        spawn_local(async move {
            while signals.recv().await.is_some() {
                agent.demand(demand);
            }
        });
    }
    Ok(())
}
