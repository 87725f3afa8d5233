//! Why an answer was not kept. The caller still gets it.

use std::path::PathBuf;

use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::judge::reason::Reason;

/// Why an answer was returned and not kept.
///
/// Every variant's text is a sentence for people, ready to be shown as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotKept {
    /// The command failed. Only answers of commands that succeed are kept.
    #[error("the command failed")]
    Failed,
    /// The reader of the output left early, so the command's answer may be cut off.
    #[error("the reader left before the command had printed all")]
    ReaderLeft,
    /// The answer is larger than a whole cache may be.
    #[error("the answer is larger than {} MiB, the most that the cache holds", .most >> 20)]
    TooLarge {
        /// The most bytes that all answers in a cache may have together.
        most: u64,
    },
    /// Something that the answer depends on changed while the probe ran.
    #[error("{0}")]
    Disturbed(Reason),
    /// A cache of another program that the profile names is stale, so the answer may be, too.
    #[error(
        "it may come from the stale cache {cache}: {why}; run “modstamp update” for the profile{}",
        match .is_for_root { true => ", as root", false => "" }
    )]
    StaleCache {
        /// The cache's files, as the profile names them.
        cache: String,
        /// Why it is stale.
        why: String,
        /// Whether only root can make it good.
        is_for_root: bool,
    },
    /// No update looks at an input, so a cache of another program may be older than that.
    #[error(
        "it may come from the cache {cache}, and no update looks at {}; name that in the profile \
         without a variable",
        Printable(path.as_os_str())
    )]
    CacheOfUnseen {
        /// The cache's files, as the profile names them.
        cache: String,
        /// The input.
        path: PathBuf,
    },
    /// The inputs could not be looked at.
    #[error("{0}")]
    NotObserved(Error),
    /// The answer could not be written.
    #[error("{0}")]
    NotWritten(Error),
    /// The caller's file is no answer, or cannot be read. So it is neither believed nor replaced.
    #[error(
        "{} {problem}, so it is left alone; remove it, or name another file",
        Printable(path.as_os_str())
    )]
    LeftAlone {
        /// The caller's file.
        path: PathBuf,
        /// What is wrong with it, for example "is a symbolic link".
        problem: String,
    },
}
