//! `nexusctl vm create`.

use std::collections::HashMap;

use clap::{Args, builder::NonEmptyStringValueParser};
use nexus_dbus::client::{Options, VmProperties};
use nexus_model::{
    restart::RestartPolicy,
    vm::{Role, VmmChoice},
};
use zbus::Variant;

use super::given_file::GivenFile;
use crate::{
    bus::Bus,
    failure::{Exit, Failure},
    output::{self, amount},
};

/// What a VM is made of, beside its disk.
#[derive(Debug, Default, Args)]
pub(crate) struct MachineArgs {
    /// Memory in whole MiB, at least 32M [default: 128M]
    #[arg(short, long, value_name = "SIZE", value_parser = amount::parse_memory)]
    pub(crate) memory: Option<u64>,
    /// Virtual CPUs, at most 32 [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub(crate) vcpus: Option<u32>,
    /// The kernel to boot [default: the default kernel]
    #[arg(long, value_name = "KERNEL")]
    pub(crate) kernel: Option<String>,
    /// The initial RAM disk [default: the one that goes with the kernel]
    #[arg(long, value_name = "INITRD")]
    pub(crate) initrd: Option<String>,
    /// Added to the kernel's command line
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) kernel_args: Option<String>,
    /// What runs it: auto, firecracker, qemu or process [default: auto]
    #[arg(long, value_name = "VMM")]
    pub(crate) vmm: Option<VmmChoice>,
    /// A variable for every command in the guest; without a value it is that of the caller
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,
    /// A file that is in the guest before the first command, at each boot: up to 256 KiB of a file of the host's, as it is
    /// now; with permissions, 644 unless given, and a user, root unless given
    #[arg(long = "file", value_name = "GUEST=HOST[:MODE[:OWNER]]", value_parser = GivenFile::parse)]
    pub(crate) files: Vec<GivenFile>,
    /// A word of your own for it
    #[arg(long = "tag", value_name = "WORD")]
    pub(crate) tags: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The VM's name [default: one that Nexus makes up]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Make a workspace of its own from this image
    #[arg(long, conflicts_with = "workspace")]
    image: Option<String>,
    /// Use this workspace as its disk
    #[arg(long)]
    workspace: Option<String>,
    #[command(flatten)]
    machine: MachineArgs,
    /// What it is for: portal, work or service [default: work]
    #[arg(long)]
    role: Option<Role>,
    /// When it is started again after it ended: no, on-failure or always [default: on-failure]
    #[arg(long, value_name = "POLICY")]
    restart_policy: Option<RestartPolicy>,
    /// Start it with the daemon
    #[arg(long)]
    autostart: bool,
    /// Remove it, and its disk, once it has stopped
    #[arg(long)]
    ephemeral: bool,
    /// Only the name
    #[arg(short, long)]
    quiet: bool,
}

/// `NAME=VALUE`, or `NAME` with the value that it has here.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    let nameless = || Err("a variable has a name: NAME=VALUE".to_owned());
    if text.is_empty() {
        return nameless();
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).map_err(|_| format!("{text} is not set here: write {text}=VALUE"))?),
    };
    if name.is_empty() { nameless() } else { Ok((name.to_owned(), value)) }
}

impl MachineArgs {
    /// As options of `CreateVm`.
    pub(crate) fn options(&self) -> Options<'_> {
        let mut options = Options::new();
        if let Some(bytes) = self.memory {
            options.insert("memory-bytes", bytes.into());
        }
        if let Some(count) = self.vcpus {
            options.insert("vcpus", count.into());
        }
        let vmm = self.vmm.map(|vmm| vmm.as_str());
        for (key, value) in [
            ("kernel", self.kernel.as_deref()),
            ("initrd", self.initrd.as_deref()),
            ("kernel-args", self.kernel_args.as_deref()),
            ("vmm", vmm),
        ] {
            if let Some(value) = value {
                options.insert(key, value.into());
            }
        }
        if !self.env.is_empty() {
            let env: HashMap<&str, &str> = self.env.iter().map(|(name, value)| (&**name, &**value)).collect();
            options.insert("env", env.into());
        }
        if !self.files.is_empty() {
            let files: Vec<(&str, HashMap<&str, Variant<'_>>)> = self.files.iter().map(GivenFile::option).collect();
            options.insert("files", files.into());
        }
        if !self.tags.is_empty() {
            let tags: Vec<&str> = self.tags.iter().map(String::as_str).collect();
            options.insert("tags", tags.into());
        }
        options
    }
}

pub(super) async fn run(bus: &Bus, args: &Create) -> Result<Exit, Failure> {
    let what = match &args.name {
        None => "create a VM".to_owned(),
        Some(name) => format!("create VM {name}"),
    };
    let mut options = args.machine.options();
    let role = args.role.map(|role| role.as_str());
    let restart = args.restart_policy.map(|policy| policy.as_str());
    for (key, value) in [
        ("image", args.image.as_deref()),
        ("workspace", args.workspace.as_deref()),
        ("role", role),
        ("restart-policy", restart),
    ] {
        if let Some(value) = value {
            options.insert(key, value.into());
        }
    }
    for (key, value) in [("autostart", args.autostart), ("ephemeral", args.ephemeral)] {
        if value {
            options.insert(key, true.into());
        }
    }
    let manager = bus.manager().await?;
    let path = bus.ask(&what, manager.create_vm(args.name.as_deref().unwrap_or_default(), options)).await?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => bus.read::<VmProperties>(&what, &path).await?.name,
    };
    if args.quiet {
        output::line(&name)?;
    } else {
        output::done(format!("VM {name} is there."), &format!("nexusctl vm start {name}"))?;
    }
    Ok(Exit::OK)
}

#[cfg(test)]
mod tests {
    use nexus_model::vm::{DEFAULT_MEMORY_BYTES, DEFAULT_VCPUS, MAX_VCPUS, MIN_MEMORY_BYTES, VmSpec};

    use super::*;

    #[test]
    fn the_help_says_what_holds() {
        let help = Create::augment_args(clap::Command::new("create")).render_long_help().to_string();
        let (least, usual) = (MIN_MEMORY_BYTES >> 20, DEFAULT_MEMORY_BYTES >> 20);
        for words in [
            format!("at least {least}M [default: {usual}M]"),
            format!("at most {MAX_VCPUS} [default: {DEFAULT_VCPUS}]"),
            format!("[default: {}]", VmSpec::default().role),
            format!("[default: {}]", VmSpec::default().restart_policy),
        ] {
            assert!(help.contains(&words), "{words}: {help}");
        }
    }

    #[test]
    fn variables() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert_eq!(variable("PATH").unwrap().1, std::env::var("PATH").unwrap());
        assert!(variable("NEXUS_NO_SUCH_VARIABLE").is_err());
        assert_eq!(variable("=b"), variable(""));
        assert!(variable("").is_err());
    }
}
