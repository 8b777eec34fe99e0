//! nexus-bench: measures what `docs/benchmarks.md` claims, each figure beside a bare baseline of the same run.
//!
//! Runs the real programs on a bus of its own, in folders of its own, and leaves nothing behind, however it ends.

mod bare;
mod blocking;
mod boot;
mod busy;
mod caller;
mod calls;
mod changes;
mod crowd;
mod death;
mod document;
mod due;
mod fault;
mod files;
mod fleet;
mod guest;
mod idle;
mod machine;
mod measurement;
mod peer;
mod recovery;
mod report;
mod restart;
mod samples;
mod scale;
mod service;
mod session;
mod storm;
mod streams;
mod terminal;
mod testbed;

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum, builder::FalseyValueParser};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use self::{document::Document, measurement::Measurement, report::Report, scale::Scale, session::Programs};

/// What comes of a measurement.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The whole bench ends here, whatever hangs.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// Measures Nexus against bare baselines, and prints tables as it goes.
#[derive(Debug, Parser)]
#[command(name = "nexus-bench")]
struct Arguments {
    /// The folder with nexusd, nexusd-failpoints, nexusctl and nexus-shim, as `make bench` leaves it.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// The static guest agent, as `make agent` leaves it.
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The static peer of bare connections, as `make bench` leaves it.
    #[arg(long, value_name = "FILE")]
    peer: PathBuf,
    /// The folder with vmlinuz, initrd.img and rootfs, as `make guest` leaves it.
    #[arg(long, value_name = "FOLDER")]
    guest: PathBuf,
    /// Write the figures into this document, in place of those that it has.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Measure that alone, and leave everything else in the document as it is; several times for several.
    #[arg(long, value_name = "MEASUREMENT")]
    only: Vec<Measurement>,
    /// Take each measurement a few times only, and write no document: shows that the bench works, and nothing else.
    #[arg(long, env = "BENCH_QUICK", value_parser = FalseyValueParser::new())]
    quick: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let serving = env::args().nth(1).is_some_and(|word| word == service::ROLE);
    let outcome = if serving { service::serve().await } else { bench(&Arguments::parse()).await };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::fail(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Measures everything. A signal ends it like an error: what was started goes with the futures that started it.
async fn bench(arguments: &Arguments) -> Outcome<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        outcome = timeout(LIMIT, measure(arguments)) => {
            outcome.map_err(|_| format!("it took longer than {} minutes", LIMIT.as_secs() / 60))?
        }
        _ = terminate.recv() => Err("it was terminated".into()),
        _ = interrupt.recv() => Err("it was interrupted".into()),
    }
}

async fn measure(arguments: &Arguments) -> Outcome<()> {
    let scale = if arguments.quick { Scale::quick() } else { Scale::full() };
    let programs = Programs::find(&arguments.programs, &arguments.agent, &arguments.peer)?;
    let machine = machine::describe(&arguments.guest)?;
    let mut document = arguments.report.as_deref().filter(|_| !arguments.quick).map(Document::open).transpose()?;
    let all = arguments.only.is_empty();
    match &mut document {
        Some(document) if all => document.begin_anew(&machine),
        Some(document) => document.check_machine(&machine)?,
        None => {}
    }

    let mut report = Report::default();
    report.line(machine);
    for measurement in Measurement::value_variants().iter().filter(|one| all || arguments.only.contains(one)) {
        let load = machine::load()?;
        report.line("");
        measurement.take(&mut report, &scale, &programs, &arguments.guest).await?;
        let (now, after) = (machine::now()?, machine::load()?);
        report.line(format!("\nMeasured on {now}; load average before: {load}; after: {after}."));
    }
    match document {
        Some(document) => document.save(report.into_sections()),
        None => Ok(()),
    }
}
