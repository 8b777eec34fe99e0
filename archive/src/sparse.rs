//! Holes, as GNU tar's format 1.0 writes them: a map ahead of the content, in decimal lines, padded to whole blocks. See
//! "PAX Format, Version 1.0" in the manual of GNU tar.

use std::{
    io::{self, Read},
    os::fd::AsFd,
};

use rustix::{
    fs::{SeekFrom, seek},
    io::Errno,
};

/// Size of a block of a tar archive, in bytes.
const BLOCK: usize = 512;

/// A file of more pieces is carried as if it had no holes.
const MAX_PIECES: usize = 1 << 16;

/// A number of 20 digits and its line's end.
const MAX_LINE_BYTES: usize = 21;

/// A part of a file that is no hole: where it begins, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The pieces of a file of that size; `None` if it has no holes, or the file system does not say.
pub(crate) fn pieces(file: impl AsFd, size: u64) -> io::Result<Option<Vec<Piece>>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let begin = match seek(&file, SeekFrom::Data(at)) {
            Ok(begin) => begin,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let end = seek(&file, SeekFrom::Hole(begin))?.min(size);
        if begin >= end {
            break;
        }
        pieces.push(Piece { offset: begin, length: end - begin });
        if pieces.len() > MAX_PIECES {
            return Ok(None);
        }
        at = end;
    }
    let whole = size == 0 || pieces == [Piece { offset: 0, length: size }];
    Ok((!whole).then_some(pieces))
}

/// The map of a file, as it goes ahead of its pieces. It ends with an empty piece where the file does.
pub(crate) fn encode(pieces: &[Piece], size: u64) -> Vec<u8> {
    let mut text = format!("{}\n", pieces.len() + 1);
    for piece in pieces.iter().chain([&Piece { offset: size, length: 0 }]) {
        text.push_str(&format!("{}\n{}\n", piece.offset, piece.length));
    }
    let mut map = text.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// Reads the map of a file of that size, and the padding behind it.
pub(crate) fn decode(mut content: impl Read, size: u64) -> io::Result<Vec<Piece>> {
    let mut lines = Lines { content: &mut content, read: 0 };
    let count = usize::try_from(lines.number()?).unwrap_or(usize::MAX);
    if count > MAX_PIECES + 1 {
        return Err(nonsense());
    }
    let mut pieces = Vec::new();
    let mut end = 0;
    for _ in 0..count {
        let piece = Piece { offset: lines.number()?, length: lines.number()? };
        let next = piece.offset.checked_add(piece.length).filter(|next| *next <= size);
        if piece.offset < end {
            return Err(nonsense());
        }
        end = next.ok_or_else(nonsense)?;
        pieces.push(piece);
    }
    let padding = lines.read.next_multiple_of(BLOCK) - lines.read;
    content.read_exact(vec![0; padding].as_mut_slice())?;
    Ok(pieces)
}

struct Lines<R> {
    content: R,
    read: usize,
}

impl<R: Read> Lines<R> {
    fn number(&mut self) -> io::Result<u64> {
        let mut line = Vec::with_capacity(MAX_LINE_BYTES);
        loop {
            let mut byte = [0];
            self.content.read_exact(&mut byte)?;
            self.read += 1;
            match byte {
                [b'\n'] => break,
                [digit @ b'0'..=b'9'] if line.len() < MAX_LINE_BYTES => line.push(digit),
                _ => return Err(nonsense()),
            }
        }
        str::from_utf8(&line).ok().and_then(|line| line.parse().ok()).ok_or_else(nonsense)
    }
}

fn nonsense() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the map of a file with holes makes no sense")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_map_is_read_as_it_was_written(lengths in vec((1..u64::from(u32::MAX), 1..u64::from(u32::MAX)), 0..200)) {
            let mut at = 0;
            let mut pieces = Vec::new();
            for (hole, length) in lengths {
                pieces.push(Piece { offset: at + hole, length });
                at += hole + length;
            }
            let map = encode(&pieces, at);
            prop_assert_eq!(map.len() % BLOCK, 0);
            let mut rest = map.as_slice();
            pieces.push(Piece { offset: at, length: 0 });
            prop_assert_eq!(decode(&mut rest, at).unwrap(), pieces);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_map_makes_it_panic_or_reach_beyond_the_file(text in "[0-9\n]{0,64}", size: u64) {
            let mut map = text.into_bytes();
            map.resize(1024, 0);
            if let Ok(pieces) = decode(map.as_slice(), size) {
                prop_assert!(pieces.iter().all(|piece| piece.offset + piece.length <= size));
            }
        }
    }
}
