//! The errors, each as one sentence: the attempt, the path, the cause and the remedy.

use alloc::string::String;

use crate::ground::platform::{self, PathBuf, io, os_str};
use crate::ground::text::{Printable, Sentence};
use crate::ground::time::Mtime;

/// The error of a library function. Its text is a sentence for people, ready to be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused.
    #[error("cannot {attempt} {}: {cause}; {remedy}", Printable(os_str(path)))]
    System {
        /// Continues "cannot …", for example "touch the stamp".
        attempt: &'static str,
        /// The path, as seen from outside the root.
        path: PathBuf,
        /// The system's own error.
        cause: io::Error,
        /// The remedy, in the imperative.
        remedy: &'static str,
    },
    /// A step on the way could be bent by a user other than root and the caller.
    #[error(
        "refused to {attempt} {}: {} {problem}, so others could redirect it; let it belong to root or you, and let nobody else write to it",
        Printable(os_str(path)),
        Printable(os_str(culprit))
    )]
    Untrusted {
        /// Continues "refused to …".
        attempt: &'static str,
        /// The path that was not reached.
        path: PathBuf,
        /// The step that is not trusted.
        culprit: PathBuf,
        /// The problem of that step, for example "belongs to user 1000".
        problem: String,
    },
    /// The stamp is not a regular file.
    #[error(
        "the stamp {} is a {kind}, not a regular file; remove it and touch again",
        Printable(os_str(path))
    )]
    NotAStamp {
        /// The stamp's path.
        path: PathBuf,
        /// "symbolic link", "directory", "FIFO", …
        kind: &'static str,
    },
    /// The stamp's file system can store no later time.
    #[error(
        "cannot move the stamp {} past {last}: its file system stores no later time; remove the stamp and the lock file beside it, and touch again",
        Printable(os_str(path))
    )]
    NoLaterTime {
        /// The stamp's path.
        path: PathBuf,
        /// The stamp's mtime.
        last: Mtime,
    },
    /// A command's output could not be passed on.
    #[error(
        "cannot pass on what the command printed: {0}; make room where it goes to, or send it elsewhere"
    )]
    Output(io::Error),
    /// A stored answer could not be read to its end. Its beginning was passed on.
    #[error(
        "cannot read the rest of the stored answer {}: {cause}; remove that file and ask again",
        Printable(os_str(path))
    )]
    CutOff {
        /// The answer's file.
        path: PathBuf,
        /// The system's own error.
        cause: io::Error,
    },
    /// A profile's text is wrong.
    #[error("{}:{line}: {}", Printable(os_str(path)), Sentence(problem))]
    Profile {
        /// The file that holds it.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, the problem and the remedy.
        problem: String,
    },
    /// There is no such profile, or it cannot be used.
    #[error("{}", Sentence(.0))]
    NoProfile(String),
    /// A witness's text is wrong.
    #[error("this is not a whole witness: {}", Sentence(.0))]
    Witness(String),
}

/// The result of a library function.
pub type Result<T> = core::result::Result<T, Error>;

impl Error {
    /// The system's error, if it refused. `None` if modstamp did not like what the system showed.
    pub(crate) fn errno(&self) -> Option<rustix::io::Errno> {
        match self {
            Error::System { cause, .. } => platform::errno(cause),
            _ => None,
        }
    }

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
}
