//! `nexusctl doctor`.

use std::{env, fs::File, io};

use clap::{Args, builder::styling::Style};
use serde_json::{Value, json};

use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output::{self, Format, FormatArgs, clean, style},
};

/// Check what Nexus needs of this machine
///
/// Ends with 1 when something is missing that is needed. Works without the daemon, and then sees less.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    format: FormatArgs,
}

const FIRECRACKER: &str = "firecracker";
const FIRECRACKER_ADVICE: &str =
    "take it from https://github.com/firecracker-microvm/firecracker/releases, or leave it to QEMU";
/// What QEMU's guests are reached through.
const SIDECAR: &str = "vhost-device-vsock";
const SIDECAR_ADVICE: &str = "cargo install vhost-device-vsock --version 0.3.0 --locked";

/// One thing that was looked at.
struct Check {
    name: String,
    found: bool,
    /// Whether Nexus can't do its work without it.
    needed: bool,
    detail: String,
}

impl Check {
    fn new(name: &str, found: bool, needed: bool, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), found, needed, detail: detail.into() }
    }

    fn word(&self) -> (&'static str, Style) {
        match (self.found, self.needed) {
            (true, _) => ("ok", style::GOOD),
            (false, true) => ("missing", style::ERROR),
            (false, false) => ("no", style::WARNING),
        }
    }
}

impl Doctor {
    pub(crate) async fn run(&self) -> Result<Exit, Failure> {
        let checks = checks().await;
        match self.format.output {
            Format::Json => output::json(&checks.iter().map(as_json).collect())?,
            Format::Table => output::line(draw(&checks))?,
        }
        let missing: Vec<&str> =
            checks.iter().filter(|check| check.needed && !check.found).map(|check| check.name.as_str()).collect();
        if missing.is_empty() {
            return Ok(Exit::OK);
        }
        Err(Failure::new("this machine is not ready for Nexus").because(format!("Missing: {}.", missing.join(", "))))
    }
}

async fn checks() -> Vec<Check> {
    let bus = match Bus::connect().await {
        Ok(bus) => bus,
        Err(failure) => {
            let mut checks = vec![Check::new("session-bus", false, true, failure.in_one_line())];
            checks.extend(without_daemon());
            return checks;
        }
    };
    let mut checks = vec![Check::new("session-bus", true, true, "answers")];
    match with_daemon(&bus).await {
        Ok(found) => checks.extend(found),
        Err(failure) => {
            checks.push(Check::new("nexusd", false, true, failure.in_one_line()));
            checks.extend(without_daemon());
        }
    }
    checks
}

/// What the daemon sees, which looks where it is configured to.
async fn with_daemon(bus: &Bus) -> Result<Vec<Check>, Failure> {
    let manager = bus.properties().await?;
    let proxy = bus.manager().await?;
    let host = bus.ask("check this machine", proxy.check_host()).await?;
    let mut checks = vec![Check::new("nexusd", true, true, format!("version {}, {}", manager.version, manager.state))];
    checks.extend(host.into_iter().map(|(name, found, detail)| {
        // Of the others one is enough: that is what the next check says.
        let needed = name == "user-namespaces";
        Check { name, found, needed, detail }
    }));
    let available = manager.vmm_available.join(", ");
    let detail = if available.is_empty() {
        "none can be used: install qemu-system-x86 or firecracker".to_owned()
    } else {
        available
    };
    checks.push(Check::new("vmm", !manager.vmm_available.is_empty(), true, detail));
    let kernel = manager.default_kernel.as_str() != "/";
    let detail = if kernel { "there is a default one" } else { "import one: nexusctl kernel import PATH" };
    checks.push(Check::new("kernel", kernel, false, detail));
    Ok(checks)
}

/// What can be seen from here, under the names that the daemon gives it (`Manager.CheckHost`).
fn without_daemon() -> Vec<Check> {
    let mut checks = vec![
        kvm(),
        program(FIRECRACKER, FIRECRACKER, FIRECRACKER_ADVICE),
        program("qemu", "qemu-system-x86_64", "install qemu-system-x86"),
        sidecar(),
    ];
    let vmm = checks.iter().any(|check| check.found && [FIRECRACKER, "qemu"].contains(&&*check.name));
    let detail = if vmm { "at least one is on PATH" } else { "install qemu-system-x86 or firecracker" };
    checks.push(Check::new("vmm", vmm, true, detail));
    checks
}

fn kvm() -> Check {
    let detail = match File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => {
            return Check::new("kvm", true, false, "/dev/kvm opens; the daemon finds out whether the CPU virtualizes");
        }
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => "/dev/kvm does not exist: load the module kvm_intel or kvm_amd".to_owned(),
            io::ErrorKind::PermissionDenied => "/dev/kvm may not be opened: add your user to group kvm".to_owned(),
            _ => format!("/dev/kvm cannot be opened: {error}"),
        },
    };
    Check::new("kvm", false, false, format!("{detail}; VMs run in plain emulation"))
}

fn program(name: &str, program: &str, advice: &str) -> Check {
    match which::which(program) {
        Ok(path) => Check::new(name, true, false, path.display().to_string()),
        Err(_) => Check::new(name, false, false, format!("`{program}` is not on PATH: {advice}")),
    }
}

fn sidecar() -> Check {
    // Where `make install` puts what only nexusd calls, seen from nexusctl.
    let installed = || {
        let folder = env::current_exe().ok()?.parent()?.join("../libexec/nexus");
        folder.join(SIDECAR).canonicalize().ok()
    };
    match installed() {
        Some(path) => Check::new(SIDECAR, true, false, path.display().to_string()),
        None => program(SIDECAR, SIDECAR, SIDECAR_ADVICE),
    }
}

fn draw(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    let line = |check: &Check| {
        let (word, style) = check.word();
        format!("{style}{word:7}{style:#}   {:width$}   {}", clean(&check.name), clean(&check.detail))
    };
    checks.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn as_json(check: &Check) -> Value {
    json!({ "name": check.name, "found": check.found, "needed": check.needed, "detail": check.detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_and_missing_stands_out() {
        let checks = [
            Check::new("kvm", false, false, "no such file"),
            Check::new("vmm", false, true, "none"),
            Check::new("nexusd", true, true, "runs"),
        ];
        assert_eq!(
            anstream::adapter::strip_str(&draw(&checks)).to_string(),
            "no        kvm      no such file\nmissing   vmm      none\nok        nexusd   runs"
        );
    }
}
