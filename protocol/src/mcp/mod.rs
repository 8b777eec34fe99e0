//! Messages of the Model Context Protocol, as far as somebody has to know them who passes them on: how they are cut out of a
//! stream, and which of them answers which. What is in them is their two ends' own. It is here and not in `mcp/`, which knows
//! the messages, because it wants no SDK: whoever passes lines on needs none, and neither does the fuzzer.
//!
//! Whatever a guest says, it is parsed totally and in a bounded memory: a message is not longer than the limit that is given,
//! and what is remembered is what the client asked.

mod bounded_lines;
mod lines;
mod pending;

pub use bounded_lines::BoundedLines;
pub use lines::{Line, Lines};
pub use pending::{Begun, Pending, failure, refusal};
