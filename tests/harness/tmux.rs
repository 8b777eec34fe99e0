//! A terminal as people have it: one of tmux, which understands what programs write to it.

use std::{
    ffi::{OsStr, OsString},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::not_run;

/// How often it is looked at the screen.
const GLANCE: Duration = Duration::from_millis(50);

/// A window of a tmux of its own, with one program in it. The tmux goes with this value.
pub struct Tmux {
    /// Where its socket is.
    folder: TempDir,
    patience: Duration,
}

impl Tmux {
    /// Whether there is a tmux. Where there is none, that is said.
    ///
    /// # Panics
    /// When there is none but must be (`NEXUS_REQUIRE_ALL=1`).
    #[must_use]
    pub fn is_there() -> bool {
        let found = Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
        if !found {
            not_run("there is no tmux");
        }
        found
    }

    /// Runs a command in a new window of that many columns and rows. Whatever is waited for may take as long as `patience`.
    ///
    /// # Panics
    /// When tmux can't.
    #[must_use]
    pub fn run(command: &Command, (columns, rows): (u16, u16), patience: Duration) -> Self {
        let folder = tempfile::Builder::new().prefix("nx").tempdir_in("/tmp").expect("a temporary folder");
        let tmux = Self { folder, patience };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        // What it runs is to be seen also after its end.
        let settings =
            "start-server ; set-option -g remain-on-exit on ; set-option -g default-terminal tmux-256color ;";
        let window = ["new-session", "-d", "-s", "window", "-x", &columns, "-y", &rows];
        let mut words: Vec<OsString> = settings.split(' ').chain(window).map(OsString::from).collect();
        for (name, value) in command.get_envs() {
            let mut variable = name.to_owned();
            variable.push("=");
            variable.push(value.unwrap_or_default());
            words.extend(["-e".into(), variable]);
        }
        words.push("--".into());
        words.push(command.get_program().to_owned());
        words.extend(command.get_args().map(OsStr::to_owned));
        tmux.ask(words);
        tmux
    }

    /// Types text as it is.
    ///
    /// # Panics
    /// When tmux is gone.
    pub fn types(&self, text: &str) {
        self.ask(["send-keys", "-t", "window", "-l", "--", text]);
    }

    /// Types keys as tmux calls them: `Enter`, `Escape`, `C-c`.
    ///
    /// # Panics
    /// When tmux is gone.
    pub fn keys(&self, keys: &[&str]) {
        self.ask(["send-keys", "-t", "window"].iter().chain(keys));
    }

    /// Types text and Enter.
    ///
    /// # Panics
    /// When tmux is gone.
    pub fn enters(&self, text: &str) {
        self.types(text);
        self.keys(&["Enter"]);
    }

    /// Gives the window another size.
    ///
    /// # Panics
    /// When tmux is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.ask(["resize-window", "-t", "window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What the window shows, a line each.
    ///
    /// # Panics
    /// When tmux is gone.
    #[must_use]
    pub fn screen(&self) -> String {
        self.ask(["capture-pane", "-p", "-t", "window"])
    }

    /// What the window shows and what has scrolled out of it.
    ///
    /// # Panics
    /// When tmux is gone.
    #[must_use]
    pub fn history(&self) -> String {
        self.ask(["capture-pane", "-p", "-S", "-", "-t", "window"])
    }

    /// The pid of the program.
    ///
    /// # Panics
    /// When tmux is gone.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.ask(["display-message", "-p", "-t", "window", "#{pane_pid}"]).trim().parse().expect("a pid")
    }

    /// Waits until the screen is like that.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn shows(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + self.patience;
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "{what} is not to be seen:\n{screen}");
            sleep(GLANCE).await;
        }
    }

    /// Waits until that is on the screen.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn sees(&self, text: &str) -> String {
        self.shows(text, |screen| screen.contains(text)).await
    }

    /// Waits for the program's end; its exit code, or none when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn exits(&self) -> Option<i32> {
        let deadline = Instant::now() + self.patience;
        loop {
            // A pane is dead some time before tmux knows how its program has ended.
            let said = self.ask(["display-message", "-p", "-t", "window", "#{pane_dead_status},#{pane_dead_signal}"]);
            if let Some((status, signal)) = said.trim().split_once(',')
                && !(status.is_empty() && signal.is_empty())
            {
                return status.parse().ok();
            }
            self.have_it_look_for_children();
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.screen());
            sleep(GLANCE).await;
        }
    }

    /// tmux 3.3a now and then misses the signal that its program has ended, and leaves it a zombie for ever.
    fn have_it_look_for_children(&self) {
        let server = self.ask(["display-message", "-p", "#{pid}"]).trim().parse().expect("a pid");
        kill(Pid::from_raw(server), Signal::SIGCHLD).expect("tmux is there");
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        // Nothing of the caller's own tmux, nor of its configuration.
        command.env_remove("TMUX").env("TMUX_TMPDIR", self.folder.path()).env("LC_ALL", "C.UTF-8");
        command.args(["-u", "-f", "/dev/null", "-L", "nexus"]).stdin(Stdio::null());
        command
    }

    fn ask(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
        let output = self.command().args(words).output().expect("tmux can be executed");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux: {said}");
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It may have ended with its program.
        let _ = self.command().arg("kill-server").stderr(Stdio::null()).status();
    }
}
