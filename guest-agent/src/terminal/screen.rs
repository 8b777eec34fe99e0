//! What a terminal shows.

use std::{num::NonZeroU16, rc::Rc};

use nexus_protocol::TerminalSize;
use vt100::Parser;

use super::{
    history::{Allowance, History},
    unfinished::Unfinished,
};

/// CAN breaks off a control sequence that a viewer may have seen half of; then plain text.
const FRESH: &str = "\x18\x1b[m";

/// No margins, and an empty screen.
const EMPTY: &str = "\x1b[r\x1b[H\x1b[J";

/// The picture that a terminal's output has made so far, and the lines that have scrolled out of it.
pub(super) struct Screen {
    parser: Parser<History>,
    unfinished: Unfinished,
    /// Whether there was any output.
    used: bool,
}

impl Screen {
    pub(super) fn new(size: TerminalSize, allowance: &Rc<Allowance>) -> Self {
        let (rows, columns) = dimensions(size);
        let parser = Parser::new_with_callbacks(rows, columns, 0, History::new(Rc::clone(allowance)));
        Self { parser, unfinished: Unfinished::default(), used: false }
    }

    /// Takes what the command has written.
    pub(super) fn show(&mut self, output: &[u8]) {
        self.used = true;
        self.parser.process(output);
        self.unfinished.follow(output);
    }

    pub(super) fn resize(&mut self, size: TerminalSize) {
        let (rows, columns) = dimensions(size);
        self.parser.set_size(rows, columns);
    }

    /// Keeps no more of what has scrolled away than is allowed by now.
    pub(super) fn trim(&mut self) {
        self.parser.callbacks_mut().trim();
    }

    /// Whether what is shown is the screen of a program that takes all of it, behind which the other one is kept. Only one
    /// of them can be drawn.
    pub(super) fn is_alternate(&self) -> bool {
        self.parser.screen().alternate_screen()
    }

    /// What to send to a viewer so that it shows the same, whatever it has shown before.
    pub(super) fn repaint(&self) -> Vec<u8> {
        let screen = self.parser.screen();
        let which = if screen.alternate_screen() { "\x1b[?1049h" } else { "\x1b[?1049l" };
        let mut painted = format!("{FRESH}{which}{EMPTY}{}", screen.state_formatted()).into_bytes();
        painted.extend_from_slice(self.unfinished.bytes());
        painted
    }

    /// What to send to a new viewer: first what has scrolled away, so that it can be scrolled back to. What the viewer's
    /// own terminal showed before is scrolled away as well, and not written over.
    pub(super) fn introduce(&self) -> Vec<u8> {
        if !self.used {
            return Vec::new();
        }
        let screen = self.parser.screen();
        let scrolled = "\r\n".repeat(usize::from(screen.size().0.get()));
        let mut painted = format!("{FRESH}{scrolled}{EMPTY}");
        for line in self.parser.callbacks().lines() {
            painted.push_str(line);
            painted.push_str("\x1b[m\r\n");
        }
        painted.push_str(&scrolled);
        if screen.alternate_screen() {
            painted.push_str("\x1b[?1049h");
        }
        painted.push_str(&screen.state_formatted());
        let mut painted = painted.into_bytes();
        painted.extend_from_slice(self.unfinished.bytes());
        painted
    }
}

fn dimensions(size: TerminalSize) -> (NonZeroU16, NonZeroU16) {
    let at_least_one = |count| NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN);
    (at_least_one(size.rows()), at_least_one(size.columns()))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn screen(columns: u32, rows: u32) -> Screen {
        Screen::new(TerminalSize::new(columns, rows), &Rc::new(Allowance::of_this_guest()))
    }

    /// What a terminal of the same size shows that is sent this.
    fn seen(bytes: &[u8], size: (NonZeroU16, NonZeroU16)) -> Parser {
        let mut viewer = Parser::new(size.0, size.1, 1000);
        viewer.process(b"$ nexusctl attach web\r\nhalf\x1b]a line");
        viewer.process(bytes);
        viewer
    }

    #[test]
    fn a_new_viewer_sees_the_screen_and_can_scroll_back() {
        let mut screen = screen(30, 4);
        assert_eq!(screen.introduce(), b"", "nothing was shown");
        for number in 0..10 {
            screen.show(format!("\x1b[3{}mline {number}\x1b[m\r\n", number % 8).as_bytes());
        }
        screen.show("\x1b[1mlast ä".as_bytes());
        let mut viewer = seen(&screen.introduce(), screen.parser.screen().size());
        assert_eq!(viewer.screen().state_formatted(), screen.parser.screen().state_formatted());
        let back = viewer.screen().scrollback_len();
        viewer.screen_mut().set_scrollback(back);
        let mut all = String::new();
        for top in (0..=back).rev() {
            viewer.screen_mut().set_scrollback(top);
            all.push_str(viewer.screen().rows(0, 30).next().unwrap().trim());
            all.push('\n');
        }
        assert!(all.contains("$ nexusctl attach web\n"), "{all}");
        for number in 0..7 {
            assert!(all.contains(&format!("line {number}\n")), "{number} in {all}");
        }
    }

    #[test]
    fn questions_to_the_terminal_are_not_asked_again() {
        let mut screen = screen(80, 24);
        screen.show(b"\x1b[6n\x1b[c\x1b]52;c;?\x07before\x1b[5n");
        for painted in [screen.introduce(), screen.repaint()] {
            let painted = String::from_utf8(painted).unwrap();
            for question in ["\x1b[6n", "\x1b[c", "\x1b[5n", "\x1b]52"] {
                assert!(!painted.contains(question), "{painted:?}");
            }
        }
    }

    #[test]
    fn what_has_begun_is_gone_on_with() {
        let output = "plain \x1b[1;31mred ä€\x1b[m\x1b]0;title\x07 \x1b[?1049hfull\x1b[2;2H😀".as_bytes();
        let size = (NonZeroU16::new(5).unwrap(), NonZeroU16::new(30).unwrap());
        let mut whole = Parser::new(size.0, size.1, 0);
        whole.process(output);
        for cut in 1..output.len() {
            let mut screen = screen(30, 5);
            screen.show(&output[..cut]);
            let mut bytes = if cut % 2 == 0 { screen.introduce() } else { screen.repaint() };
            bytes.extend_from_slice(&output[cut..]);
            let viewer = seen(&bytes, size);
            assert_eq!(viewer.screen().state_formatted(), whole.screen().state_formatted(), "cut at {cut}");
        }
    }

    /// Mostly small; up to the largest.
    fn size() -> impl Strategy<Value = (u32, u32)> {
        prop_oneof![
            9 => (0..256_u32, 0..256_u32),
            1 => (0..=u32::from(TerminalSize::MAX_COLUMNS), 0..=u32::from(TerminalSize::MAX_ROWS)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_output_at_any_size_is_taken(
            outputs in vec((vec(any::<u8>(), 0..200), size()), 1..8),
            sequences in vec("(\x1b\\[[?0-9;]{0,8}[@-~]|[a-zä€😀\r\n\t]{0,9})", 0..20),
        ) {
            let mut screen = screen(80, 24);
            for (noise, (columns, rows)) in outputs {
                screen.show(&noise);
                for sequence in &sequences {
                    screen.show(sequence.as_bytes());
                }
                screen.resize(TerminalSize::new(columns, rows));
                screen.show(&noise);
                screen.introduce();
                screen.repaint();
            }
        }
    }
}
