//! Copying out of a guest, whose archive may be hostile.

use std::{
    fs::File,
    io::{self, BufReader},
    os::fd::AsFd,
};

use nexus_archive::{Draft, IdleStream, Target, chunk};
use nix::sys::stat::{self, Mode};

use super::{
    broken::Broken,
    end,
    meter::{Meter, Metered},
};

/// Takes a file or a folder, puts it into its place, and says how many things of it were left out.
pub(super) fn take(stream: IdleStream, target: Target, meter: &Meter) -> Result<u64, Broken> {
    let draft = Draft::begin(target)?;
    let mut chunks = chunks(stream, meter);
    let unpacked = draft.unpack(umask(), &mut chunks);
    let (top, left_out) = match unpacked {
        Ok((top, _)) => (top, finish(chunks)?),
        // An archive that ends early may be one that the guest could not go on with.
        Err(error) if chunks.is_ended() => return Err(finish(chunks).err().unwrap_or_else(|| error.said()).into()),
        Err(error) => return Err(error.into()),
    };
    draft.commit(&top)?;
    Ok(left_out)
}

/// What new files are not to be used for by others. Whoever looks has to set it, too: for that moment to the strictest.
fn umask() -> u32 {
    let umask = stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
    stat::umask(umask);
    umask.bits()
}

/// Passes the archive on to standard output.
pub(super) fn pass_on(stream: IdleStream, meter: &Meter) -> Result<u64, Broken> {
    write(stream, meter).map_err(|why| Broken { why, stays: meter.has_moved() })
}

fn write(stream: IdleStream, meter: &Meter) -> Result<u64, String> {
    let broken = |error: io::Error| format!("the copy broke off: {error}");
    let mut chunks = chunks(stream, meter);
    // Not by way of a buffer, whose last bytes would be written when nobody looks any more.
    let own = io::stdout().as_fd().try_clone_to_owned().map_err(broken)?;
    io::copy(&mut chunks, &mut File::from(own)).map_err(broken)?;
    finish(chunks)
}

type Chunks<'a> = chunk::Reader<BufReader<Metered<'a, IdleStream>>>;

fn chunks(stream: IdleStream, meter: &Meter) -> Chunks<'_> {
    chunk::Reader::new(BufReader::with_capacity(chunk::MAX_BYTES, Metered { stream, meter }))
}

/// Sees that the guest has sent what has come.
fn finish(chunks: Chunks<'_>) -> Result<u64, String> {
    let (source, sha256) = chunks.finish().map_err(|error| format!("the copy broke off: {error}"))?;
    let done = end::read(source)?;
    if done.sha256.as_str() == sha256 {
        Ok(done.left_out)
    } else {
        Err("something else has come than the guest has sent: its checksum is another one".to_owned())
    }
}
