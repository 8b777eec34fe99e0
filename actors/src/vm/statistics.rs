//! What a connection has carried, over all the times that it was opened.

use std::sync::{Arc, Mutex, PoisonError};

use nexus_host::agent::{Meter, Traffic};

use crate::snapshot::ConnectionStatistics;

/// Outlives the actor of the connection, whose faults are no reason to count anew.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<Ledger>);

#[derive(Debug, Default)]
struct Ledger {
    /// What all but the newest stream have carried.
    past: Traffic,
    newest: Option<Arc<Meter>>,
    /// The run of the VM in which that was opened.
    run: u64,
    reconnects: u64,
}

impl Statistics {
    /// The connection was opened in that run of the VM.
    pub(super) fn opened(&self, run: u64, meter: Arc<Meter>) {
        let mut ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = ledger.newest.replace(meter) {
            ledger.past += before.read();
            ledger.reconnects += u64::from(ledger.run == run);
        }
        ledger.run = run;
    }

    pub(crate) fn read(&self) -> ConnectionStatistics {
        let ledger = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut traffic = ledger.past;
        traffic += ledger.newest.as_ref().map(|meter| meter.read()).unwrap_or_default();
        ConnectionStatistics {
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            frames_in: traffic.frames_in,
            frames_out: traffic.frames_out,
            reconnects: ledger.reconnects,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_guest_is_no_reconnect() {
        let statistics = Statistics::default();
        for (run, reconnects) in [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2)] {
            statistics.opened(run, Arc::default());
            assert_eq!(statistics.read().reconnects, reconnects, "run {run}");
        }
    }
}
