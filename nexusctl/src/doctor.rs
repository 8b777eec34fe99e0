//! `nexusctl doctor`.

use std::{env, fs::File};

use clap::{Args, builder::styling::Style};
use nexus_model::{Requirement, kvm};
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

/// What to do where there is no VMM.
const VMM_ADVICE: &str = "install qemu-system-x86 or firecracker";

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
    let detail = if available.is_empty() { format!("none can be used: {VMM_ADVICE}") } else { available };
    checks.push(Check::new("vmm", !manager.vmm_available.is_empty(), true, detail));
    let kernel = manager.default_kernel.as_str() != "/";
    let detail = if kernel { "there is a default one" } else { "import one: nexusctl kernel import PATH" };
    checks.push(Check::new("kernel", kernel, false, detail));
    Ok(checks)
}

/// What can be seen from here, under the names that the daemon gives it (`Manager.CheckHost`).
fn without_daemon() -> Vec<Check> {
    let vmms = [Requirement::FIRECRACKER, Requirement::QEMU].map(|vmm| program(&vmm));
    let vmm = vmms.iter().any(|check| check.found);
    let mut checks = vec![hardware()];
    checks.extend(vmms);
    checks.push(sidecar());
    let detail = if vmm { "at least one is on PATH" } else { VMM_ADVICE };
    checks.push(Check::new("vmm", vmm, true, detail));
    checks
}

fn hardware() -> Check {
    match File::options().read(true).write(true).open(kvm::DEVICE) {
        Ok(_) => {
            let detail = format!("{} opens; the daemon finds out whether the CPU virtualizes", kvm::DEVICE);
            Check::new(kvm::NAME, true, false, detail)
        }
        Err(error) => Check::new(kvm::NAME, false, false, kvm::missing(&kvm::reason(&error))),
    }
}

fn program(wanted: &Requirement) -> Check {
    match which::which(wanted.program) {
        Ok(path) => Check::new(wanted.name, true, false, path.display().to_string()),
        Err(_) => Check::new(wanted.name, false, false, wanted.missing(&wanted.not_on_path())),
    }
}

fn sidecar() -> Check {
    let wanted = Requirement::SIDECAR;
    // Where `make install` puts what only nexusd calls, seen from nexusctl.
    let installed = || {
        let folder = env::current_exe().ok()?.parent()?.join("../libexec/nexus");
        folder.join(wanted.program).canonicalize().ok()
    };
    match installed() {
        Some(path) => Check::new(wanted.name, true, false, path.display().to_string()),
        None => program(&wanted),
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
