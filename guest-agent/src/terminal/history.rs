//! What has left a terminal's screen.

use std::{cell::Cell, collections::VecDeque, rc::Rc};

use rustix::system::sysinfo;
use vt100::{
    Callbacks,
    capture::{BasicFormattedCaptureState, RowContents},
};

/// As many bytes are kept of one terminal, as text with its colours.
const MAX_BYTES: usize = 128 * 1024;

/// As many are kept of all.
const MAX_BYTES_OF_ALL: usize = 4 * 1024 * 1024;

/// Nor is it more than this part of the guest's memory.
const PART_OF_MEMORY: usize = 64;

/// How much each terminal may keep: all alike, so that a busy one takes nothing from the others.
#[derive(Debug)]
pub(super) struct Allowance {
    all: usize,
    each: Cell<usize>,
}

impl Allowance {
    /// For this guest, before there are terminals.
    pub(super) fn of_this_guest() -> Self {
        let guest = sysinfo();
        let memory = usize::try_from(guest.totalram).unwrap_or(usize::MAX);
        let memory = memory.saturating_mul(usize::try_from(guest.mem_unit).unwrap_or(1));
        Self::new(MAX_BYTES_OF_ALL.min(memory / PART_OF_MEMORY))
    }

    pub(super) fn new(all: usize) -> Self {
        Self { all, each: Cell::new(MAX_BYTES.min(all)) }
    }

    /// Divides it among that many terminals. Those that keep more drop it when they are told, or with their next line.
    pub(super) fn divide(&self, terminals: usize) {
        self.each.set(MAX_BYTES.min(self.all / terminals.max(1)));
    }
}

/// Lines that have left the screen at the top, oldest first.
pub(super) struct History {
    lines: VecDeque<String>,
    bytes: usize,
    allowance: Rc<Allowance>,
}

impl History {
    pub(super) const fn new(allowance: Rc<Allowance>) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, allowance }
    }

    pub(super) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> + ExactSizeIterator {
        self.lines.iter().map(String::as_str)
    }

    /// Drops the oldest lines of what is too much.
    pub(super) fn trim(&mut self) {
        while self.bytes > self.allowance.each.get()
            && let Some(oldest) = self.lines.pop_front()
        {
            self.bytes -= cost(&oldest);
        }
    }
}

impl Callbacks for History {
    fn on_scroll(&mut self, row: RowContents<'_>, alternate: bool) {
        if alternate {
            return;
        }
        let mut line = String::new();
        // A string takes everything.
        let _ = row.write_formatted_basic(&mut line, &mut BasicFormattedCaptureState::new());
        line.truncate(line.trim_end_matches(' ').len());
        line.shrink_to_fit();
        self.bytes += cost(&line);
        self.lines.push_back(line);
        self.trim();
    }
}

/// What keeping a line takes, so that many empty ones are bounded, too.
const fn cost(line: &str) -> usize {
    line.len() + size_of::<String>()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use vt100::Parser;

    use super::*;

    fn terminal(allowance: &Rc<Allowance>) -> Parser<History> {
        let (rows, columns) = (NonZeroU16::new(4).unwrap(), NonZeroU16::new(80).unwrap());
        Parser::new_with_callbacks(rows, columns, 0, History::new(Rc::clone(allowance)))
    }

    fn write(terminal: &mut Parser<History>, lines: u32) {
        for number in 0..lines {
            terminal.process(format!("{number}\r\n").as_bytes());
        }
    }

    #[test]
    fn it_is_bounded_and_keeps_the_newest() {
        let mut terminal = terminal(&Rc::new(Allowance::of_this_guest()));
        write(&mut terminal, 20_000);
        let history = terminal.callbacks();
        assert!(history.bytes <= MAX_BYTES);
        assert_eq!(history.bytes, history.lines().map(cost).sum::<usize>());
        assert_eq!(history.lines().next_back(), Some("19996"));
        let before = history.lines().len();
        assert!(before > 1000);
        terminal.process(b"\x1b[?1049h");
        terminal.process(&b"gone\r\n".repeat(10));
        let after = terminal.callbacks().lines().len();
        assert_eq!(after, before, "what a program that takes the screen scrolls is not kept");
    }

    #[test]
    fn all_terminals_together_are_bounded() {
        const ALL: usize = 1024 * 1024;
        let allowance = Rc::new(Allowance::new(ALL));
        let mut terminals = Vec::new();
        for count in 1..=100 {
            allowance.divide(count);
            terminals.push(terminal(&allowance));
            terminals.iter_mut().for_each(|terminal| terminal.callbacks_mut().trim());
            write(&mut terminals[count - 1], 5000);
            let kept: usize = terminals.iter().map(|terminal| terminal.callbacks().bytes).sum();
            assert!(kept <= ALL, "{kept} bytes of {count} terminals");
        }
        // Who was there first has as much as the others, and its newest.
        assert!(terminals.iter().all(|terminal| terminal.callbacks().lines().len() > 100));
        assert_eq!(terminals[0].callbacks().lines().next_back(), Some("4996"));
    }
}
