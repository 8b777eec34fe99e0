//! Terminals of guests for programs that speak as ttyd does, over WebSocket: xterm.js with ttyd's client, for one.
//!
//! Whoever can connect to a port of this machine can try, and so can every page that is open in a browser here. So only
//! loopback is listened on, a request has to be meant for this place (`Host`) and not to come from a page of elsewhere
//! (`Origin`), and who does not know the token sees nothing.

mod address;
mod door;
mod lobby;
mod message;
mod request;
mod serve;
mod viewer;

pub(crate) use address::Loopback;
pub(crate) use serve::{Server, Terminal};
