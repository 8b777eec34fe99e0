//! What can be measured.

use std::path::Path;

use clap::ValueEnum;

use crate::{Outcome, boot, calls, death, guest, idle, report::Report, scale::Scale, session::Programs};

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
    /// An idle daemon.
    Idle,
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
            Self::Idle => idle::measure(report, scale, programs).await,
        }
    }
}
