//! Whose the caller's keyboard is.

use std::io::{self, IsTerminal};

use nix::{
    sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    unistd::{getpgrp, tcgetpgrp},
};

/// Whose it is while a terminal of a guest is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyboard {
    /// The guest's.
    Guest,
    /// Nobody's but for the keys by which the caller leaves; what signals is typed for nexusctl.
    Nobody,
    /// The caller's, as if nothing were shown.
    Caller,
}

impl Keyboard {
    /// How the terminal is before anything is changed; none where it is not to be taken.
    pub(super) fn before(self) -> io::Result<Option<Termios>> {
        let is_taken = match self {
            Self::Guest => true,
            // In the background, or beside a pipe, the terminal is somebody else's.
            Self::Nobody => io::stdin().is_terminal() && io::stdout().is_terminal() && !is_in_background(),
            Self::Caller => false,
        };
        if is_taken { Ok(Some(tcgetattr(io::stdin())?)) } else { Ok(None) }
    }

    /// Takes it. What the terminal answers by itself to what the guest shows is not echoed.
    pub(super) fn take(self, before: &Termios) -> io::Result<()> {
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        if self == Self::Nobody {
            // Who would change the terminal from there is stopped.
            if is_in_background() {
                return Ok(());
            }
            raw.local_flags |= before.local_flags & LocalFlags::ISIG;
        }
        Ok(tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?)
    }
}

fn is_in_background() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground != getpgrp())
}
