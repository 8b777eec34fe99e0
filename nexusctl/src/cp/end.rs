//! What the two sides of a copy say at its end.

use std::io::Read;

use nexus_archive::{Summary, chunk};
use nexus_protocol::{CopyDone, CopyReport, Failure, FailureKind, Text, frame};

/// What the guest says next that is more than that it is at work.
pub(super) fn read(mut stream: impl Read) -> Result<CopyDone, String> {
    loop {
        let report = chunk::read_report(&mut stream).map_err(|error| format!("the copy broke off: {error}"))?;
        match frame::decode(&report) {
            Ok(CopyReport::Working) => {}
            Ok(CopyReport::Done(done)) => return Ok(done),
            Ok(CopyReport::Failure(failure)) => return Err(failure.message.to_string()),
            Err(_) => return Err("what the guest says can't be understood".to_owned()),
        }
    }
}

/// What to say behind an archive.
pub(super) fn report(packed: Result<Summary, &str>, sha256: &str) -> Result<Vec<u8>, String> {
    let report = match packed {
        Ok(Summary { entries, bytes, left_out }) => {
            CopyReport::Done(CopyDone { entries, bytes, left_out, sha256: Text::from(sha256) })
        }
        Err(why) => CopyReport::Failure(Failure::new(FailureKind::System, why)),
    };
    frame::encode(&report).map(Vec::from).map_err(|error| error.to_string())
}
