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
    let mut number = found.rounds.len();
    while let Some(before) = number.checked_sub(1) {
        let candidates = found.rounds.get(before).map(simpler).unwrap_or_default();
        let simplified = candidates.into_iter().any(|fewer| {
            let mut rounds = found.rounds.clone();
            rounds[before] = fewer;
            fails(&rounds, &mut found)
        });
        // What is left of it may be simpler still.
        if !simplified {
            number = before;
        }
    }
    found
}

/// The round without one client, without one fault, or without one operation.
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
    let operations = round.clients.iter().enumerate().flat_map(|(client, ops)| {
        (0..ops.len()).map(move |op| {
            let mut simpler = round.clone();
            simpler.clients[client].remove(op);
            simpler
        })
    });
    clients.chain(faults).chain(operations).collect()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::{
        Vmm,
        check::Violation,
        plan::{Deck, Fault, Op},
    };

    /// Fails in the first round that has both of these.
    fn run(rounds: &[Round]) -> Result<Report, Failure> {
        let fails = |round: &Round| {
            let ops = || round.clients.iter().flatten();
            ops().any(|(_, op)| matches!(op, Op::Exec { .. }))
                && round.faults.iter().any(|(_, fault)| matches!(fault, Fault::KillDaemon))
        };
        match rounds.iter().position(fails) {
            Some(round) => Err(Failure { round, violation: Violation::Harmed, log: String::new() }),
            None => Ok(Report::default()),
        }
    }

    #[test]
    fn what_is_not_needed_is_left_out() {
        let deck = Deck { vms: 4, steady: false, vmm: Vmm::Process, failpoints: vec!["actor.machine".to_owned()] };
        let mut rng = Rng::with_seed(1);
        let mut rounds: Vec<Round> = (0..40).map(|_| deck.draw(&mut rng)).collect();
        rounds[30].clients[1].push((5, Op::Exec { vm: 2 }));
        rounds[30].faults.push((7, Fault::KillDaemon));
        let found = shortest(&rounds, run);
        let [round] = found.rounds.as_slice() else { panic!("{} rounds", found.rounds.len()) };
        assert_eq!((round.clients.iter().flatten().count(), round.faults.len()), (1, 1), "{round}");
        assert_eq!(run(&found.rounds).unwrap_err().round, 0);
        let said = found.to_string();
        assert!(said.contains("Exec") && said.contains("KillDaemon"), "{said}");
    }

    #[test]
    fn what_does_not_fail_again_is_said_so() {
        let found = shortest(&[Round::default()], |_| Ok(Report::default()));
        assert!(found.to_string().starts_with("It did not fail again in "), "{found}");
    }
}
