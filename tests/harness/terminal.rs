//! A terminal, as a program on it sees one, and a person in front of it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::fd::OwnedFd,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
    },
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use crate::PATIENCE;

/// What draws in place begins each picture with this: to the first line.
const HOME: &str = "\x1b[H";
/// And ends it with this: nothing below.
const REST: &str = "\x1b[J";

/// A program on a terminal. It is killed with this value.
pub struct Terminal {
    child: Child,
    /// The program's side, kept so that how it left the terminal can be seen.
    line: OwnedFd,
    /// The person's side.
    keys: File,
    chunks: mpsc::UnboundedReceiver<Vec<u8>>,
    written: String,
}

impl Terminal {
    /// Runs a program on a terminal of 160 columns and 30 rows that has no colours.
    ///
    /// # Panics
    /// When there is no terminal, or no such program.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 160, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a terminal");
        for end in [&pty.master, &pty.slave] {
            // Or whatever else the test starts would keep it open.
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor");
        }
        let side = || pty.slave.try_clone().expect("a descriptor");
        command.env("TERM", "xterm").env("NO_COLOR", "1");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().expect("the program can be executed");
        let (tell, chunks) = mpsc::unbounded_channel();
        let mut master = File::from(pty.master);
        let keys = master.try_clone().expect("a descriptor");
        // It ends when the last of the other side is closed.
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = master.read(&mut chunk) {
                if tell.send(chunk[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, line: pty.slave, keys, chunks, written: String::new() }
    }

    /// The next picture.
    async fn picture(&mut self) -> Option<String> {
        loop {
            let whole = self.written.find(HOME).zip(self.written.find(REST)).filter(|(begin, end)| begin < end);
            if let Some((begin, end)) = whole {
                let picture = self.written[begin + HOME.len()..end].replace("\x1b[K", "").replace('\r', "");
                self.written.drain(..end + REST.len());
                return Some(picture);
            }
            let chunk = self.chunks.recv().await?;
            self.written.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// Waits for the first picture that is as wanted.
    ///
    /// # Panics
    /// When none comes in time.
    pub async fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let seen = async {
            while let Some(picture) = self.picture().await {
                if wanted(&picture) {
                    return Some(picture);
                }
                last = picture;
            }
            None
        };
        match timeout(PATIENCE, seen).await {
            Ok(Some(picture)) => picture,
            Ok(None) | Err(_) => panic!("it does not come, this is the last:\n{last}"),
        }
    }

    /// Whether what is typed shows.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[must_use]
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.line).expect("a terminal").local_flags.contains(LocalFlags::ECHO)
    }

    /// How it is set.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[must_use]
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.line).expect("a terminal")
    }

    /// Waits until it is set like that.
    ///
    /// # Panics
    /// When it is not.
    pub async fn is_given_back(&self, settings: &Termios) {
        let given = async {
            while self.settings() != *settings {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, given).await.expect("it is set as before");
    }

    /// Types something.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal");
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let line = self.line.try_clone().expect("a descriptor");
        let mut stty = std::process::Command::new("stty");
        let status = stty.args(["cols", &columns, "rows", &rows]).stdin(line).status().expect("stty can be executed");
        assert!(status.success());
        // It is nobody's controlling terminal, so that the kernel has nobody to tell.
        self.signal(Signal::SIGWINCH);
    }

    /// Everything that was shown so far.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.written
    }

    /// Waits until that is shown.
    ///
    /// # Panics
    /// When it is not.
    pub async fn sees(&mut self, text: &str) {
        while !self.written.contains(text) {
            match timeout(PATIENCE, self.chunks.recv()).await {
                Ok(Some(chunk)) => self.written.push_str(&String::from_utf8_lossy(&chunk)),
                Ok(None) | Err(_) => panic!("{text:?} is not shown:\n{}", self.written),
            }
        }
    }

    /// Waits for the program's end: its exit code, and everything that was shown.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn exits(&mut self) -> (Option<i32>, String) {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            panic!("it does not end, and shows:\n{}", self.written);
        };
        let status = status.expect("it is a child");
        // What it wrote is on the other side by now; the reading thread may not be so far.
        while let Ok(Some(chunk)) = timeout(Duration::from_millis(500), self.chunks.recv()).await {
            self.written.push_str(&String::from_utf8_lossy(&chunk));
        }
        (status.code(), self.written.clone())
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).expect("it runs");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Waits until the program stands still.
    ///
    /// # Panics
    /// When it does not.
    pub async fn stops(&self) {
        let status = format!("/proc/{}/status", self.child.id().expect("it runs"));
        let stopped = async {
            while !fs::read_to_string(&status).expect("it runs").contains("\nState:\tT") {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, stopped).await.expect("it stops");
    }

    /// Sends the program a signal and waits for its end: its exit code, and what it wrote since the last picture.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(mut self, signal: Signal) -> (Option<i32>, String, bool) {
        self.signal(signal);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it is a child");
        let echoes = self.echoes();
        drop(self.line);
        while let Ok(Some(chunk)) = timeout(Duration::from_secs(10), self.chunks.recv()).await {
            self.written.push_str(&String::from_utf8_lossy(&chunk));
        }
        (status.code(), self.written, echoes)
    }
}
