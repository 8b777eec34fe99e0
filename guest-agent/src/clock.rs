//! The guest's clock and its random pool, put right by the host.

use std::{fs::File, mem::size_of, os::fd::AsRawFd, time::Duration};

use nexus_protocol::{Failure, FailureKind, Refresh, Refreshed};
use nix::{
    errno::Errno,
    libc::c_int,
    time::{ClockId, clock_gettime, clock_settime},
};

use crate::log::say;

/// By how much the guest's clock may be late, and by how much ahead. The host's time is older by as long as it was on its
/// way, so a guest that is a little ahead may be right.
const LATE: Duration = Duration::from_millis(100);
const AHEAD: Duration = Duration::from_secs(1);

/// `struct rand_pool_info` of `linux/random.h`.
#[repr(C)]
struct Pool {
    entropy_bits: c_int,
    bytes: c_int,
    buffer: [u8; Refresh::MAX_ENTROPY_BYTES],
}

// `RNDADDENTROPY` is defined with the size of the struct's two numbers.
nix::ioctl_write_ptr_bad!(add_entropy, nix::request_code_write!(b'R', 3, size_of::<[c_int; 2]>()), Pool);
nix::ioctl_none!(reseed_generator, b'R', 7);

/// Puts the clock right and gives the pool what came.
pub(crate) fn refresh(refresh: &Refresh) -> Result<Refreshed, Failure> {
    let stepped = set_clock(Duration::from_micros(refresh.clock_us));
    reseed(&refresh.entropy.0)?;
    let stepped_us = stepped.map_err(|error| failed("set the guest's clock", error))?;
    if stepped_us != 0 {
        say!("the clock was put right by {stepped_us} µs");
    }
    Ok(Refreshed { stepped_us })
}

fn set_clock(host: Duration) -> nix::Result<i64> {
    let guest = clock_gettime(ClockId::CLOCK_REALTIME)?.into();
    let step = step(guest, host);
    if step != 0 {
        clock_settime(ClockId::CLOCK_REALTIME, host.into())?;
    }
    Ok(step)
}

/// By how many microseconds the guest's time is to be changed.
fn step(guest: Duration, host: Duration) -> i64 {
    let (late, ahead) = (host.saturating_sub(guest), guest.saturating_sub(host));
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match (late > LATE, ahead > AHEAD) {
        (true, _) => micros(late),
        (_, true) => -micros(ahead),
        _ => 0,
    }
}

/// Has the generator begin anew with these bytes, which are fewer than the buffer holds.
fn reseed(entropy: &[u8]) -> Result<(), Failure> {
    let mut pool = Pool { entropy_bits: 0, bytes: 0, buffer: [0; Refresh::MAX_ENTROPY_BYTES] };
    let (Some(buffer), Ok(bytes)) = (pool.buffer.get_mut(..entropy.len()), c_int::try_from(entropy.len())) else {
        let message = format!("there are more than {} bytes of entropy", Refresh::MAX_ENTROPY_BYTES);
        return Err(Failure::new(FailureKind::Invalid, message));
    };
    buffer.copy_from_slice(entropy);
    (pool.entropy_bits, pool.bytes) = (bytes * 8, bytes);
    let device = File::options()
        .write(true)
        .open("/dev/random")
        .map_err(|error| Failure::new(FailureKind::System, format!("cannot open /dev/random in the guest: {error}")))?;
    // SAFETY: the struct is what the kernel expects behind that number, and holds as many bytes as it says.
    unsafe { add_entropy(device.as_raw_fd(), &raw const pool) }
        .map_err(|error| failed("add to the guest's random pool", error))?;
    // SAFETY: there is no argument.
    match unsafe { reseed_generator(device.as_raw_fd()) } {
        // Before Linux 4.17, which reseeds in its own time.
        Ok(_) | Err(Errno::EINVAL) => Ok(()),
        Err(error) => Err(failed("reseed the guest's random generator", error)),
    }
}

fn failed(act: &str, error: Errno) -> Failure {
    Failure::new(FailureKind::System, format!("cannot {act}: {}", error.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_about_right_stays() {
        let at = Duration::from_millis;
        assert_eq!(step(at(10_000), at(10_100)), 0);
        assert_eq!(step(at(10_000), at(10_101)), 101_000);
        assert_eq!(step(at(11_000), at(10_000)), 0);
        assert_eq!(step(at(11_001), at(10_000)), -1_001_000);
        assert_eq!(step(Duration::ZERO, Duration::from_micros(u64::MAX)), i64::MAX);
    }

    #[test]
    fn more_entropy_than_there_is_room_for_is_refused() {
        let refused = reseed(&[0; Refresh::MAX_ENTROPY_BYTES + 1]).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Invalid);
    }
}
