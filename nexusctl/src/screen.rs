//! A terminal that is drawn on in place, and given back as it was.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice, adapter::strip_str};
use console::{Term, truncate_str};
use nix::sys::{
    signal::{Signal, raise},
    termios::{FlushArg, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr},
};
use tokio::signal::unix::{self, SignalKind};

/// The alternate screen, and no cursor: xterm's control sequences, which all terminals have.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The other way round.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// After this time, what is said relative to now is not true any more.
const STALE: Duration = Duration::from_secs(1);

/// The terminal while it is ours. It is as it was before once this is dropped.
pub(crate) struct Screen {
    /// How the terminal treated its keyboard before, when that is it, too.
    keyboard: Option<Termios>,
    resized: unix::Signal,
    suspended: unix::Signal,
    drawn: String,
}

impl Screen {
    /// Whether standard output is a terminal that can be drawn on.
    pub(crate) fn is_there() -> bool {
        io::stdout().is_terminal() && !console::is_dumb()
    }

    /// Takes the terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let resized = unix::signal(SignalKind::window_change())?;
        let suspended = unix::signal(SignalKind::from_raw(Signal::SIGTSTP as i32))?;
        let mut screen = Self { keyboard: tcgetattr(io::stdin()).ok(), resized, suspended, drawn: String::new() };
        screen.enter()?;
        Ok(screen)
    }

    /// Shows a text, as far as it fits.
    pub(crate) fn draw(&mut self, text: &str) -> io::Result<()> {
        let (rows, columns) = Term::stdout().size();
        let frame = frame(text, usize::from(rows), usize::from(columns));
        let plain = AutoStream::choice(&io::stdout()) == ColorChoice::Never;
        let lines = frame.iter().map(|line| if plain { strip_str(line).to_string() } else { line.clone() });
        let lines: Vec<String> = lines.map(|line| format!("{line}\x1b[K")).collect();
        let drawn = format!("\x1b[H{}\x1b[J", lines.join("\r\n"));
        if self.drawn != drawn {
            put(&drawn)?;
            self.drawn = drawn;
        }
        Ok(())
    }

    /// Waits until what was drawn is to be drawn again: time has passed, the terminal has another size, or it was
    /// somebody else's meanwhile.
    pub(crate) async fn is_stale(&mut self) -> io::Result<()> {
        tokio::select! {
            () = tokio::time::sleep(STALE) => Ok(()),
            _ = self.resized.recv() => {
                self.drawn.clear();
                Ok(())
            }
            _ = self.suspended.recv() => {
                self.leave();
                // Goes on here once the shell has continued it.
                raise(Signal::SIGSTOP)?;
                self.enter()
            }
        }
    }

    fn enter(&mut self) -> io::Result<()> {
        if let Some(keyboard) = &self.keyboard {
            // What is typed would be written over what is drawn.
            let mut silent = keyboard.clone();
            silent.local_flags.remove(LocalFlags::ECHO);
            tcsetattr(io::stdin(), SetArg::TCSANOW, &silent)?;
        }
        self.drawn.clear();
        put(ENTER)
    }

    fn leave(&self) {
        // A terminal that is gone needs nothing.
        let _ = put(LEAVE);
        if let Some(keyboard) = &self.keyboard {
            let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, keyboard);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The lines of a text that fit, the last of them saying so when these are not all.
fn frame(text: &str, rows: usize, columns: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let all = lines.len() <= rows;
    let count = if all { lines.len() } else { rows.saturating_sub(1) };
    let fit = lines.iter().take(count).map(|line| truncate_str(line, columns, "…").into_owned());
    let more = (!all).then(|| truncate_str(&format!("… {} lines more", lines.len() - count), columns, "").into_owned());
    fit.chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_off_and_said_so() {
        assert_eq!(frame("one\ntwo", 2, 80), ["one", "two"]);
        assert_eq!(frame("one\ntwo\nthree\nfour", 3, 80), ["one", "two", "… 2 lines more"]);
        assert_eq!(frame("└─ \x1b[32mok\x1b[0m, and more", 5, 8), ["└─ \x1b[32mok\x1b[0m, …"]);
        assert_eq!(frame("", 0, 0), Vec::<String>::new());
    }
}
