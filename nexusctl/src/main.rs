//! Part of Nexus.

fn main() {}
