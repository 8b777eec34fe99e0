//! How long a key takes until it shows on a terminal.

use std::{fs::File, os::fd::OwnedFd, path::Path};

use nexus_bench_peer::{Request, Terminal, read_line};
use nexus_dbus::client::Options;

use crate::{
    Outcome, blocking,
    report::Report,
    samples::Samples,
    scale::Scale,
    session::Programs,
    testbed::{Kind, Subject, Testbed},
};

/// What echoes.
#[derive(Clone, Copy)]
struct Program {
    argv: &'static [&'static str],
    label: &'static str,
}

/// The terminal's driver does; the program only reads whole lines. It has to be there for a first byte to come.
const DRIVER: Program = Program { argv: &["sh", "-c", "echo ready; exec cat"], label: "the driver's echo" };
/// The program does, as an editor would.
const CAT: Program =
    Program { argv: &["sh", "-c", "stty raw -echo; echo ready; exec cat"], label: "`cat` on a raw terminal" };

/// Measures it.
///
/// # Errors
/// When nothing comes back.
pub(crate) async fn measure(report: &mut Report, scale: &Scale, programs: &Programs, guest: &Path) -> Outcome<()> {
    report.section(
        "A key on a terminal",
        "A byte is written to the descriptor of `Guest.OpenShell`, until one comes back: from the terminal's driver, which \
         echoes what is typed, and from `cat` on a raw terminal, which has to run for it. Against the same program on a \
         terminal that a program of the bench's opens in the same VM, over a bare connection (vsock in QEMU, a Unix socket in a \
         `process` VM, which has no vsock), with nothing that keeps a screen in between; and against an echo over such a \
         connection without any terminal. For a `process` VM, whose programs run on the host, also against a terminal of \
         the host itself, with no connection at all. In turns.",
    );
    let mut testbed = Testbed::start(programs, guest).await?;
    report.spread("a key until its echo");
    for kind in Kind::ALL {
        let subject = testbed.run(kind).await?;
        for program in [DRIVER, CAT] {
            keys(report, scale.keystrokes, &subject, program).await?;
        }
        testbed.end(subject).await?;
    }
    Ok(())
}

async fn keys(report: &mut Report, count: usize, subject: &Subject, program: Program) -> Outcome<()> {
    let (_, stream) = subject.guest.open_shell(program.argv, Options::new()).await?;
    let ours = File::from(OwnedFd::from(stream));
    let bare = subject.peer.ask(Request::terminal(program.argv)).await?;
    let echo = subject.peer.ask(Request::Echo).await?;
    let argv: Vec<_> = program.argv.iter().map(|&word| word.to_owned()).collect();
    let local = if subject.kind == Kind::Process { Some(Terminal::run(&argv)?) } else { None };

    let [ours, bare, echo, local] = blocking::run(move || {
        let local_stream = local.as_ref().map(Terminal::stream);
        for terminal in [Some(&ours), Some(&bare), local_stream].into_iter().flatten() {
            // It says that it runs.
            read_line(&mut &*terminal)?;
        }
        let mut columns: [Samples; 4] = Default::default();
        for number in 0..=count {
            for (column, stream) in columns.iter_mut().zip([Some(&ours), Some(&bare), Some(&echo), local_stream]) {
                let Some(stream) = stream else { continue };
                let sample = blocking::echo(stream)?;
                if number > 0 {
                    column.push(sample);
                }
            }
        }
        Ok(columns)
    })
    .await?;

    let what = format!("{}, {}", subject.kind.label(), program.label);
    report.percentiles(&format!("{what}: `OpenShell`"), &ours);
    report.percentiles(&format!("{what}: a terminal over a bare connection"), &bare);
    report.percentiles(&format!("{what}: no terminal, a bare connection"), &echo);
    if local.len() > 0 {
        report.percentiles(&format!("{what}: a terminal of the host"), &local);
    }
    report.ratios(&format!("{what}: `OpenShell` ÷ a terminal over a bare connection"), &ours, &bare);
    report.ratios(&format!("{what}: `OpenShell` ÷ no terminal"), &ours, &echo);
    if local.len() > 0 {
        report.ratios(&format!("{what}: `OpenShell` ÷ a terminal of the host"), &ours, &local);
    }
    Ok(())
}
