//! How fast bytes go through a command's streams.

use std::{fs::File, os::fd::OwnedFd, path::Path};

use nexus_bench_peer::Request;
use nexus_dbus::client::Options;

use crate::{
    Outcome, blocking,
    calls::timed,
    report::Report,
    samples::Samples,
    scale::Scale,
    session::Programs,
    testbed::{Kind, Subject, Testbed},
};

/// The least share of the bare throughput.
const GOAL: f64 = 0.9;

/// What a command writes at once.
const BLOCK_BYTES: u64 = 256 * 1024;

/// Takes everything.
const SINK: [&str; 3] = ["sh", "-c", "cat >/dev/null"];

/// Measures it.
///
/// # Errors
/// When the bytes do not come through.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "Streams",
        &format!(
            "Zeros go through the descriptors of `Guest.Exec`: into `cat >/dev/null`, until `WaitExec` says that it has ended, \
             and out of `dd if=/dev/zero bs=256k`, until all have come: {} MiB each way. Against as many over a bare connection \
             to a program of the bench's in the same VM, which has the same command take or make them, through a pipe (*a bare \
             copy to a command*), or drops or makes them itself, without a command and its pipe, which Nexus never does (*a bare \
             copy to nobody*): over vsock in QEMU, over a Unix socket in a `process` VM, which has no vsock. On the host the same \
             code reads and writes, 256 KiB at once. In turns.",
            scale.stream_bytes >> 20
        ),
    );
    let mut testbed = Testbed::start(programs, guest).await?;
    report.comparisons();
    for kind in Kind::ALL {
        let bytes = scale.stream_bytes;
        let subject = testbed.run(kind).await?;
        let (mut nexus, mut bare, mut piped) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..scale.streams {
            nexus.push(timed(send(&subject, bytes)).await?);
            bare.push(timed(send_bare(&subject, Request::Take(bytes), bytes)).await?);
            piped.push(timed(send_bare(&subject, Request::run_with(bytes, &SINK), bytes)).await?);
        }
        let label = kind.label();
        report.throughput(&format!("{label}: in ÷ a bare copy to a command"), bytes, &nexus, &piped, GOAL);
        report.throughput(&format!("{label}: in ÷ a bare copy to nobody"), bytes, &nexus, &bare, GOAL);

        let count = format!("count={}", bytes / BLOCK_BYTES);
        let source = ["dd", "if=/dev/zero", &format!("bs={BLOCK_BYTES}"), &count, "status=none"];
        let (mut nexus, mut bare, mut piped) = (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..scale.streams {
            nexus.push(timed(receive(&subject, &source, bytes)).await?);
            bare.push(timed(receive_bare(&subject, Request::Give(bytes), bytes)).await?);
            piped.push(timed(receive_bare(&subject, Request::run(&source), bytes)).await?);
        }
        report.throughput(&format!("{label}: out ÷ a bare copy from a command"), bytes, &nexus, &piped, GOAL);
        report.throughput(&format!("{label}: out ÷ a bare copy from nobody"), bytes, &nexus, &bare, GOAL);
        testbed.end(subject).await?;
    }
    Ok(())
}

async fn send(subject: &Subject, bytes: u64) -> Outcome<()> {
    let (id, stdin, _stdout, _stderr) = subject.guest.exec(&SINK, Options::new()).await?;
    let stdin = File::from(OwnedFd::from(stdin));
    blocking::run(move || blocking::fill(stdin, bytes)).await?;
    match subject.guest.wait_exec(id).await? {
        (0, 0) => Ok(()),
        (code, signal) => Err(format!("a command ended with {code}, signal {signal}").into()),
    }
}

async fn send_bare(subject: &Subject, request: Request, bytes: u64) -> Outcome<()> {
    let connection = subject.peer.ask(request).await?;
    blocking::run(move || {
        blocking::fill(&connection, bytes)?;
        blocking::done(&connection)
    })
    .await
}

async fn receive(subject: &Subject, source: &[&str], bytes: u64) -> Outcome<()> {
    let (_, stdin, stdout, _stderr) = subject.guest.exec(source, Options::new()).await?;
    drop(stdin);
    let stdout = File::from(OwnedFd::from(stdout));
    blocking::run(move || blocking::take(stdout, bytes)).await
}

async fn receive_bare(subject: &Subject, request: Request, bytes: u64) -> Outcome<()> {
    let connection = subject.peer.ask(request).await?;
    blocking::run(move || blocking::take(connection, bytes)).await
}
