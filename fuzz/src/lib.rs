//! What the targets share: a guest that says what it is given, to a host that is the real one.

mod guest;
mod text;

pub use guest::{Guest, frames, opened_stream, welcome};
pub use text::assert_plain;
