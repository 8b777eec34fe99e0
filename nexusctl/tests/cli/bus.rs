//! A private session bus.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Ended when dropped.
pub(crate) struct PrivateBus {
    daemon: Child,
    address: String,
    folder: TempDir,
}

impl PrivateBus {
    pub(crate) fn start() -> Self {
        Self::start_with(false)
    }

    /// One that starts a daemon when somebody asks for it, which does not come up.
    pub(crate) fn with_a_daemon_that_hangs() -> Self {
        Self::start_with(true)
    }

    fn start_with(hangs: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let services = folder.path().join("services");
        fs::create_dir(&services).unwrap();
        if hangs {
            let script = folder.path().join("hangs");
            fs::write(&script, "echo $$ >\"$0.pid\"\nexec sleep 1000\n").unwrap();
            let service = format!("[D-BUS Service]\nName=org.workfort.Nexus1\nExec=/bin/sh {}\n", script.display());
            fs::write(services.join("org.workfort.Nexus1.service"), service).unwrap();
        }
        let configuration = folder.path().join("bus.conf");
        let socket = folder.path().join("socket");
        fs::write(
            &configuration,
            format!(
                r#"<busconfig>
                     <type>session</type>
                     <listen>unix:path={}</listen>
                     <servicedir>{}</servicedir>
                     <policy context="default">
                       <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/>
                     </policy>
                   </busconfig>"#,
                socket.display(),
                services.display()
            ),
        )
        .unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", configuration.display()))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need dbus-daemon");
        // It prints its address once it listens.
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { daemon, address: address.trim().to_owned(), folder }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // What it has started outlives it.
        let started = fs::read_to_string(self.folder.path().join("hangs.pid")).unwrap_or_default();
        if let Ok(pid) = started.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
