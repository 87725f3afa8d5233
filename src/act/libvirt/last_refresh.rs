//! The last refresh, as far as its record can be read: a record that is lost is told from one that
//! is there and cannot be read.

use std::io;
use std::path::PathBuf;

use rustix::fs::fstat;

use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::moved::LastSeconds;
use crate::act::libvirt::record::Record;
use crate::files::read::read_at_most;
use crate::files::way::Stop;
use crate::ground::error::{Error, Result};
use crate::stamp::stamp::{Owner, Stamp};
use crate::stamp::turn::Kept;

/// The longest record that is read, in bytes.
const MOST_BYTES: u64 = 256 << 20;

const ATTEMPT: &str = "read the record of the last refresh";

/// The remedy for a record beside the stamp of a profile of which libvirt caches nothing.
const UNKNOWN: &str = "remove it";

/// The record of the last refresh.
#[derive(Debug)]
pub(crate) enum LastRecord {
    /// There is no record.
    Never,
    Read(Box<Record>),
    /// There is a record, or there may be one, and it cannot be read or believed.
    Unknown(Error),
}

/// The last second that a refresh chose for module directories: the mtime of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastSecond {
    /// There is no record.
    Never,
    Chosen(i64),
    /// There is a record, and its time cannot be read or believed.
    Unknown,
}

/// What is kept of the last refresh.
pub(crate) struct LastRefresh {
    pub(crate) second: LastSecond,
    pub(crate) record: LastRecord,
}

impl LastRecord {
    /// Reads the record beside `stamp`.
    pub(crate) fn read(stamp: &Stamp) -> LastRecord {
        LastRefresh::read(stamp).record
    }

    /// The record, if it was read.
    pub(crate) fn known(&self) -> Option<&Record> {
        match self {
            LastRecord::Read(record) => Some(record),
            LastRecord::Never | LastRecord::Unknown(_) => None,
        }
    }
}

impl LastRefresh {
    /// Reads the record beside `stamp`.
    pub(crate) fn read(stamp: &Stamp) -> LastRefresh {
        let file = match stamp.open_kept(Kept::LibvirtRecord) {
            Ok(file) => file,
            Err(_) if stamp.lacks_kept(Kept::LibvirtRecord) => {
                return LastRefresh {
                    second: LastSecond::Never,
                    record: LastRecord::Never,
                };
            }
            Err(stop) => {
                let error = not_opened(stamp, stop);
                return LastRefresh {
                    second: LastSecond::Unknown,
                    record: LastRecord::Unknown(error),
                };
            }
        };
        let second = fstat(&file).map(|stat| LastSecond::Chosen(stat.st_mtime));
        let record = || -> Result<Record> {
            let text = read_at_most(MOST_BYTES, file);
            let text = text.map_err(|cause| useless(stamp, cause))?;
            let record = Record::parse(stamp.owner(), &text);
            let torn = || useless(stamp, io::Error::other("it is torn or of another version"));
            record.ok_or_else(torn)
        };
        LastRefresh {
            second: second.unwrap_or(LastSecond::Unknown),
            record: match record() {
                Ok(record) => LastRecord::Read(Box::new(record)),
                Err(error) => LastRecord::Unknown(error),
            },
        }
    }

    /// The seconds that no later refresh may leave again.
    pub(crate) fn seconds(&self) -> LastSeconds {
        let effects = || self.record.known().into_iter().map(|record| &record.effect);
        let moved = effects().flat_map(|effect| &effect.moved);
        // The refresh chose a second after those of the directories that it had to leave, too.
        let left = effects().flat_map(|effect| &effect.left);
        let moved = moved.map(|moved| moved.second);
        LastSeconds {
            chosen: match self.second {
                LastSecond::Chosen(second) => Some(second),
                LastSecond::Never | LastSecond::Unknown => None,
            },
            recorded: moved.chain(left.map(|left| left.second)).max(),
        }
    }
}

/// The error for a record that was not opened.
fn not_opened(stamp: &Stamp, stop: Stop) -> Error {
    match stop {
        Stop::Untrusted { culprit, problem } if culprit == path(stamp) => {
            useless(stamp, io::Error::other(format!("it {problem}")))
        }
        stop => {
            let kind = Kind::named(stamp.profile());
            let remedy = kind.map(|kind| match stamp.owner() {
                Owner::System => kind.remedies.closed,
                Owner::User => kind.remedies.own_closed,
            });
            let remedy = remedy.unwrap_or(UNKNOWN);
            stop.into_error(ATTEMPT, path(stamp), remedy)
        }
    }
}

/// The error for a record that was opened, and cannot be used.
fn useless(stamp: &Stamp, cause: io::Error) -> Error {
    let kind = Kind::named(stamp.profile());
    let remedy = kind.map(|kind| match stamp.owner() {
        Owner::System => kind.remedies.torn,
        Owner::User => kind.remedies.own_torn,
    });
    let remedy = remedy.unwrap_or(UNKNOWN);
    Error::system(ATTEMPT, path(stamp), cause, remedy)
}

fn path(stamp: &Stamp) -> PathBuf {
    stamp.path().with_extension("libvirt")
}
