//! How far a long operation is, and how to call it off.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Shared by who does something long and who watches it. Clones are the same handle.
#[derive(Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Default)]
struct Shared {
    completed: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
    report: Option<Box<dyn Fn(u64, u64) + Send + Sync>>,
}

/// Somebody called the operation off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Progress {
    /// A handle whose `report` is told the completed bytes and the total of what is known so far, every few MiB, on the
    /// thread that does the work. The total grows when a further step begins; it is 0 while nobody knows.
    pub fn new(report: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { report: Some(Box::new(report)), ..Shared::default() }))
    }

    /// Calls the operation off: it ends with [`Cancelled`] within a few MiB, and leaves nothing behind.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether somebody called it off.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }

    /// Bytes that are done.
    #[must_use]
    pub fn completed(&self) -> u64 {
        self.0.completed.load(Ordering::Relaxed)
    }

    /// Bytes that there are to do, as far as is known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    pub(crate) fn expect(&self, bytes: u64) {
        self.0.total.fetch_add(bytes, Ordering::Relaxed);
        self.report();
    }

    pub(crate) fn advance(&self, bytes: u64) -> Result<(), Cancelled> {
        self.check()?;
        self.0.completed.fetch_add(bytes, Ordering::Relaxed);
        self.report();
        Ok(())
    }

    fn report(&self) {
        if let Some(report) = &self.0.report {
            report(self.completed(), self.total());
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("completed", &self.completed())
            .field("total", &self.total())
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}
