//! The result of a refresh, and what it leaves behind: evicted files and the record.

use std::path::PathBuf;

use crate::act::libvirt::cached::Cached;
use crate::act::libvirt::record::{Reached, Record};
use crate::ground::error::Error;
use crate::stamp::stamp::{Durability, Owner};
use crate::stamp::turn::Turn;

/// The result of a refresh. All paths are as seen from outside the root.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The module directories that were moved, each with its new mtime in seconds since 1970.
    pub moved: Vec<(PathBuf, i64)>,
    /// The programs whose ctime was moved, because moving directories did not reach every libvirt.
    pub changed: Vec<PathBuf>,
    /// The cache files that were removed, because no time could be moved.
    pub evicted: Vec<PathBuf>,
    /// Whether every stale answer was reached, and a record of that is kept. If not, the next
    /// update refreshes again.
    pub is_done: bool,
    /// The warnings for people, one sentence each.
    pub warnings: Vec<String>,
}

impl Refreshed {
    /// Removes the stale files from the cache of `owner`. Returns whether all of them are gone.
    pub(crate) fn evict(&mut self, cached: Cached, owner: Owner) -> bool {
        let (removed, errors) = cached.evict_stale_of(owner);
        self.evicted = removed;
        self.warnings.extend(errors.iter().map(Error::to_string));
        errors.is_empty()
    }

    /// Keeps the record, and warns if it was written without the lock. `last_second` is as in
    /// [`Record::write`].
    pub(crate) fn keep(
        &mut self,
        record: &Record,
        turn: &Turn,
        last_second: Option<i64>,
        durability: Durability,
    ) {
        if let Err(cause) = record.write(turn, last_second, durability) {
            let remedy = "make room there, or make it writable for its owner, and refresh again";
            let attempt = "keep the record of the refresh beside";
            let error = Error::system(attempt, turn.stamp.path(), cause, remedy);
            self.warnings.push(error.to_string());
            return;
        }
        self.warnings.extend(turn.missing_lock());
        self.is_done = record.effect.reached != Reached::Partly;
    }
}
