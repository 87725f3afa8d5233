//! The model of the protocol.

fn main() {}
