//! Passing lines on between the client and the guest. Each way has a thread of its own: a client that does not read must not
//! keep itself from being heard. A guest that goes and comes back is a new session, to which the client's beginning is told
//! again.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use nexus_protocol::{
    MAX_TOOLS_LINE_BYTES,
    mcp::{Begun, Line, Lines, Pending, refusal},
};
use serde_json::Value;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{PATIENCE, reader};
use crate::{
    bus::DEADLINE,
    failure::{Exit, Failure},
    interrupt::Interrupts,
    output::{self, sentence},
    stream::blocking,
};

/// Before a guest is asked for another session.
const PAUSE: Duration = Duration::from_millis(100);

/// As many sessions in a row may end before the guest has said anything in them.
const MAX_MUTE: u32 = 5;

/// What a client of a revision before 2026-07-28 says when it was answered for the first time.
const BEGUN: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";

/// What both ways share.
struct Bridge {
    vm: String,
    state: Mutex<State>,
    /// There is a stream.
    connected: Condvar,
    /// The client reads it: whole lines only.
    out: Mutex<File>,
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// To the guest; none while there is no session.
    to_guest: Option<Arc<File>>,
}

/// What happens in a thread.
enum News {
    /// The client says nothing more.
    Silent,
    /// The guest has said something.
    Heard,
    /// The guest's stream has ended, whyever. What was asked for is answered.
    Lost(String),
    /// It is not to be tried again: the guest is mad, or nobody reads what it says.
    Over(Failure),
}

/// Passes lines on until the client has enough, or the guest is gone for good. `open` begins a session with the guest.
pub(super) async fn run(
    vm: &str,
    interrupts: &mut Interrupts,
    open: impl AsyncFn(&mut Interrupts) -> Result<OwnedFd, Failure>,
) -> Result<Exit, Failure> {
    let stream = open(interrupts).await?;
    let input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?);
    let out = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?);
    let bridge = Arc::new(Bridge::new(vm, out));
    let (told, mut news) = unbounded_channel();
    bridge.connect(stream, &told)?;
    {
        let (bridge, told) = (Arc::clone(&bridge), told.clone());
        // Whoever listened is gone when the process is about to end.
        thread::spawn(move || {
            bridge.outbound(input);
            told.send(News::Silent)
        });
    }
    let gone = reader::is_gone();
    tokio::pin!(gone);
    let (mut until, mut mute) = (None, 0);
    loop {
        let why = tokio::select! {
            why = bridge.session(&mut news, &mut until, &mut mute) => why?,
            () = &mut gone => return Ok(Exit::OK),
            number = interrupts.next() => return Err(Failure::silent(Exit::signal(number))),
        };
        let Some(why) = why else { return Ok(Exit::OK) };
        let lost = Failure::new(format!("the tools of VM {vm} are gone"));
        if until.is_some() || mute >= MAX_MUTE {
            bridge.give_up(&why)?;
            let failure = lost.because(sentence(&why));
            return Err(failure.hint("See how it is", format!("nexusctl vm inspect {vm}")));
        }
        output::note(format!("The tools of VM {vm} are gone: {why}. Waiting until they are back."));
        let again = async {
            sleep(PAUSE).await;
            open(interrupts).await
        };
        let again = tokio::select! {
            again = again => again,
            // It has nothing to wait for: what it asked for is answered.
            () = quiet(&mut news) => return Ok(Exit::OK),
            () = &mut gone => return Ok(Exit::OK),
        };
        match again {
            Ok(stream) => bridge.connect(stream, &told)?,
            Err(failure) if failure.is_silent() => return Err(failure),
            Err(failure) => {
                let why = failure.in_one_line();
                bridge.give_up(&why)?;
                return Err(lost.because(why).exit(failure.code()));
            }
        }
    }
}

/// Returns when the client says nothing more.
async fn quiet(news: &mut UnboundedReceiver<News>) {
    loop {
        match news.recv().await {
            Some(News::Silent) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}

fn cannot(error: io::Error) -> Failure {
    Failure::new("cannot use the streams").because(sentence(&error.to_string()))
}

impl Bridge {
    fn new(vm: &str, out: File) -> Self {
        Self { vm: vm.to_owned(), state: Mutex::default(), connected: Condvar::new(), out: Mutex::new(out) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session, in a thread of its own.
    fn connect(self: &Arc<Self>, stream: OwnedFd, told: &UnboundedSender<News>) -> Result<(), Failure> {
        let guest = blocking(stream).map_err(cannot)?;
        let (bridge, told) = (Arc::clone(self), told.clone());
        thread::spawn(move || {
            let end = bridge.inbound(guest, &told).unwrap_or_else(News::Over);
            told.send(end)
        });
        Ok(())
    }

    /// Waits for the end of a session: why it ended, or none where the client has enough. A client that says nothing more
    /// waits for its answers `until` then.
    async fn session(
        &self,
        news: &mut UnboundedReceiver<News>,
        until: &mut Option<Instant>,
        mute: &mut u32,
    ) -> Result<Option<String>, Failure> {
        *mute += 1;
        loop {
            let connected = self.state().to_guest.is_some();
            let next = match (*until, connected) {
                (Some(until), _) => match timeout_at(until, news.recv()).await {
                    Ok(next) => next,
                    Err(_) => return Err(self.mad("its guest has not answered")?),
                },
                (None, true) => news.recv().await,
                // The guest is to answer the client's beginning.
                (None, false) => match timeout(DEADLINE, news.recv()).await {
                    Ok(next) => next,
                    Err(_) => return Err(self.mad("its guest does not answer")?),
                },
            };
            match next {
                Some(News::Heard) => *mute = 0,
                Some(News::Silent) => *until = Some(Instant::now() + PATIENCE),
                Some(News::Lost(why)) => return Ok(Some(why)),
                Some(News::Over(failure)) => return Err(failure),
                None => return Ok(None),
            }
            if until.is_some() && self.state().pending.is_empty() {
                return Ok(None);
            }
        }
    }

    /// From the client to the guest. What it asks while there is none waits for that.
    fn outbound(&self, input: File) {
        let mut lines = Lines::new(input, MAX_TOOLS_LINE_BYTES);
        loop {
            let Ok(line) = lines.next() else { return };
            match (refusal(&line), line) {
                (Some(refusal), _) => {
                    // A client that does not read is noticed the other way.
                    let _ = self.say(&refusal);
                }
                (None, Line::Whole(line)) => {
                    let mut state = self.state();
                    state.pending.waits(&line);
                    let to_guest = loop {
                        match &state.to_guest {
                            Some(to_guest) => break Arc::clone(to_guest),
                            None => state = self.connected.wait(state).unwrap_or_else(PoisonError::into_inner),
                        }
                    };
                    // From now on it is answered with an error when the guest goes.
                    state.pending.sent(&line);
                    drop(state);
                    // Of a guest that is gone the other way tells, and answers what it was asked.
                    let _ = (&*to_guest).write_all(&line);
                }
                (None, _) => return,
            }
        }
    }

    /// From the guest to the client, which gets an answer to whatever it asked.
    fn inbound(&self, guest: File, told: &UnboundedSender<News>) -> Result<News, Failure> {
        let to_guest = guest.try_clone().map_err(cannot)?;
        let mut lines = Lines::new(guest, MAX_TOOLS_LINE_BYTES);
        let begun = self.state().pending.begun().cloned();
        if let Some(begun) = begun {
            match begin(&begun, &to_guest, &mut lines) {
                Ok(true) => {}
                Ok(false) => return Ok(News::Over(self.mad("its guest does not take the client any more")?)),
                Err(error) => return self.lost(format!("the connection to its guest has failed: {error}")),
            }
        }
        self.state().to_guest = Some(Arc::new(to_guest));
        self.connected.notify_all();
        loop {
            match lines.next() {
                Ok(Line::Whole(line)) => {
                    if !self.state().pending.received(&line) {
                        return Ok(News::Over(self.mad("its guest has sent what is no message")?));
                    }
                    self.write(&line)?;
                    let _ = told.send(News::Heard);
                }
                Ok(Line::TooLong) => {
                    let why = format!("its guest has sent a message of more than {MAX_TOOLS_LINE_BYTES} bytes");
                    return Ok(News::Over(self.mad(&why)?));
                }
                Ok(Line::End) => return self.lost("the connection to its guest has ended".to_owned()),
                Err(error) => return self.lost(format!("the connection to its guest has failed: {error}")),
            }
        }
    }

    /// Answers what the guest was asked. What was asked since waits for another session.
    fn lost(&self, why: String) -> Result<News, Failure> {
        self.end(&why, Pending::lost)?;
        Ok(News::Lost(why))
    }

    /// What to say of a guest that nobody should go on with.
    fn mad(&self, why: &str) -> Result<Failure, Failure> {
        self.give_up(why)?;
        let vm = &self.vm;
        Ok(Failure::new(format!("the tools of VM {vm} are gone"))
            .because(sentence(why))
            .hint("See how it is", format!("nexusctl vm inspect {vm}")))
    }

    /// Answers whatever was asked.
    fn give_up(&self, why: &str) -> io::Result<()> {
        self.end(why, Pending::give_up)
    }

    fn end(&self, why: &str, answers: impl FnOnce(&mut Pending, &str) -> Vec<Value>) -> io::Result<()> {
        let lost = {
            let mut state = self.state();
            state.to_guest = None;
            answers(&mut state.pending, &format!("the tools of VM {} are gone: {why}", self.vm))
        };
        lost.iter().try_for_each(|answer| self.say(answer))
    }

    fn say(&self, message: &Value) -> io::Result<()> {
        self.write(format!("{message}\n").as_bytes())
    }

    fn write(&self, line: &[u8]) -> io::Result<()> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
    }
}

/// Tells another guest how the client has begun, and whether it takes that. What else it says before is nobody's.
fn begin(begun: &Begun, mut to_guest: &File, lines: &mut Lines<File>) -> io::Result<bool> {
    to_guest.write_all(&begun.line)?;
    loop {
        match lines.next()? {
            Line::Whole(line) => match begun.is_taken(&line) {
                Some(true) => return to_guest.write_all(BEGUN).map(|()| true),
                Some(false) => return Ok(false),
                None => {}
            },
            Line::TooLong => return Ok(false),
            Line::End => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Seek},
        net::Shutdown,
        os::unix::net::UnixStream,
    };

    use super::*;

    /// What a client reads of what a guest writes, and how that ended.
    fn read(asked: &[&str], said: &[u8]) -> (String, News) {
        let mut out = tempfile::tempfile().unwrap();
        let bridge = Bridge::new("web", out.try_clone().unwrap());
        for line in asked {
            bridge.state().pending.sent(line.as_bytes());
        }
        let mut guest = tempfile::tempfile().unwrap();
        guest.write_all(said).unwrap();
        guest.rewind().unwrap();
        let (told, _news) = unbounded_channel();
        let end = bridge.inbound(guest, &told).unwrap();
        let mut text = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut text).unwrap();
        (text, end)
    }

    const ASKED: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/list"}"#;

    #[test]
    fn what_a_guest_says_is_passed_on_as_it_is() {
        let said = "{\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{\"new\":[ 1 ]}}\n";
        let (text, end) = read(&[ASKED], said.as_bytes());
        assert_eq!(text, said);
        assert!(matches!(end, News::Lost(why) if why.contains("has ended")));
    }

    #[test]
    fn what_is_asked_is_answered_though_the_guest_is_gone_or_mad() {
        let mut long = vec![b'x'; MAX_TOOLS_LINE_BYTES];
        long.push(b'\n');
        for (said, why, again) in [
            (&b""[..], "has ended", true),
            (b"{\"jsonrpc\":\"2.0\",\"id\":5,\"resu", "has ended", true),
            (b"\x1b[2J\x1b]0;owned\x07\n", "no message", false),
            (&long, "more than 16777216 bytes", false),
        ] {
            let (text, end) = read(&[ASKED], said);
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&5.into(), &(-32000).into()));
            assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{text}");
            match end {
                News::Lost(_) => assert!(again, "{why}"),
                News::Over(failure) => {
                    assert!(!again && failure.to_string().contains("VM web"), "{failure}");
                    assert_eq!(failure.code(), Exit::FAILED);
                }
                News::Silent | News::Heard => panic!("{text}"),
            }
        }
    }

    #[test]
    fn what_is_asked_while_there_is_no_guest_is_asked_once() {
        const HELLO: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{}}\n";
        const TAKEN: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}\n";
        let mut out = tempfile::tempfile().unwrap();
        let bridge = Bridge::new("web", out.try_clone().unwrap());
        let (mut client, input) = UnixStream::pair().unwrap();
        client.write_all(HELLO.as_bytes()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| bridge.outbound(File::from(OwnedFd::from(input))));
            while bridge.state().pending.is_empty() {
                thread::yield_now();
            }
            // A guest that goes at once has not heard of it.
            let (told, _news) = unbounded_channel();
            assert!(matches!(bridge.lost("it has gone".to_owned()), Ok(News::Lost(_))));
            let (near, far) = UnixStream::pair().unwrap();
            let bridge = &bridge;
            let inbound = scope.spawn(move || bridge.inbound(File::from(OwnedFd::from(near)), &told).is_ok());
            let mut guest = BufReader::new(&far);
            let mut heard = String::new();
            guest.read_line(&mut heard).unwrap();
            (&far).write_all(TAKEN.as_bytes()).unwrap();
            far.shutdown(Shutdown::Write).unwrap();
            assert!(inbound.join().unwrap());
            client.shutdown(Shutdown::Both).unwrap();
            guest.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, HELLO);
        });
        let mut answers = String::new();
        out.rewind().unwrap();
        out.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, TAKEN, "it is answered by who has heard it");
    }
}
