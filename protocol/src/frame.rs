//! Frames: a length of four bytes, big-endian, and as many bytes of JSON.

use std::io;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::LengthDelimitedCodec;

use crate::{MAX_FRAME_BYTES, Text};

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed, or ended inside the frame.
    #[error("the stream failed")]
    Io(#[source] io::Error),
    /// The frame is larger than it may be.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// Announced length, or length of what was to be sent, in bytes.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The payload is not what it should be.
    #[error("the frame can't be understood")]
    Malformed(#[source] Misunderstanding),
    /// What was to be sent can't be written as JSON.
    #[error("the frame can't be written")]
    Unwritable(#[source] serde_json::Error),
}

/// What is wrong with a payload. The parser quotes what it does not expect: hence [`Text`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misunderstanding(Text);

impl From<serde_json::Error> for Misunderstanding {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string().into())
    }
}

/// Cuts a control connection into frames, and refuses one over [`MAX_FRAME_BYTES`] when it sees its length.
#[must_use]
pub fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().length_field_length(4).max_frame_length(MAX_FRAME_BYTES).new_codec()
}

/// The payload of a frame for a control connection.
///
/// # Errors
/// [`FrameError::TooLarge`] over [`MAX_FRAME_BYTES`]; [`FrameError::Unwritable`] when serde says so.
pub fn encode<T: Serialize>(value: &T) -> Result<Bytes, FrameError> {
    bounded(value, MAX_FRAME_BYTES).map(Bytes::from)
}

/// What the payload of a frame says.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|error| FrameError::Malformed(error.into()))
}

/// Reads one frame and not a byte more.
///
/// # Errors
/// [`FrameError::TooLarge`] before any of an oversized payload is read; [`FrameError::Io`], also when the stream ends
/// early; [`FrameError::Malformed`].
pub async fn read_one<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<T, FrameError> {
    let length = stream.read_u32().await.map_err(FrameError::Io)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.map_err(FrameError::Io)?;
    decode(&payload)
}

/// Writes one frame.
///
/// # Errors
/// [`FrameError::TooLarge`] and [`FrameError::Unwritable`] before anything is written; [`FrameError::Io`].
pub async fn write_one<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    limit: usize,
    value: &T,
) -> Result<(), FrameError> {
    let payload = bounded(value, limit)?;
    let length = u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge { length: payload.len(), limit })?;
    let mut frame = Vec::with_capacity(4 + payload.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&payload);
    stream.write_all(&frame).await.map_err(FrameError::Io)
}

fn bounded<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let payload = serde_json::to_vec(value).map_err(FrameError::Unwritable)?;
    if payload.len() > limit { Err(FrameError::TooLarge { length: payload.len(), limit }) } else { Ok(payload) }
}
