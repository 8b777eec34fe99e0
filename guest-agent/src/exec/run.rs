//! A command whose output is kept for its one caller.

use nexus_protocol::{Blob, Channel, Command, Ended, Failure, MAX_RUN_OUTPUT_BYTES, Ran};

use super::{follow::follow, spawner::Spawner};

/// Runs `command` to its end. It and everything that it started are killed when its time is over, and when the future
/// is dropped. What it leaves behind when it ends by itself goes on.
pub(crate) async fn run(spawner: &Spawner, command: &Command) -> Result<Ran, Failure> {
    let mut kept = Kept { stdout: Vec::new(), stderr: Vec::new(), room: MAX_RUN_OUTPUT_BYTES, truncated: false };
    let Ended { status, timed_out } =
        follow(spawner, command, None, |channel, bytes| kept.take(channel, bytes)).await?;
    Ok(Ran { status, timed_out, stdout: Blob(kept.stdout), stderr: Blob(kept.stderr), truncated: kept.truncated })
}

/// The beginning of both outputs.
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// As many bytes more may be kept, of both together.
    room: usize,
    truncated: bool,
}

impl Kept {
    fn take(&mut self, channel: Channel, bytes: &[u8]) {
        let wanted = bytes.len().min(self.room);
        self.room -= wanted;
        self.truncated |= wanted < bytes.len();
        let output = if channel == Channel::Stderr { &mut self.stderr } else { &mut self.stdout };
        output.extend_from_slice(bytes.get(..wanted).unwrap_or_default());
    }
}
