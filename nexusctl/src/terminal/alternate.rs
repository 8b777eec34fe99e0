//! Which of a terminal's two screens is shown.

/// Follows output for the sequences that switch to the alternate screen and back.
#[derive(Debug, Default)]
pub(super) struct Alternate {
    shown: bool,
    /// The end of the output so far, as long as a sequence may be cut off by it.
    tail: Vec<u8>,
}

/// xterm's private modes for that.
const MODES: [&[u8]; 3] = [b"\x1b[?1049", b"\x1b[?1047", b"\x1b[?47"];
/// The longest of them, without its last letter.
const LONGEST: usize = MODES[0].len();

impl Alternate {
    /// Takes what is put out next; whether the alternate screen is shown then.
    pub(super) fn follow(&mut self, output: &[u8]) -> bool {
        self.tail.extend_from_slice(output);
        let bytes = &self.tail;
        for start in (0..bytes.len()).filter(|start| bytes.get(*start) == Some(&0x1b)) {
            let rest = bytes.get(start..).unwrap_or_default();
            let mode = MODES.iter().find(|mode| rest.starts_with(mode));
            match mode.and_then(|mode| rest.get(mode.len())) {
                Some(b'h') => self.shown = true,
                Some(b'l') => self.shown = false,
                _ => {}
            }
        }
        self.tail.drain(..self.tail.len().saturating_sub(LONGEST));
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_seen_however_the_output_is_cut() {
        for (output, shown) in [
            (&b"plain \x1b[31mred"[..], false),
            (b"\x1b[?1049h", true),
            (b"x\x1b[?1047hy\x1b[2J", true),
            (b"\x1b[?1049hvim\x1b[?1049lback", false),
            (b"\x1b[?47h\x1b[?1h", true),
            (b"\x1b[?1049", false),
        ] {
            for cut in 0..=output.len() {
                let mut alternate = Alternate::default();
                alternate.follow(&output[..cut]);
                assert_eq!(alternate.follow(&output[cut..]), shown, "{output:?} cut at {cut}");
            }
        }
    }
}
