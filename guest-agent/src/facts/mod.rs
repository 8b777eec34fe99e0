//! What the agent tells the host about the guest.

mod image_metadata;
mod os_release;

use std::{fs::File, io::Read, net::IpAddr, path::Path};

use nexus_protocol::{REVISION, Text, Welcome};
use nix::{
    ifaddrs::getifaddrs,
    time::{ClockId, clock_gettime},
};

use crate::agent::Agent;

/// Everything, as it is now.
pub(crate) fn welcome(agent: &Agent) -> Welcome {
    let (os_name, os_version) = os_release::read();
    let (metadata, metadata_problem) = match image_metadata::read(Path::new("/etc/nexus/image.yaml")) {
        Ok(metadata) => (metadata, None),
        Err(problem) => (Default::default(), Some(Text::from(problem))),
    };
    Welcome {
        revision: REVISION,
        agent_version: Text::from(env!("CARGO_PKG_VERSION")),
        run_id: Text::from(agent.run_id.to_string()),
        role: agent.role,
        boot_id: Text::from(read_bounded(Path::new("/proc/sys/kernel/random/boot_id"), 64).unwrap_or_default().trim()),
        hostname: Text::from(nix::unistd::gethostname().unwrap_or_default().to_string_lossy().as_ref()),
        os_name,
        os_version,
        addresses: addresses(),
        metadata,
        metadata_problem,
        uptime_us: uptime_us(),
        features: agent.features.clone(),
        next_terminal: agent.terminals.next_port(),
    }
}

fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = || address.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
        let v6 = || address.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip()));
        v4().or_else(v6)
    };
    let is_worth_it = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    interfaces.filter_map(address).filter(is_worth_it).take(Welcome::MAX_ADDRESSES).collect()
}

fn uptime_us() -> u64 {
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(uptime.as_micros()).unwrap_or(u64::MAX)
}

/// The beginning of a file.
fn read_bounded(path: &Path, limit: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
