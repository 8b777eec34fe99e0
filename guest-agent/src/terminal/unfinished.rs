//! The end of a terminal's output that is not a whole character or control sequence yet.

/// More of a sequence is not kept. Only a string, such as a window's title or an image, is longer.
const MAX_BYTES: usize = 4096;

/// Follows a terminal's output, as far as it takes to know what has begun and not come to its end. Whoever is shown the
/// picture of this moment has to be given that as well, or would take the rest for text.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    state: State,
    bytes: Vec<u8>,
}

/// Where in a sequence the output is: the states of <https://vt100.net/emu/dec_ansi_parser>, as far as they differ in
/// what ends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// As many more bytes of a character in UTF-8.
    Character(u8),
    Escape,
    Control,
    /// A string; whether a bell ends it.
    String {
        bell: bool,
    },
    StringEscape,
}

impl Unfinished {
    /// Takes what was put out next.
    pub(super) fn follow(&mut self, output: &[u8]) {
        for &byte in output {
            let before = self.state;
            self.state = before.next(byte);
            if self.state == State::Ground {
                self.bytes.clear();
                continue;
            }
            // Another one begins, be it that it breaks off the one before.
            match before {
                State::Ground | State::Character(_) if !(0x80..=0xbf).contains(&byte) => self.bytes.clear(),
                State::Escape | State::Control if byte == 0x1b => self.bytes.clear(),
                State::StringEscape => {
                    self.bytes.clear();
                    if byte != 0x1b {
                        self.bytes.push(0x1b);
                    }
                }
                _ => {}
            }
            if self.bytes.len() < MAX_BYTES {
                self.bytes.push(byte);
            }
        }
    }

    /// What has begun.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl State {
    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            // CAN and SUB break off whatever it is.
            (_, 0x18 | 0x1a) => Self::Ground,
            (Self::Character(1), 0x80..=0xbf) => Self::Ground,
            (Self::Character(left), 0x80..=0xbf) => Self::Character(left - 1),
            (Self::Ground | Self::Character(_), _) => Self::begin(byte),
            (Self::String { .. }, 0x1b) => Self::StringEscape,
            (Self::String { bell: true }, 0x07) | (Self::StringEscape, b'\\') => Self::Ground,
            (Self::String { bell }, _) => Self::String { bell },
            (_, 0x1b) => Self::Escape,
            (Self::Escape | Self::StringEscape, b'[') => Self::Control,
            (Self::Escape | Self::StringEscape, b']') => Self::String { bell: true },
            (Self::Escape | Self::StringEscape, b'P' | b'X' | b'^' | b'_') => Self::String { bell: false },
            (Self::Escape | Self::StringEscape, 0x20..=0x2f) => Self::Escape,
            (Self::Control, 0x40..=0x7e) | (Self::Escape | Self::StringEscape, _) => Self::Ground,
            (Self::Control, _) => Self::Control,
        }
    }

    const fn begin(byte: u8) -> Self {
        match byte {
            0x1b => Self::Escape,
            0xc2..=0xdf => Self::Character(1),
            0xe0..=0xef => Self::Character(2),
            0xf0..=0xf4 => Self::Character(3),
            _ => Self::Ground,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(output: &[u8]) -> Vec<u8> {
        let mut unfinished = Unfinished::default();
        unfinished.follow(output);
        unfinished.bytes
    }

    #[test]
    fn what_is_whole_leaves_nothing_and_a_part_of_it_itself() {
        let whole: [&[u8]; 10] = [
            b"a",
            "ä".as_bytes(),
            "€".as_bytes(),
            "😀".as_bytes(),
            b"\x1b[1;31m",
            b"\x1b(B",
            b"\x1b]0;title\x07",
            b"\x1b]0;title\x1b\\",
            b"\x1bPdata\x07more\x1b\\",
            b"\x1bc",
        ];
        for sequence in whole {
            for end in 1..sequence.len() {
                assert_eq!(left(&[b"text", &sequence[..end]].concat()), &sequence[..end], "{sequence:?}");
            }
            assert_eq!(left(sequence), b"", "{sequence:?}");
        }
    }

    #[test]
    fn what_is_broken_off_is_forgotten() {
        assert_eq!(left(b"\x1b[1\x1b[2"), b"\x1b[2");
        assert_eq!(left(b"\x1b]0;title\x1b[2"), b"\x1b[2");
        assert_eq!(left(b"\x1b]0;title\x1b(2"), b"");
        assert_eq!(left(b"\x1b]0;title\x18"), b"");
        assert_eq!(left(b"\xe2\x82\xe2\x82"), b"\xe2\x82");
        assert_eq!(left(b"\xf0\x9f\xc3"), b"\xc3");
        assert_eq!(left(b"\x1b]0;title\x1b\x1b"), b"\x1b");
        assert_eq!(left(b"\xe2\x1b["), b"\x1b[");
        assert_eq!(left(b"\xe2\x82x"), b"");
        assert_eq!(left(b"\xff\xfe"), b"");
        assert_eq!(left(&[&b"\x1bP"[..], &[b'x'; 10_000]].concat()).len(), MAX_BYTES);
    }
}
