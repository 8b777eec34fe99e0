//! Those who have connected and have not shown yet that they know the token.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use tokio_util::sync::CancellationToken;

/// As many at a time.
const MAX_VISITORS: usize = 32;

/// Where they wait, who came first in front. None of them keeps others out: where there are too many, the first has to go.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    visitors: RefCell<VecDeque<(u64, CancellationToken)>>,
    number: Cell<u64>,
}

/// One of them. It leaves with this.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    lobby: &'a Lobby,
    number: u64,
    over: CancellationToken,
}

impl Lobby {
    pub(super) fn enter(&self) -> Visit<'_> {
        let number = self.number.get();
        self.number.set(number + 1);
        let over = CancellationToken::new();
        let mut visitors = self.visitors.borrow_mut();
        visitors.push_back((number, over.clone()));
        if visitors.len() > MAX_VISITORS
            && let Some((_, first)) = visitors.pop_front()
        {
            first.cancel();
        }
        Visit { lobby: self, number, over }
    }
}

impl Visit<'_> {
    /// Returns when it has to go.
    pub(super) async fn is_over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.lobby.visitors.borrow_mut().retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_too_many_the_first_has_to_go() {
        let lobby = Lobby::default();
        let mut visits: Vec<_> = (0..MAX_VISITORS).map(|_| lobby.enter()).collect();
        drop(visits.remove(1));
        visits.push(lobby.enter());
        assert!(visits.iter().all(|visit| !visit.over.is_cancelled()));
        visits.push(lobby.enter());
        let over: Vec<usize> = (0..visits.len()).filter(|place| visits[*place].over.is_cancelled()).collect();
        assert_eq!(over, [0]);
        visits.clear();
        assert!(lobby.visitors.borrow().is_empty());
    }
}
