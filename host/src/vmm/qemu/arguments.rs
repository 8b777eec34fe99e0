//! QEMU's command line and configuration file, and the sidecar's command line. Source: `qemu(1)`, and
//! `docs/system/i386/microvm.rst` of QEMU.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use nexus_model::vm::VmmKind;
use serde_json::json;

use super::MIB;
use crate::{
    vmm::{MachinePlan, VmmError, kernel_args},
    vsock::DEVICE,
};

/// Translated code that plain emulation keeps. QEMU's default would be an eighth of the host's memory, up to 1 GiB.
pub(super) const TRANSLATION_CACHE_MIB: u64 = 128;

/// The longest line that QEMU reads from a configuration file, without its newline: `qemu_config_foreach` in
/// `util/qemu-config.c` has 1024 bytes for it.
const MAX_CONFIG_LINE: usize = 1022;

/// What every guest's kernel gets. It resets by triple fault, which every machine has; the end of QEMU follows from it.
const KERNEL_ARGS: &str = "console=ttyS0 reboot=t panic=1 quiet";

/// What the sidecar takes from a guest on one connection before that has to wait until it has been passed on, in bytes. By
/// itself it is a quarter of that, in which no more than two of the agent's sends have room, and a command's output came a
/// sixth slower. What nobody reads lies in the sidecar's memory.
const SIDECAR_BUFFER_BYTES: u32 = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acceleration {
    Kvm,
    Emulation {
        /// The guest's time stamp counter, if it is to be told.
        tsc_khz: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Vsock<'a> {
    /// The kernel's vhost-vsock.
    Kernel,
    /// A vhost-user device that listens on a socket.
    VhostUser { socket: &'a Path },
}

/// What the command line is made of.
pub(super) struct Arguments<'a> {
    pub(super) plan: &'a MachinePlan,
    pub(super) acceleration: Acceleration,
    pub(super) vsock: Vsock<'a>,
    pub(super) qmp: &'a Path,
    pub(super) config: &'a Path,
}

impl Arguments<'_> {
    /// The kernel command line, as the configuration file that `-readconfig` takes: what is on QEMU's own command line,
    /// every user of the host can read.
    pub(super) fn config_file(&self) -> Result<String, VmmError> {
        let driver = match self.acceleration {
            Acceleration::Emulation { tsc_khz: Some(khz) } => {
                format!("{KERNEL_ARGS} tsc=reliable tsc_early_khz={khz}")
            }
            Acceleration::Emulation { tsc_khz: None } | Acceleration::Kvm => KERNEL_ARGS.to_owned(),
        };
        let line = format!("  append = \"{}\"", kernel_args(&driver, self.plan));
        if line.len() > MAX_CONFIG_LINE {
            let most = MAX_CONFIG_LINE - (line.len() - self.plan.kernel_args.trim().len());
            return Err(unsupported(format!("its kernel arguments are too long: QEMU takes {most} bytes of them")));
        }
        if self.plan.kernel_args.contains(['"', '\n', '\0']) {
            return Err(unsupported("QEMU takes no quotation mark in kernel arguments".to_owned()));
        }
        Ok(format!("[machine]\n{line}\n"))
    }

    /// QEMU's command line.
    pub(super) fn argv(&self, program: &Path) -> Result<Vec<OsString>, VmmError> {
        let plan = self.plan;
        let mut argv: Vec<OsString> = vec![program.into()];
        let mut add = |option: &str, value: OsString| argv.extend([option.into(), value]);

        add("-name", format!("{}-{}", plan.name, plan.vm).into());
        add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny".into());
        add("-overcommit", "mem-lock=off".into());
        add("-readconfig", self.config.into());

        let memory = plan.memory_bytes / MIB;
        match self.vsock {
            Vsock::Kernel => add("-machine", "microvm,acpi=on".into()),
            Vsock::VhostUser { .. } => {
                // The sidecar maps the guest's memory.
                add("-machine", "microvm,acpi=on,memory-backend=memory".into());
                add("-object", format!("memory-backend-memfd,id=memory,size={memory}M,share=on").into());
            }
        }
        add("-m", format!("{memory}M").into());
        add("-smp", plan.vcpus.to_string().into());
        match self.acceleration {
            Acceleration::Kvm => {
                add("-accel", "kvm".into());
                add("-cpu", "host".into());
            }
            Acceleration::Emulation { .. } => {
                add("-accel", format!("tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}").into());
                add("-cpu", "max".into());
            }
        }

        add("-kernel", plan.kernel.clone().into());
        if let Some(initrd) = &plan.initrd {
            add("-initrd", initrd.into());
        }
        // Standard output does not block for it: what its reader does not take in time is dropped, and the guest runs on.
        add("-chardev", "stdio,id=console,signal=off".into());
        add("-serial", "chardev:console".into());
        add("-chardev", option("socket,id=qmp,server=on,wait=off,path=", self.qmp));
        add("-mon", "chardev=qmp,mode=control".into());

        if let Some(disk) = &plan.disk {
            let filename = disk.to_str().ok_or_else(|| unsupported(format!("{} is not UTF-8", disk.display())))?;
            let node = json!({
                "driver": "raw",
                "node-name": "root",
                "discard": "unmap",
                "file": { "driver": "file", "filename": filename, "discard": "unmap" },
            });
            add("-blockdev", node.to_string().into());
            // A full disk is the guest's to see: by default QEMU would halt the machine.
            add("-device", "virtio-blk-device,drive=root,werror=report,rerror=report".into());
        }
        add("-device", "virtio-rng-device".into());
        match self.vsock {
            Vsock::Kernel => add("-device", format!("vhost-vsock-device,guest-cid={}", plan.cid).into()),
            Vsock::VhostUser { socket } => {
                add("-chardev", option("socket,id=vsock,path=", socket));
                add("-device", format!("vhost-user-vsock-device,id={DEVICE},chardev=vsock").into());
            }
        }
        argv.extend(["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"].map(OsString::from));
        Ok(argv)
    }
}

/// The command line of `vhost-device-vsock`. A guest that connects to the host on port `n` would reach a socket
/// `<hybrid>_<n>`; there is none.
pub(super) fn sidecar_argv(
    program: &Path,
    plan: &MachinePlan,
    vhost: &Path,
    hybrid: &Path,
) -> Result<Vec<OsString>, VmmError> {
    if [vhost, hybrid].iter().any(|path| path.as_os_str().as_encoded_bytes().contains(&b',')) {
        return Err(unsupported(format!("{} has a comma in its path", plan.runtime_dir.display())));
    }
    let mut vm = OsString::from(format!("guest-cid={},tx-buffer-size={SIDECAR_BUFFER_BYTES},socket=", plan.cid));
    vm.push(vhost);
    vm.push(",uds-path=");
    vm.push(hybrid);
    Ok(vec![program.into(), "--vm".into(), vm])
}

/// An option's value that ends with a path. Commas separate; a comma that is meant is doubled.
fn option(start: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut value = start.as_bytes().to_vec();
    for byte in OsStr::as_bytes(path.as_os_str()) {
        value.extend(std::iter::repeat_n(*byte, if *byte == b',' { 2 } else { 1 }));
    }
    OsString::from_vec(value)
}

fn unsupported(reason: String) -> VmmError {
    VmmError::Unsupported { kind: VmmKind::Qemu, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmm::plan::tests::plan;

    fn arguments(plan: &MachinePlan, acceleration: Acceleration) -> Arguments<'_> {
        let vsock = Vsock::VhostUser { socket: Path::new("/run/nexus/1,2/vhost.sock") };
        let (qmp, config) = (Path::new("/run/qmp.sock"), Path::new("/run/qemu.conf"));
        Arguments { plan, acceleration, vsock, qmp, config }
    }

    fn text(argv: Vec<OsString>) -> String {
        argv.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn kernel_arguments_are_in_the_file_and_not_on_the_command_line() {
        let plan = MachinePlan { kernel_args: " nexus.token=secret ".to_owned(), ..plan() };
        let arguments = arguments(&plan, Acceleration::Emulation { tsc_khz: Some(2_000_000) });
        assert_eq!(
            arguments.config_file().unwrap(),
            "[machine]\n  append = \"console=ttyS0 reboot=t panic=1 quiet tsc=reliable tsc_early_khz=2000000 \
             root=/dev/vda rootfstype=ext4 rw nexus.hostname=web-1 nexus.token=secret\"\n"
        );
        assert!(!text(arguments.argv(Path::new("/q")).unwrap()).contains("secret"));
    }

    #[test]
    fn what_the_file_cannot_hold_is_refused() {
        let with = |kernel_args: String| {
            let plan = MachinePlan { kernel_args, ..plan() };
            arguments(&plan, Acceleration::Kvm).config_file()
        };
        let fits = |length| with("x".repeat(length));
        let most = (1..).take_while(|length| fits(*length).is_ok()).last().unwrap();
        assert_eq!(fits(most).unwrap().lines().map(str::len).max(), Some(MAX_CONFIG_LINE));
        assert!(fits(most + 1).unwrap_err().to_string().contains(&format!("takes {most} bytes")));
        for args in ["a=\"b\"", "a\n[machine]", "a\0"] {
            assert!(matches!(with(args.to_owned()), Err(VmmError::Unsupported { .. })), "{args:?}");
        }
    }

    #[test]
    fn a_comma_in_a_path_separates_nothing() {
        let argv = text(arguments(&plan(), Acceleration::Kvm).argv(Path::new("/q")).unwrap());
        assert!(argv.contains("socket,id=vsock,path=/run/nexus/1,,2/vhost.sock "), "{argv}");
        let plan = MachinePlan { runtime_dir: "/run/1,2".into(), ..plan() };
        assert!(matches!(
            sidecar_argv(Path::new("/s"), &plan, Path::new("/run/1,2/vhost.sock"), Path::new("/run/vsock.closed")),
            Err(VmmError::Unsupported { .. })
        ));
    }
}
