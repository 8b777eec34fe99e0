//! Streams to a guest.
