//! What process 1 does that no other process does. The guest's disk may be broken: whatever fails is said on the
//! console, and the rest goes on, so that the host can still reach the agent.

mod end;
mod loopback;
mod mounts;

use std::fmt::Display;

use nix::sys::reboot::set_cad_enabled;

use crate::{boot_options::BootOptions, log::say};

pub(crate) use end::end;

/// Makes a bare root file system one that programs can live in, and says what the host asks for.
pub(crate) fn prepare() -> BootOptions {
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    mounts::mount_all();
    note("take Ctrl-Alt-Del", set_cad_enabled(false));
    // They are in /proc, which is there just now.
    let options = BootOptions::of_this_boot();
    let hostname = options.hostname.clone().or_else(hostname_of_image);
    if let Some(hostname) = hostname {
        note("set the host name", nix::unistd::sethostname(&hostname));
    }
    note("bring up the loopback interface", loopback::bring_up());
    options
}

fn hostname_of_image() -> Option<String> {
    let text = std::fs::read_to_string("/etc/hostname").ok()?;
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

fn note<T, E: Display>(act: &str, result: Result<T, E>) {
    if let Err(error) = result {
        say!("cannot {act}: {error}");
    }
}
