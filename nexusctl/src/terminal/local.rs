//! The terminal in front of the caller, while its keys and its screen are the guest's.

use std::{
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use console::Term;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::guard::Guarded;

/// Modes of xterm's that programs set: keys of the cursor and the keypad, the cursor's sight, marks around what is pasted,
/// the mouse; and plain text.
pub(super) const RESET: &str = "\x1b[?1l\x1b>\x1b[?25h\x1b[?2004l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[m";

/// The caller's terminal while every key is the guest's. It is as it was before once this is dropped.
pub(super) struct Local {
    before: Option<Termios>,
    shows: bool,
    /// Whether the alternate screen is shown, for whoever writes to it to say.
    pub(super) alternate: Arc<AtomicBool>,
    _guard: Option<Guarded>,
}

impl Local {
    /// Takes the terminal; its keyboard only if anything is to be typed.
    pub(super) fn take(types: bool) -> io::Result<Self> {
        let before = if types { Some(tcgetattr(io::stdin())?) } else { None };
        // From before the first change.
        let guard = before.is_some().then(Guarded::start).transpose()?;
        let local = Self { before, shows: io::stdout().is_terminal(), alternate: Arc::default(), _guard: guard };
        local.enter()?;
        Ok(local)
    }

    /// Takes the keyboard.
    pub(super) fn enter(&self) -> io::Result<()> {
        if let Some(before) = &self.before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        }
        Ok(())
    }

    /// Gives everything back.
    pub(super) fn leave(&self) {
        // A terminal that is gone needs nothing.
        if self.shows {
            let back = if self.alternate.load(Ordering::SeqCst) { "\x1b[?1049l" } else { "" };
            let mut out = io::stdout().lock();
            let _ = out.write_all(format!("{back}{RESET}").as_bytes());
            let _ = out.flush();
        }
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
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
