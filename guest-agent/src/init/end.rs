//! The guest's last moments.

use std::{fs, time::Duration};

use nexus_protocol::ShutdownMode;
use nix::{
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
    },
    unistd::{Pid, sync},
};
use rustix::{
    io::Errno,
    process::{WaitOptions, wait},
};
use tokio::time::{Instant, sleep};

use super::{mounts, note};
use crate::log::say;

/// How long programs have to end by themselves, and then to be gone.
const TERM_TIME: Duration = Duration::from_secs(2);
const KILL_TIME: Duration = Duration::from_secs(1);

/// Ends every program, puts everything on disk and turns the guest off. Returns only if the kernel refuses.
pub(crate) async fn end(mode: ShutdownMode) {
    say!("{}", if mode == ShutdownMode::Reboot { "rebooting" } else { "powering off" });
    for (signal, time) in [(Signal::SIGTERM, TERM_TIME), (Signal::SIGKILL, KILL_TIME)] {
        // Everything but this process and the kernel's own.
        let _ = kill(Pid::from_raw(-1), signal);
        if everything_ends_within(time).await {
            break;
        }
    }
    sync();
    mounts::unmount_all();
    sync();
    let result = match mode {
        ShutdownMode::Reboot => {
            let_kernel_speak();
            reboot(RebootMode::RB_AUTOBOOT)
        }
        ShutdownMode::Poweroff if has_power_switch() => {
            let_kernel_speak();
            reboot(RebootMode::RB_POWER_OFF)
        }
        ShutdownMode::Poweroff => {
            speak_for_kernel();
            reboot(RebootMode::RB_AUTOBOOT)
        }
    };
    let Err(error) = result;
    say!("the kernel does not end: {error}");
}

/// Every program is a descendant of process 1; so none is left when it has no child.
async fn everything_ends_within(time: Duration) -> bool {
    let deadline = Instant::now() + time;
    loop {
        // Whom this reaps nobody waits for any more.
        match wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                if Instant::now() >= deadline {
                    return false;
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// Whether the machine can be turned off by its guest. Without ACPI it can't; Firecracker has ACPI tables, made by
/// `FIRECK`, but nothing to turn it off with. The kernel would halt for ever instead.
fn has_power_switch() -> bool {
    fs::read("/sys/firmware/acpi/tables/FACP")
        // The table's header holds the maker's six letters from byte 10: ACPI specification 6.5, table 5.4.
        .is_ok_and(|table| table.get(10..16).is_some_and(|maker| maker != b"FIRECK"))
}

/// The kernel's last line on the console, `reboot: Power down` or `reboot: Restarting system`, tells the host how the
/// guest ended when nobody listened to the agent. It is printed unless the console was muted.
fn let_kernel_speak() {
    note("have the kernel speak", fs::write("/proc/sys/kernel/printk", "7"));
}

/// Prints what the kernel would, and mutes the kernel: the guest is off for whoever looks, though it ends in the way of
/// a reboot, which is the one way that ends the VMM.
fn speak_for_kernel() {
    let_kernel_speak();
    note("speak for the kernel", fs::write("/dev/kmsg", "<0>reboot: Power down\n"));
    note("mute the kernel", fs::write("/proc/sys/kernel/printk", "0 4 0 7"));
}
