//! Where connections come in.

use std::{cell::Cell, io, time::Duration};

use tokio::time::sleep;

use crate::output;

/// Before it is tried again, where none could be accepted.
const PAUSE: Duration = Duration::from_millis(500);

/// What accepts them, however often that fails.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// Somebody was told that it fails, and it has not worked since.
    fails: Cell<bool>,
}

impl Door {
    /// The next connection.
    pub(super) async fn next<T>(&self, accept: impl AsyncFnMut() -> io::Result<T>) -> T {
        self.next_or_tell(accept, output::warn).await
    }

    async fn next_or_tell<T>(&self, mut accept: impl AsyncFnMut() -> io::Result<T>, tell: impl Fn(&str)) -> T {
        loop {
            match accept().await {
                Ok(accepted) => {
                    self.fails.set(false);
                    return accepted;
                }
                Err(error) => {
                    if !self.fails.replace(true) {
                        tell(&format!("cannot accept a connection: {error}"));
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn what_fails_again_and_again_is_told_once() {
        let (door, told, tries) = (Door::default(), RefCell::new(Vec::new()), Cell::new(0));
        let accept = async || {
            tries.set(tries.get() + 1);
            if tries.get() % 3 == 0 { Ok(tries.get()) } else { Err(io::Error::other("too many")) }
        };
        let tell = |text: &str| told.borrow_mut().push(text.to_owned());
        assert_eq!(door.next_or_tell(accept, tell).await, 3);
        assert_eq!(told.borrow().len(), 1);
        assert_eq!(door.next_or_tell(accept, tell).await, 6);
        assert_eq!(told.borrow().len(), 2);
    }
}
