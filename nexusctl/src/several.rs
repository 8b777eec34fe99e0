//! Doing the same with several things: all are tried, and each failure is told.

use crate::{
    failure::{Exit, Failure},
    output,
};

/// How it went so far.
#[derive(Debug, Default)]
pub(crate) struct Several {
    failed: Option<Exit>,
}

impl Several {
    /// Notes how one went. What failed is printed at once; what would fail for all of them ends everything.
    pub(crate) fn note<T>(&mut self, result: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(failure) if failure.ends_all() => Err(failure),
            Err(failure) => {
                output::note(failure.to_string());
                self.failed = Some(failure.code());
                Ok(None)
            }
        }
    }

    /// How nexusctl ends.
    pub(crate) fn end(self) -> Result<Exit, Failure> {
        match self.failed {
            None => Ok(Exit::OK),
            Some(exit) => Err(Failure::silent(exit)),
        }
    }
}

/// `VM web`, `VMs web, db`: for a question.
pub(crate) fn listed(noun: &str, names: &[String]) -> String {
    match names {
        [one] => format!("{noun} {one}"),
        several => format!("{noun}s {}", several.join(", ")),
    }
}
