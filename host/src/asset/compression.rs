//! Compression formats, told by their first bytes.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use liblzma::{read::XzDecoder, stream::Stream};
use lz4_flex::frame::FrameDecoder;

/// More than any preset of `xz` or the kernel's build asks for; a header that asks for more is refused.
const LZMA_MEMORY_BYTES: u64 = 512 << 20;

/// A format that Linux kernels, RAM disks and archives come compressed in. The magic numbers are those of the kernel's
/// `lib/decompress.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Xz,
    Zstd,
    /// The kernel uses the legacy frame.
    Lz4Legacy,
    Lz4,
    /// The `.lzma` format of LZMA Utils.
    Lzma,
    Bzip2,
    Lzo,
}

impl Compression {
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        const MAGIC: [(&[u8], Compression); 9] = [
            (b"\x1f\x8b", Compression::Gzip),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x02\x21\x4c\x18", Compression::Lz4Legacy),
            (b"\x04\x22\x4d\x18", Compression::Lz4),
            (b"\x5d\x00\x00", Compression::Lzma),
            (b"BZh", Compression::Bzip2),
            (b"\x89LZO", Compression::Lzo),
            (b"\x1f\x9e", Compression::Gzip),
        ];
        MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, compression)| *compression)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4Legacy | Self::Lz4 => "lz4",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Lzo => "lzo",
        }
    }

    /// What `compressed` holds; `None` for the formats that are only recognised.
    pub(crate) fn reader<'a>(self, compressed: impl Read + 'a) -> io::Result<Option<Box<dyn Read + 'a>>> {
        Ok(Some(match self {
            Self::Gzip => Box::new(MultiGzDecoder::new(compressed)),
            Self::Xz => {
                let stream = Stream::new_stream_decoder(LZMA_MEMORY_BYTES, 0).map_err(io::Error::other)?;
                Box::new(XzDecoder::new_stream(io::BufReader::new(compressed), stream))
            }
            Self::Lzma => {
                let stream = Stream::new_lzma_decoder(LZMA_MEMORY_BYTES).map_err(io::Error::other)?;
                Box::new(XzDecoder::new_stream(io::BufReader::new(compressed), stream))
            }
            Self::Zstd => Box::new(zstd::Decoder::new(compressed)?),
            Self::Lz4Legacy | Self::Lz4 => Box::new(FrameDecoder::new(compressed)),
            Self::Bzip2 | Self::Lzo => return Ok(None),
        }))
    }
}
