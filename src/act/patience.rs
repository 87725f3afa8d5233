//! Work that may hang, as on a file system that a network or a user has to answer for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Why there is no result.
pub(crate) enum NoResult {
    TooLate,
    /// The work panicked.
    Failed,
    /// No thread could be started.
    NotBegun(std::io::Error),
}

/// Does some work in a thread of its own, and waits for its result for at most `patience`. The
/// thread then goes on alone.
pub(crate) fn within<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NoResult> {
    let (sender, receiver) = mpsc::channel();
    let work = move || drop(sender.send(work()));
    let thread = std::thread::Builder::new().spawn(work);
    thread.map_err(NoResult::NotBegun)?;
    receiver
        .recv_timeout(patience)
        .map_err(|error| match error {
            RecvTimeoutError::Timeout => NoResult::TooLate,
            RecvTimeoutError::Disconnected => NoResult::Failed,
        })
}
