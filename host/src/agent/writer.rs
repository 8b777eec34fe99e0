//! Frames to the agent.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::SinkExt;
use nexus_protocol::frame;
use tokio::io::AsyncWrite;
use tokio_util::codec::{FramedWrite, LengthDelimitedCodec};

use super::traffic::Meter;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;

/// Puts frames on the stream, one after the other.
#[derive(Debug)]
pub(super) struct FrameWriter<W> {
    sink: FramedWrite<W, LengthDelimitedCodec>,
    meter: Arc<Meter>,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(stream: W, meter: Arc<Meter>) -> Self {
        Self { sink: FramedWrite::new(stream, frame::codec()), meter }
    }

    /// Writes one payload.
    pub(super) async fn send(&mut self, payload: Bytes) -> io::Result<()> {
        let bytes = LENGTH_BYTES + payload.len();
        self.sink.send(payload).await?;
        self.meter.sent_frame(bytes);
        Ok(())
    }
}
