//! The shortest sequence that fails.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    plan::Round,
    round::{Failure, Report},
};

/// How long to look for a shorter one.
const LIMIT: Duration = Duration::from_secs(900);
/// How often a sequence is tried before it is believed to be well: not everything is the seed's.
const TRIES: usize = 2;

/// What was found.
pub(crate) struct Shortest {
    rounds: Vec<Round>,
    last: Option<Failure>,
    tried: usize,
}

impl fmt::Display for Shortest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last {
            None => writeln!(f, "It did not fail again in {} tries: run the whole seed.", self.tried)?,
            Some(failure) => {
                writeln!(f, "The shortest sequence that fails, of {} that were tried:", self.tried)?;
                for (number, round) in self.rounds.iter().enumerate() {
                    write!(f, "round {number}:\n{round}")?;
                }
                writeln!(f, "It fails with: {}", failure.violation)?;
            }
        }
        Ok(())
    }
}

/// Leaves out what can be left out, half by half and then one by one (Zeller's ddmin without its last step): rounds first,
/// then what happens in them.
pub(crate) fn shortest(rounds: &[Round], run: impl Fn(&[Round]) -> Result<Report, Failure>) -> Shortest {
    let end = Instant::now() + LIMIT;
    let mut found = Shortest { rounds: rounds.to_vec(), last: None, tried: 0 };
    let fails = |rounds: &[Round], found: &mut Shortest| {
        (0..TRIES).any(|_| {
            if Instant::now() > end {
                return false;
            }
            found.tried += 1;
            let Err(failure) = run(rounds) else { return false };
            found.rounds = rounds[..=failure.round].to_vec();
            found.last = Some(failure);
            true
        })
    };
    // Most often the last rounds are enough.
    let mut kept = 1;
    while kept < rounds.len() && !fails(&rounds[rounds.len() - kept..], &mut found) {
        kept *= 4;
    }
    if found.last.is_none() && !fails(rounds, &mut found) {
        return found;
    }
    let mut piece = found.rounds.len().div_ceil(2);
    while piece > 0 && found.rounds.len() > 1 {
        let mut from = 0;
        while from < found.rounds.len() {
            let mut fewer = found.rounds.clone();
            fewer.drain(from..(from + piece).min(fewer.len()));
            if fewer.is_empty() || !fails(&fewer, &mut found) {
                from += piece;
            }
        }
        piece /= 2;
    }
    for number in (0..found.rounds.len()).rev() {
        for fewer in simpler(&found.rounds[number.min(found.rounds.len() - 1)]) {
            let mut rounds = found.rounds.clone();
            let at = number.min(rounds.len() - 1);
            rounds[at] = fewer;
            fails(&rounds, &mut found);
        }
    }
    found
}

/// The round without one client, or without one fault.
fn simpler(round: &Round) -> Vec<Round> {
    let clients = (0..round.clients.len()).filter(|client| !round.clients[*client].is_empty()).map(|client| {
        let mut simpler = round.clone();
        simpler.clients[client].clear();
        simpler
    });
    let faults = (0..round.faults.len()).map(|fault| {
        let mut simpler = round.clone();
        simpler.faults.remove(fault);
        simpler
    });
    clients.chain(faults).collect()
}
