//! The machine that the figures are of.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use crate::Outcome;

/// Says what it is, in one line.
///
/// # Errors
/// When it does not say.
pub(crate) fn describe(guest: &Path) -> Outcome<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kibibytes: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let guest = fs::read_to_string(guest.join("kernel-version")).unwrap_or_default();
    let qemu = first_line("qemu-system-x86_64", &["--version"])?;
    let bus = first_line("dbus-daemon", &["--version"])?;
    Ok(format!(
        "{} × {model}, {} GiB of memory, Linux {}; {qemu}, guest kernel {}; {bus}.",
        thread::available_parallelism()?,
        kibibytes >> 20,
        kernel.trim(),
        guest.trim()
    ))
}

/// What time it is there.
///
/// # Errors
/// When it does not say.
pub(crate) fn now() -> Outcome<String> {
    first_line("date", &["-u", "+%F %H:%M UTC"])
}

/// How many processes wanted to run, in the last 1, 5 and 15 minutes.
///
/// # Errors
/// When `/proc` can't be read.
pub(crate) fn load() -> Outcome<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    Ok(load.split(' ').take(3).collect::<Vec<_>>().join(", "))
}

/// What a process has taken of the processors, in hundredths of a second.
///
/// # Errors
/// When it does not run.
pub(crate) fn cpu_time(pid: u32) -> Outcome<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, stat) = stat.rsplit_once(") ").ok_or("no state")?;
    // Fields 14 and 15 of proc_pid_stat(5); the first one here is field 3.
    let times = stat.split(' ').skip(11).take(2).map(str::parse::<u64>);
    Ok(Duration::from_millis(10 * times.sum::<Result<u64, _>>()?))
}

fn first_line(program: &str, arguments: &[&str]) -> Outcome<String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("cannot run {program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}
