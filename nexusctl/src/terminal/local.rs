//! The terminal in front of the caller, while its keys and its screen are the guest's.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use console::Term;
use nix::sys::termios::{SetArg, Termios, tcsetattr};

use super::{guard::Guarded, keyboard::Keyboard, screen::Screen};

/// Modes of xterm's that programs set: keys of the cursor and the keypad, the cursor's sight and shape, marks around what is
/// pasted, what tells of the mouse and of focus, output that is held back, the region that scrolls, wrapping, and where
/// lines are counted from; ASCII, and plain text.
pub(super) const RESET: &str = concat!(
    "\x1b[?1l\x1b>\x1b[?25h\x1b[0 q\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1005l\x1b[?1006l\x1b[?1015l",
    "\x1b[?1004l\x1b[?2026l\x1b7\x1b[r\x1b[?6l\x1b8\x1b[?7h\x1b(B\x1b[m"
);

/// Breaks off half a sequence (CAN).
pub(super) const CANCEL: &str = "\x18";

/// The caller's terminal while another one is shown on it. It is as it was before once this is dropped.
pub(super) struct Local {
    keyboard: Keyboard,
    before: Option<Termios>,
    shows: bool,
    pub(super) screen: Arc<Screen>,
    _guard: Option<Guarded>,
}

impl Local {
    /// Takes the terminal; its keyboard only if that is to be another's.
    pub(super) fn take(keyboard: Keyboard) -> io::Result<Self> {
        let before = keyboard.before()?;
        let shows = io::stdout().is_terminal();
        // From before the first change. Who only looks has a screen to lose.
        let guard = if before.is_some() {
            Some(Guarded::start(io::stdin())?)
        } else if shows {
            Some(Guarded::start(io::stdout())?)
        } else {
            None
        };
        let local = Self { keyboard, before, shows, screen: Arc::default(), _guard: guard };
        local.enter()?;
        Ok(local)
    }

    /// Whether nexusctl reads what is typed.
    pub(super) const fn reads(&self) -> bool {
        self.before.is_some()
    }

    /// Takes the keyboard and the screen.
    pub(super) fn enter(&self) -> io::Result<()> {
        if let Some(before) = &self.before {
            self.keyboard.take(before)?;
        }
        self.screen.take();
        Ok(())
    }

    /// Gives everything back.
    pub(super) fn leave(&self) {
        // First: what shows the output may not take any.
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
        // A terminal that is gone needs nothing.
        if self.shows {
            let back = if self.screen.give_back() { "\x1b[?1049l" } else { "" };
            let mut out = io::stdout().lock();
            let _ = out.write_all(format!("{CANCEL}{back}{RESET}").as_bytes());
            let _ = out.flush();
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Columns and rows of the caller's terminal, if there is one.
pub(crate) fn size() -> Option<(u32, u32)> {
    let (rows, columns) = Term::stdout().size_checked()?;
    (rows > 0 && columns > 0).then(|| (columns.into(), rows.into()))
}

/// What the caller's terminal calls itself.
pub(crate) fn name() -> Option<String> {
    std::env::var("TERM").ok().filter(|name| !name.is_empty() && name != "dumb")
}
