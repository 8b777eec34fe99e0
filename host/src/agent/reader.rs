//! Frames from the agent.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use nexus_protocol::{
    MAX_FRAME_BYTES,
    frame::{self, FrameError},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

use super::{Disconnect, traffic::Meter};

/// How long a frame may take from its first byte to its last.
const FRAME_DEADLINE: Duration = Duration::from_secs(30);

/// As much is read at a time, or what is left of a large frame.
const READ_BYTES: usize = 4096;

/// Cuts what a guest sends into frames. Between two of them it waits for ever, inside one it does not.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    stream: R,
    codec: LengthDelimitedCodec,
    buffer: BytesMut,
    /// When the first byte of a frame came that is not there as a whole yet.
    begun: Option<Instant>,
    meter: Arc<Meter>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, meter: Arc<Meter>) -> Self {
        Self { stream, codec: frame::codec(), buffer: BytesMut::new(), begun: None, meter }
    }

    fn decode(&mut self) -> Result<Option<BytesMut>, Disconnect> {
        // It refuses nothing but a length, and leaves that where it is.
        self.codec.decode(&mut self.buffer).map_err(|_| {
            let length = self.buffer.first_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            Disconnect::Frame(FrameError::TooLarge { length, limit: MAX_FRAME_BYTES })
        })
    }

    /// The next frame's payload. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<BytesMut, Disconnect> {
        loop {
            if let Some(payload) = self.decode()? {
                self.begun = (!self.buffer.is_empty()).then(Instant::now);
                self.meter.received_frame();
                return Ok(payload);
            }
            self.buffer.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.buffer);
            let read = match self.begun {
                Some(begun) => timeout_at(begun + FRAME_DEADLINE, read).await.map_err(|_| Disconnect::Dripping)?,
                None => read.await,
            };
            match (read.map_err(Disconnect::Io)?, self.begun) {
                (0, None) => return Err(Disconnect::Closed),
                (0, Some(_)) => return Err(Disconnect::Io(io::ErrorKind::UnexpectedEof.into())),
                (bytes, begun) => {
                    self.begun = begun.or_else(|| Some(Instant::now()));
                    self.meter.received(bytes);
                }
            }
        }
    }
}
