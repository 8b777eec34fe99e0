//! nexus-bench: measures what `docs/benchmarks.md` claims, each figure beside a bare baseline of the same run.
//!
//! Runs the real programs on a bus of its own, in folders of its own, and leaves nothing behind, however it ends.

mod boot;
mod calls;
mod changes;
mod death;
mod fleet;
mod guest;
mod idle;
mod machine;
mod report;
mod samples;
mod scale;
mod service;
mod session;

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, builder::FalseyValueParser};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use self::{report::Report, scale::Scale, session::Programs};

/// What comes of a measurement.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The whole bench ends here, whatever hangs.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Measures Nexus against bare baselines, and prints tables as it goes.
#[derive(Debug, Parser)]
#[command(name = "nexus-bench")]
struct Arguments {
    /// The folder with nexusd, nexusctl and nexus-shim, as `make build` leaves it.
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// The static guest agent, as `make agent` leaves it.
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The folder with vmlinuz, initrd.img and rootfs, as `make guest` leaves it.
    #[arg(long, value_name = "FOLDER")]
    guest: PathBuf,
    /// Write the figures into this document, in place of those that it has.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
    let programs = Programs::find(&arguments.programs, &arguments.agent)?;
    let mut report = Report::default();
    machine::describe(&mut report, &arguments.guest)?;
    boot::measure(&mut report, &scale, &programs, &arguments.guest).await?;
    calls::measure(&mut report, &scale, &programs).await?;
    death::measure(&mut report, &scale, &programs).await?;
    guest::measure(&mut report, &scale, &programs, &arguments.guest).await?;
    idle::measure(&mut report, &scale, &programs).await?;
    report.line(format!("\nLoad average at the end: {}.", machine::load()?));
    match &arguments.report {
        Some(path) if !arguments.quick => report.save(path),
        _ => Ok(()),
    }
}
