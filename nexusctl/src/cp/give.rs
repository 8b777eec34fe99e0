//! Copying into a guest.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nexus_archive::{ArchiveError, IdleStream, chunk, pack};

use super::{
    end,
    meter::{Meter, Metered},
    side::Source,
};

/// Size of a block as file systems count them, in bytes, see `st_blocks` in `inode(7)`.
const BLOCK: u64 = 512;

/// Sends a file or a folder, and says how many things of it were left out once it is in its place.
pub(super) fn give(stream: &IdleStream, source: &Source, meter: &Meter) -> Result<u64, String> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // A large tree takes long to count, and the guest waits for its first byte.
        scope.spawn(|| size(&source.path, &stop).map(|bytes| meter.expect(bytes)));
        let given = give_counted(stream, source, meter);
        stop.store(true, Ordering::Relaxed);
        given
    })
}

fn give_counted(stream: &IdleStream, source: &Source, meter: &Meter) -> Result<u64, String> {
    let broken = |error: io::Error| format!("the copy broke off: {error}");
    let (mut sink, answers) = (stream.try_clone().map_err(broken)?, stream.try_clone().map_err(broken)?);
    // The guest says every few seconds that it is at work; and when it refuses what comes, nothing more is written.
    let ending = stream.try_clone().map_err(broken)?;
    let answered = thread::spawn(move || {
        let answer = end::read(answers);
        ending.close();
        answer
    });
    let sent = send(&mut sink, source, meter);
    if matches!(&sent, Err(Unsent::Here(_))) {
        stream.close();
    }
    let answer = answered.join().map_err(|_| "nexusctl failed".to_owned())?;
    match (sent, answer) {
        (Ok((left_out, sha256)), Ok(done)) if done.sha256.as_str() == sha256 => Ok(left_out),
        (Ok(_), Ok(_)) => Err("the guest has received something else: its checksum is another one".to_owned()),
        (Err(Unsent::Here(why)), _) | (Ok(_) | Err(Unsent::There(_)), Err(why)) => Err(why),
        (Err(Unsent::There(why)), Ok(_)) => Err(why),
    }
}

/// Why an archive was not sent.
enum Unsent {
    /// It could not be packed.
    Here(String),
    /// The guest took no more, and says why.
    There(String),
}

fn send(sink: &mut IdleStream, source: &Source, meter: &Meter) -> Result<(u64, String), Unsent> {
    let mut chunks = chunk::Writer::new(Metered { stream: sink, meter });
    let packed = pack(&source.place, &source.place.name, &mut chunks).map(|(_, summary)| summary);
    let summary = match packed {
        Ok(summary) => summary,
        Err(error @ ArchiveError::Stream { .. }) => return Err(Unsent::There(error.said())),
        Err(error) => return Err(Unsent::Here(error.said())),
    };
    let broken = |error: io::Error| Unsent::There(format!("the copy broke off: {error}"));
    let (sink, sha256) = chunks.finish().map_err(broken)?;
    let report = end::report(Ok(summary), &sha256).map_err(Unsent::Here)?;
    chunk::write_report(sink, &report).map_err(broken)?;
    Ok((summary.left_out, sha256))
}

/// As many bytes as about will be sent, unless it is told to stop. What can't be read is found out later.
fn size(path: &Path, stop: &AtomicBool) -> Option<u64> {
    if stop.load(Ordering::Relaxed) {
        return None;
    }
    let Ok(metadata) = fs::symlink_metadata(path) else { return Some(0) };
    if metadata.is_dir() {
        let below = fs::read_dir(path).into_iter().flatten().flatten();
        below.map(|entry| size(&entry.path(), stop)).sum()
    } else if metadata.is_file() {
        Some(metadata.len().min(metadata.blocks() * BLOCK))
    } else {
        Some(0)
    }
}
