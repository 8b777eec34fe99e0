//! Streams that the host asked for and has not opened yet.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use nexus_protocol::{BULK_PORT, Failure, FailureKind, Label, Opened, Purpose, StreamKind, TOOLS_PORT, Ticket, Token};

use crate::streams::{Announced, Streams};

/// How long the host has to open a stream that it asked for.
const DEADLINE: Duration = Duration::from_secs(30);

/// As many may be asked for and not opened yet.
const MAX_ISSUED: usize = 64;

/// The secrets that open a stream once.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    issued: RefCell<Vec<Issued>>,
}

#[derive(Debug)]
struct Issued {
    token: Token,
    purpose: Purpose,
    stream: Announced,
    until: Instant,
}

impl Tickets {
    /// A secret for a stream, and where that is awaited for a while from `now` on.
    pub(crate) fn issue(
        &self,
        streams: &Streams,
        purpose: Purpose,
        label: Option<Label>,
        now: Instant,
    ) -> Result<Opened, Failure> {
        let mut issued = self.issued.borrow_mut();
        issued.retain(|ticket| ticket.until > now);
        if issued.len() >= MAX_ISSUED {
            let message = format!("{MAX_ISSUED} streams were asked for and not opened");
            return Err(Failure::new(FailureKind::Exhausted, message));
        }
        let token = Token::random().map_err(|_| Failure::new(FailureKind::System, "cannot get random numbers"))?;
        let (kind, port) = match purpose {
            Purpose::Tools { .. } => (StreamKind::Tools, TOOLS_PORT),
            Purpose::CopyIn(_) | Purpose::CopyOut(_) => (StreamKind::Copy, BULK_PORT),
        };
        let stream = streams.announce(kind, port, label);
        let opened = Opened { port, token: token.clone(), stream: Some(stream.number) };
        issued.push(Issued { token, purpose, stream, until: now + DEADLINE });
        Ok(opened)
    }

    /// What the stream is for that somebody wants to open with this secret.
    pub(crate) fn claim(&self, ticket: &Ticket, now: Instant) -> Result<(Purpose, Announced), Failure> {
        let mut issued = self.issued.borrow_mut();
        let index = issued.iter().position(|other| other.token == ticket.token);
        let claimed = index.map(|index| issued.swap_remove(index)).filter(|ticket| ticket.until > now);
        let unknown = || Failure::new(FailureKind::Unauthorized, "there is no such stream, or it was opened too late");
        claimed.map(|ticket| (ticket.purpose, ticket.stream)).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> Purpose {
        Purpose::Tools { env: [("A".to_owned(), "b".to_owned())].into() }
    }

    fn kind<T: std::fmt::Debug>(result: Result<T, Failure>) -> FailureKind {
        result.unwrap_err().kind
    }

    #[test]
    fn a_ticket_is_good_once() {
        let (tickets, streams, now) = (Tickets::default(), Streams::default(), Instant::now());
        let Opened { port, token, .. } = tickets.issue(&streams, tools(), None, now).unwrap();
        assert_eq!(port, TOOLS_PORT);
        assert_eq!(kind(tickets.claim(&Ticket { token: Token::from("guessed") }, now)), FailureKind::Unauthorized);
        let ticket = Ticket { token };
        assert_eq!(tickets.claim(&ticket, now).unwrap().0, tools());
        assert_eq!(kind(tickets.claim(&ticket, now)), FailureKind::Unauthorized);
    }

    #[test]
    fn tickets_are_few_and_expire() {
        let (tickets, streams, now) = (Tickets::default(), Streams::default(), Instant::now());
        let issue = |now| tickets.issue(&streams, tools(), None, now);
        let first = issue(now).unwrap();
        for _ in 1..MAX_ISSUED {
            issue(now).unwrap();
        }
        assert_eq!(kind(issue(now)), FailureKind::Exhausted);
        let now = now + DEADLINE;
        assert_eq!(kind(tickets.claim(&Ticket { token: first.token }, now)), FailureKind::Unauthorized);
        issue(now).unwrap();
    }
}
