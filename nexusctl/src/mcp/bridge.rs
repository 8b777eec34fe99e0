//! Passing lines on between the client and the guest. Each way has a thread of its own: a client that does not read must not
//! keep itself from being heard.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::sleep,
};

use super::{
    lines::{Line, Lines, MAX_LINE_BYTES},
    message::{Pending, failure},
};
use crate::{
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::sentence,
};

/// How long a client that says nothing more waits for a guest that says nothing either.
const IDLE: Duration = Duration::from_secs(10);

/// What both ways share.
struct Session {
    vm: String,
    pending: Mutex<Pending>,
    /// The client reads it: whole lines only.
    out: Mutex<File>,
}

/// What happens in a thread.
enum News {
    /// The client says nothing more.
    Silent,
    /// The guest has said something.
    Heard,
    /// The guest's stream has ended, or nobody reads what it says.
    Over(Result<(), Failure>),
}

/// Passes lines on until the client has enough, or the guest is gone.
pub(super) async fn run(stream: OwnedFd, vm: &str, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    let cannot = |error: io::Error| Failure::new("cannot use the streams").because(sentence(&error.to_string()));
    let guest = blocking(stream).map_err(cannot)?;
    let to_guest = guest.try_clone().map_err(cannot)?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?);
    let out = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?);
    let session = Arc::new(Session { vm: vm.to_owned(), pending: Mutex::default(), out: Mutex::new(out) });
    let (told, mut news) = unbounded_channel();
    {
        let (session, told) = (Arc::clone(&session), told.clone());
        // Whoever listened is gone when the process is about to end.
        thread::spawn(move || {
            session.outbound(input, to_guest);
            told.send(News::Silent)
        });
    }
    {
        let session = Arc::clone(&session);
        thread::spawn(move || {
            let result = session.inbound(guest, &told);
            told.send(News::Over(result))
        });
    }

    let mut silent = false;
    loop {
        tokio::select! {
            next = news.recv() => match next {
                Some(News::Heard) => {}
                Some(News::Silent) => silent = true,
                Some(News::Over(result)) => return result.map(|()| Exit::OK),
                None => return Ok(Exit::OK),
            },
            () = sleep(IDLE), if silent => return Ok(Exit::OK),
            number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
        }
        if silent && session.pending().is_empty() {
            return Ok(Exit::OK);
        }
    }
}

impl Session {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the client to the guest. Whether the guest is there the other way tells.
    fn outbound(&self, input: File, mut to_guest: File) {
        let mut lines = Lines::new(input, MAX_LINE_BYTES);
        loop {
            match lines.next() {
                Ok(Line::Whole(line)) => {
                    self.pending().sent(&line);
                    if to_guest.write_all(&line).is_err() {
                        return;
                    }
                }
                Ok(Line::TooLong) => {
                    let why = format!("a message was over the limit of {MAX_LINE_BYTES} bytes, and was not passed on");
                    // A client that does not read is noticed the other way.
                    let _ = self.say(&failure(&Value::Null, &why));
                }
                Ok(Line::End) | Err(_) => return,
            }
        }
    }

    /// From the guest to the client, which gets an answer to whatever it asked.
    fn inbound(&self, guest: File, told: &UnboundedSender<News>) -> Result<(), Failure> {
        let mut lines = Lines::new(guest, MAX_LINE_BYTES);
        let why = loop {
            match lines.next() {
                Ok(Line::Whole(line)) => {
                    if !self.pending().received(&line) {
                        break "its guest has sent what is no message".to_owned();
                    }
                    self.write(&line)?;
                    let _ = told.send(News::Heard);
                }
                Ok(Line::TooLong) => break format!("its guest has sent a message of more than {MAX_LINE_BYTES} bytes"),
                Ok(Line::End) => break "the connection to its guest has ended".to_owned(),
                Err(error) => break format!("the connection to its guest has failed: {error}"),
            }
        };
        let vm = &self.vm;
        let lost = self.pending().give_up(&format!("the tools of VM {vm} are gone: {why}"));
        for answer in &lost {
            self.say(answer)?;
        }
        Err(Failure::new(format!("the tools of VM {vm} are gone"))
            .because(sentence(&why))
            .hint("See how it is", format!("nexusctl vm inspect {vm}")))
    }

    fn say(&self, message: &Value) -> io::Result<()> {
        self.write(format!("{message}\n").as_bytes())
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
    }
}

/// The descriptor in blocking mode, whatever mode its sender had it in.
fn blocking(stream: OwnedFd) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&stream, FcntlArg::F_GETFL)?);
    fcntl(&stream, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(File::from(stream))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    /// What a client reads of what a guest writes, and how that ended.
    fn read(asked: &[&str], said: &[u8]) -> (String, Failure) {
        let mut out = tempfile::tempfile().unwrap();
        let session =
            Session { vm: "web".to_owned(), pending: Mutex::default(), out: Mutex::new(out.try_clone().unwrap()) };
        for line in asked {
            session.pending().sent(line.as_bytes());
        }
        let mut guest = tempfile::tempfile().unwrap();
        guest.write_all(said).unwrap();
        guest.rewind().unwrap();
        let (told, _news) = unbounded_channel();
        let failure = session.inbound(guest, &told).unwrap_err();
        let mut text = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        (text, failure)
    }

    const ASKED: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#;

    #[test]
    fn what_a_guest_says_is_passed_on_as_it_is() {
        let said = "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"new\":[ 1 ]}}\n";
        let (text, failure) = read(&[ASKED], said.as_bytes());
        assert_eq!(text, said);
        assert_eq!(failure.code(), Exit::FAILED);
    }

    #[test]
    fn what_is_asked_is_answered_though_the_guest_is_gone_or_mad() {
        let mut long = vec![b'x'; MAX_LINE_BYTES];
        long.push(b'\n');
        for (said, why) in [
            (&b""[..], "has ended"),
            (b"{\"jsonrpc\":\"2.0\",\"id\":5,\"resu", "has ended"),
            (b"\x1b[2J\x1b]0;owned\x07\n", "no message"),
            (&long, "more than 16777216 bytes"),
        ] {
            let (text, failure) = read(&[ASKED], said);
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&5.into(), &(-32000).into()));
            assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{text}");
            assert!(failure.to_string().contains("VM web"), "{failure}");
        }
    }
}
