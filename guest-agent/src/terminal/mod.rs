//! Terminals: commands that run on one, what they show, and who looks at it.
//!
//! A terminal outlives its viewers and the connection on which it was asked for, and ends with its command. What it shows
//! is kept as a picture ([`screen`]), not as the bytes that made it: those may hold questions to a terminal, which one that
//! looks later would answer once more.

mod history;
mod port;
mod pty;
mod screen;
mod session;
mod table;
mod unfinished;
mod viewer;

pub(crate) use table::Terminals;
pub(crate) use viewer::serve;
