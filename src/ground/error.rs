//! What can go wrong, each as one sentence: what was attempted, on which path, and what to do.

use std::io;
use std::path::PathBuf;

use crate::ground::text::Printable;
use crate::ground::time::Mtime;

/// Why something could not be done.
///
/// Every variant's text is a sentence for people, ready to be shown as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused: what was attempted, on which path, what the system said, and what to do.
    #[error("cannot {attempt} {}: {cause}; {remedy}", Printable(path.as_os_str()))]
    System {
        /// Continues "cannot …", for example "touch the stamp".
        attempt: &'static str,
        /// The path as the caller knows it, with `--root` in front.
        path: PathBuf,
        /// The system's own answer.
        cause: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A path on the way belongs to, or can be written by, somebody who could bend it.
    #[error(
        "refused to {attempt} {}: {} {problem}, who could redirect it; give it to root and take that permission away",
        Printable(path.as_os_str()),
        Printable(culprit.as_os_str())
    )]
    Untrusted {
        /// Continues "refused to …".
        attempt: &'static str,
        /// What was to be reached.
        path: PathBuf,
        /// The step on the way that was not trusted.
        culprit: PathBuf,
        /// What is wrong with that step, for example "belongs to user 1000".
        problem: String,
    },
    /// The stamp's name is taken by something that is not a regular file.
    #[error(
        "the stamp {} is a {kind}, not a regular file; remove it and touch again",
        Printable(path.as_os_str())
    )]
    NotAStamp {
        /// The stamp's path.
        path: PathBuf,
        /// "symbolic link", "directory", "FIFO", …
        kind: &'static str,
    },
    /// The stamp's file system has no later time left to give.
    #[error(
        "cannot move the stamp {} past {last}: its file system stores no later time; remove the stamp and touch again",
        Printable(path.as_os_str())
    )]
    NoLaterTime {
        /// The stamp's path.
        path: PathBuf,
        /// The mtime that it has.
        last: Mtime,
    },
    /// What a command printed could not be passed on.
    #[error(
        "cannot pass on what the command printed: {0}; make room where it goes to, or send it elsewhere"
    )]
    Output(io::Error),
    /// A profile's text is wrong.
    #[error("{}:{line}: {}", Printable(path.as_os_str()), Printable(problem.as_ref()))]
    Profile {
        /// The file that holds it.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, what is wrong with it, and what would be right.
        problem: String,
    },
    /// A profile cannot be had at all.
    #[error("{}", Printable(.0.as_ref()))]
    NoProfile(String),
    /// A text is not a time.
    #[error("“{}” is not a time of the form 1700000000.000000000", Printable(.0.as_ref()))]
    Time(String),
    /// A witness's text is wrong.
    #[error("this is not a whole witness: {}", Printable(.0.as_ref()))]
    Witness(String),
}

/// What the library's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn system(
        attempt: &'static str,
        path: impl Into<PathBuf>,
        cause: impl Into<io::Error>,
        remedy: &'static str,
    ) -> Error {
        Error::System {
            attempt,
            path: path.into(),
            cause: cause.into(),
            remedy,
        }
    }

    /// The system's error kind, where it was the system that refused.
    pub(crate) fn kind(&self) -> Option<io::ErrorKind> {
        match self {
            Error::System { cause, .. } => Some(cause.kind()),
            _ => None,
        }
    }
}
