//! What can be measured.

use std::path::Path;

use clap::ValueEnum;

use crate::{
    Outcome, boot, busy, calls, crowd, death, fault, files, guest, idle, recovery, report::Report, restart,
    scale::Scale, session::Programs, storm, streams, terminal,
};

/// One section of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// From nothing to a guest that answers.
    Boot,
    /// Calls.
    Calls,
    /// A VMM dies.
    Death,
    /// Commands in a guest.
    Guest,
    /// Bytes through a command's streams.
    Streams,
    /// A tree of many small files.
    Files,
    /// Many commands at once.
    Crowd,
    /// A key on a terminal.
    Terminal,
    /// Many terminals that flood.
    Busy,
    /// An idle daemon.
    Idle,
    /// nexusd is killed and started again.
    Restart,
    /// A VM's actor is restarted, or panics.
    Fault,
    /// A VMM is killed and started again.
    Recovery,
    /// Many are killed at once.
    Storm,
}

impl Measurement {
    /// Measures it.
    ///
    /// # Errors
    /// When something does not work.
    pub(crate) async fn take(
        self,
        report: &mut Report,
        scale: &Scale,
        programs: &Programs,
        guest: &Path,
    ) -> Outcome<()> {
        match self {
            Self::Boot => boot::measure(report, scale, programs, guest).await,
            Self::Calls => calls::measure(report, scale, programs).await,
            Self::Death => death::measure(report, scale, programs).await,
            Self::Guest => guest::measure(report, scale, programs, guest).await,
            Self::Streams => streams::measure(report, scale, programs, guest).await,
            Self::Files => files::measure(report, scale, programs, guest).await,
            Self::Crowd => crowd::measure(report, scale, programs, guest).await,
            Self::Terminal => terminal::measure(report, scale, programs, guest).await,
            Self::Busy => busy::measure(report, scale, programs).await,
            Self::Idle => idle::measure(report, scale, programs).await,
            Self::Restart => restart::measure(report, scale, programs).await,
            Self::Fault => fault::measure(report, scale, programs).await,
            Self::Recovery => recovery::measure(report, scale, programs).await,
            Self::Storm => storm::measure(report, scale, programs).await,
        }
    }
}
