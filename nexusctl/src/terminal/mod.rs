//! The caller's terminal, as long as a terminal in a guest is shown on it.

mod alternate;
mod guard;
mod keyboard;
mod keys;
mod local;
mod screen;
mod viewer;

pub(crate) use guard::GuardTerminal;
pub(crate) use keyboard::Keyboard;
pub(crate) use keys::DetachKeys;
pub(crate) use local::{name, size};
pub(crate) use viewer::{End, View};
