//! The head of a bzImage, as `Documentation/arch/x86/boot.rst` of the kernel describes it.

use nexus_model::steers_display;

use super::Compression;

/// `HdrS`, the header's magic number.
const MAGIC: &[u8] = b"HdrS";
const MAGIC_OFFSET: usize = 0x202;
/// Boot sector flag 0xAA55.
const BOOT_FLAG_OFFSET: usize = 0x1FE;
/// From boot protocol 2.08 on, the header says where the compressed kernel is.
const MIN_PROTOCOL: u16 = 0x0208;
const MAX_VERSION_BYTES: usize = 256;

/// What a bzImage says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BzImage<'a> {
    /// Release, builder and build, as `file` shows it.
    pub(super) version: String,
    /// Whether the kernel has a 64-bit entry point (`XLF_KERNEL_64`).
    pub(super) is_64_bit: bool,
    /// The compressed kernel.
    pub(super) payload: &'a [u8],
}

impl<'a> BzImage<'a> {
    /// Whether these are the first bytes of a kernel for the x86 boot protocol.
    pub(super) fn is_one(image: &[u8]) -> bool {
        image.get(MAGIC_OFFSET..MAGIC_OFFSET + 4) == Some(MAGIC)
            && image.get(BOOT_FLAG_OFFSET..BOOT_FLAG_OFFSET + 2) == Some(b"\x55\xaa")
    }

    /// Reads the header; the error is a reason in words.
    pub(super) fn parse(image: &'a [u8]) -> Result<Self, String> {
        let truncated = || "its bzImage header is cut short".to_owned();
        let u16_at = |offset: usize| {
            image.get(offset..offset + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes)
        };
        let u32_at = |offset: usize| {
            image.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
        };
        let protocol = u16_at(0x206).ok_or_else(truncated)?;
        if protocol < MIN_PROTOCOL {
            return Err(format!("its boot protocol is {}.{:02}, older than 2.08", protocol >> 8, protocol & 0xff));
        }
        let setup_sectors = match image.get(0x1F1).copied().ok_or_else(truncated)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let version_offset = usize::from(u16_at(0x20E).ok_or_else(truncated)?);
        let loadflags = u16_at(0x236).ok_or_else(truncated)?;
        let payload_offset = u32_at(0x248).ok_or_else(truncated)? as usize;
        let payload_length = u32_at(0x24C).ok_or_else(truncated)? as usize;
        let start = ((setup_sectors + 1) * 512).saturating_add(payload_offset);
        let payload = image
            .get(start..start.saturating_add(payload_length))
            .ok_or("it is cut short: its header says that the kernel goes on behind the end")?;
        let version = match version_offset {
            0 => String::new(),
            offset => text(image.get(0x200 + offset..).unwrap_or_default()),
        };
        Ok(Self { version, is_64_bit: protocol >= 0x020C && loadflags & 1 != 0, payload })
    }

    /// How the payload is compressed, and the compressed bytes without the uncompressed length that the kernel's build
    /// appends to what is not gzip (`size_append` in `scripts/Makefile.lib`).
    pub(super) fn compressed(&self) -> Option<(Compression, &'a [u8], Option<u32>)> {
        let compression = Compression::of(self.payload)?;
        if compression == Compression::Gzip {
            return Some((compression, self.payload, None));
        }
        let (stream, length) = self.payload.split_last_chunk()?;
        Some((compression, stream, Some(u32::from_le_bytes(*length))))
    }
}

/// A zero-terminated line, printable and bounded.
pub(super) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().take(MAX_VERSION_BYTES).position(|byte| matches!(byte, 0 | b'\n')).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..end])
        .chars()
        .filter(|char| !steers_display(*char))
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0_u8; 2 * 512];
        image[0x1F1] = 1;
        image[BOOT_FLAG_OFFSET..][..2].copy_from_slice(b"\x55\xaa");
        image[MAGIC_OFFSET..][..4].copy_from_slice(MAGIC);
        image[0x206..][..2].copy_from_slice(&0x020F_u16.to_le_bytes());
        image[0x20E..][..2].copy_from_slice(&0x0080_u16.to_le_bytes());
        image[0x236] = 1;
        image[0x248..][..4].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24C..][..4].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        image[0x280..][..14].copy_from_slice(b"6.1.0 (me) #1\0");
        image.extend([0; 16]);
        image.extend(payload);
        image
    }

    #[test]
    fn header_names_version_and_payload() {
        let image = image(b"\x02\x21\x4c\x18data\x05\0\0\0");
        assert!(BzImage::is_one(&image));
        let parsed = BzImage::parse(&image).unwrap();
        assert_eq!(parsed.version, "6.1.0 (me) #1");
        assert!(parsed.is_64_bit);
        assert_eq!(parsed.compressed(), Some((Compression::Lz4Legacy, b"\x02\x21\x4c\x18data".as_slice(), Some(5))));
    }

    #[test]
    fn gzip_has_no_length_appended() {
        let image = image(b"\x1f\x8bdata");
        assert_eq!(
            BzImage::parse(&image).unwrap().compressed(),
            Some((Compression::Gzip, b"\x1f\x8bdata".as_slice(), None))
        );
    }

    #[test]
    fn every_truncation_is_an_error_and_no_panic() {
        let image = image(b"\x1f\x8bdata");
        for length in 0..image.len() {
            assert!(BzImage::parse(&image[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let mut image = image(b"\x1f\x8bdata");
        image[0x248..][..8].fill(0xff);
        assert!(BzImage::parse(&image).is_err());
        image[0x20E..][..2].fill(0xff);
        image[0x248..][..8].fill(0);
        assert_eq!(BzImage::parse(&image).unwrap().version, "");
    }
}
