//! On a message bus of its own: names, callers that leave, a bus that goes away, and busctl.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nexus_actors::snapshot::JobSnapshot;
use nexus_dbus::{
    SERVICE,
    client::{JobProperties, ManagerProxy, Options, Row, objects},
    server::{Server, serve},
};
use nexus_model::JobState;
use nexus_tests::TestEngine;
use zbus::{Connection, connection::Builder};

use crate::{
    fixture::{LONG, job, one_of_everything, options},
    introspection::is_the_contract,
};

/// A dbus-daemon that ends with the test.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    /// None where there is no dbus-daemon, which is a failure only where everything must be tested.
    fn start() -> Option<Self> {
        let arguments = ["--session", "--nofork", "--nopidfile", "--print-address=1"];
        let started = Command::new("dbus-daemon").args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut daemon = match started {
            Ok(daemon) => daemon,
            Err(error) => {
                nexus_tests::not_run(&format!("there is no dbus-daemon: {error}"));
                return None;
            }
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(Self { daemon, address: address.trim().to_owned() })
    }

    async fn connect(&self) -> Connection {
        Builder::address(self.address.as_str()).build().await.unwrap()
    }

    async fn serve(&self, engine: &TestEngine) -> (Connection, Server) {
        let connection = self.connect().await;
        let server = serve(&connection, engine.engine.clone(), options()).await.unwrap();
        connection.request_name(SERVICE).await.unwrap();
        (connection, server)
    }

    fn busctl(&self, arguments: &[&str]) -> std::io::Result<Output> {
        Command::new("busctl").arg(format!("--address={}", self.address)).args(arguments).output()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[tokio::test]
async fn everything_is_there_when_the_name_is() {
    let Some(bus) = Bus::start() else { return };
    let engine = TestEngine::start().await;
    one_of_everything(engine.engine.board());
    let _served = bus.serve(&engine).await;
    let client = bus.connect().await;
    assert!(objects(&client).await.unwrap().values().any(|object| object.guest.is_some()));
    is_the_contract(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn busctl_reads_and_calls_it() {
    let Some(bus) = Bus::start() else { return };
    let engine = TestEngine::start().await;
    one_of_everything(engine.engine.board());
    let _served = bus.serve(&engine).await;
    for (command, says) in [
        ("tree --list org.workfort.Nexus1", "/org/workfort/Nexus1/vm/web/connection/1\n"),
        (
            "call org.workfort.Nexus1 /org/workfort/Nexus1 org.workfort.Nexus1.Manager GetVm s web",
            "o \"/org/workfort/Nexus1/vm/web\"\n",
        ),
        (
            "get-property org.workfort.Nexus1 /org/workfort/Nexus1/vm/web org.workfort.Nexus1.Vm State",
            "s \"running\"\n",
        ),
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = match tokio::task::block_in_place(|| bus.busctl(&arguments)) {
            Ok(output) => output,
            Err(error) => {
                nexus_tests::not_run(&format!("there is no busctl: {error}"));
                return;
            }
        };
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(says), "{command}: {said}");
    }
}

#[tokio::test]
async fn a_bus_that_goes_away_ends_the_server_and_the_next_one_shows_all() {
    let Some(bus) = Bus::start() else { return };
    let engine = TestEngine::start().await;
    one_of_everything(engine.engine.board());
    let (_connection, mut server) = bus.serve(&engine).await;
    drop(bus);
    tokio::time::timeout(LONG, server.ended()).await.unwrap();
    engine.engine.board().publish_job(9, JobSnapshot { bound: true, ..job(9, JobState::Running) });
    let Some(bus) = Bus::start() else { return };
    let _served = bus.serve(&engine).await;
    let client = bus.connect().await;
    let manager = ManagerProxy::new(&client).await.unwrap();
    assert!(manager.get_job(9).await.unwrap().as_str().ends_with("/job/9"));
}

/// An ext4 file that takes long to hash and no room: its holes are hashed, too.
fn slow_image(folder: &Path) -> Option<PathBuf> {
    let path = folder.join("slow.ext4");
    std::fs::File::create(&path).unwrap().set_len(64 << 30).unwrap();
    let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-O", "^has_journal"]).arg(&path).status();
    match made {
        Ok(made) => {
            assert!(made.success());
            Some(path)
        }
        Err(error) => {
            nexus_tests::not_run(&format!("there is no mke2fs: {error}"));
            None
        }
    }
}

#[tokio::test]
async fn a_bound_job_ends_with_its_caller_and_an_unbound_one_does_not() {
    let Some(bus) = Bus::start() else { return };
    let engine = TestEngine::start().await;
    let Some(image) = slow_image(engine.folder.path()) else { return };
    let _served = bus.serve(&engine).await;
    for (bind, bound) in [("caller", true), ("none", false)] {
        let caller = bus.connect().await;
        let manager = ManagerProxy::new(&caller).await.unwrap();
        let options = Options::from([("bind", bind.into())]);
        let job = manager.import_image(image.to_str().unwrap(), bind, options).await.unwrap();
        let job = JobProperties::read(&caller, &job).await.unwrap();
        assert_eq!((job.bound, job.sender.as_str()), (bound, caller.unique_name().unwrap().as_str()));
        caller.close().await.unwrap();
        let mut picture = engine.engine.board().jobs().watch(&job.id).unwrap();
        let ended = tokio::time::timeout(
            if bound { LONG } else { Duration::from_millis(200) },
            picture.wait_for(|job| job.state.is_final()),
        )
        .await;
        if bound {
            assert_eq!(ended.expect("cancelled in time").unwrap().state, JobState::Cancelled);
        } else {
            assert!(ended.is_err(), "it goes on");
            engine.engine.cancel_job(job.id).await.unwrap();
            assert_eq!(engine.job(job.id).await.state, JobState::Cancelled);
        }
    }
}
