//! Random sequences of real file operations.

fn main() {}
