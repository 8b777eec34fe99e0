//! The screen in front of the caller, which either the guest has or the caller.

use std::{
    io::{self, Write},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::alternate::Alternate;

/// Who has the screen, and which one is shown.
#[derive(Debug, Default)]
pub(super) struct Screen {
    state: Mutex<State>,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_guests: bool,
    is_alternate: bool,
}

impl Screen {
    /// From now on it is the guest's.
    pub(super) fn take(&self) {
        self.lock().is_guests = true;
        self.taken.notify_all();
    }

    /// From now on nothing of the guest's is shown; whether it is the alternate screen that is.
    pub(super) fn give_back(&self) -> bool {
        let mut state = self.lock();
        state.is_guests = false;
        state.is_alternate
    }

    /// Shows what the guest puts out, once the screen is the guest's.
    pub(super) fn show(&self, output: &[u8], follower: &mut Alternate, into: &mut impl Write) -> io::Result<()> {
        let state = self.taken.wait_while(self.lock(), |state| !state.is_guests);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.is_alternate = follower.follow(output);
        into.write_all(output)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;

    /// Tells of each write.
    struct Told(mpsc::Sender<Vec<u8>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_shown_on_a_screen_that_was_given_back() {
        let screen = Screen::default();
        let (tell, told) = mpsc::channel();
        let (mut follower, mut into) = (Alternate::default(), Told(tell));
        screen.take();
        screen.show(b"\x1b[?1049h", &mut follower, &mut into).unwrap();
        assert_eq!(told.recv().unwrap(), b"\x1b[?1049h");
        assert!(screen.give_back());
        thread::scope(|scope| {
            scope.spawn(|| screen.show(b"late", &mut follower, &mut into).unwrap());
            assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "it was shown");
            screen.take();
            assert_eq!(told.recv().unwrap(), b"late");
        });
    }
}
