//! A stream: one of the two that a command prints to.

/// Tells a command's standard output from its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The standard output.
    Stdout,
    /// The standard error.
    Stderr,
}
