//! Times as file systems keep them.

use std::fmt;
use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, Timespec, Timestamps};
use rustix::time::ClockId;

/// A modification time as the file system stores it: seconds and nanoseconds since 1970.
///
/// Two of them are compared for order only to make sure that a stamp moves forward, never to judge a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    /// Seconds since 1970-01-01 00:00 UTC; negative before.
    pub seconds: i64,
    /// Nanoseconds on top, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Mtime {
    pub(crate) fn of(stat: &Stat) -> Mtime {
        Mtime {
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
        }
    }

    pub(crate) fn of_ctime(stat: &Stat) -> Mtime {
        Mtime {
            seconds: stat.st_ctime,
            nanoseconds: stat.st_ctime_nsec as u32,
        }
    }

    pub(crate) fn now() -> Mtime {
        rustix::time::clock_gettime(ClockId::Realtime).into()
    }

    /// The time that `text` shows, in the form of [`Display`](fmt::Display).
    pub(crate) fn parse(text: &str) -> Option<Mtime> {
        let (seconds, nanoseconds) = text.split_once('.')?;
        (nanoseconds.len() == 9).then_some(())?;
        Some(Mtime {
            seconds: seconds.parse().ok()?,
            nanoseconds: nanoseconds.parse().ok()?,
        })
    }

    pub(crate) fn since_1970(self) -> SystemTime {
        let seconds = u64::try_from(self.seconds).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::new(seconds, self.nanoseconds)
    }

    pub(crate) fn plus(self, seconds: i64, nanoseconds: u32) -> Mtime {
        let nanoseconds = self.nanoseconds + nanoseconds;
        Mtime {
            seconds: self
                .seconds
                .saturating_add(seconds)
                .saturating_add(i64::from(nanoseconds / 1_000_000_000)),
            nanoseconds: nanoseconds % 1_000_000_000,
        }
    }

    pub(crate) fn timestamps(self) -> Timestamps {
        let time = Timespec {
            tv_sec: self.seconds,
            tv_nsec: self.nanoseconds.into(),
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }
}

impl From<Timespec> for Mtime {
    fn from(time: Timespec) -> Mtime {
        Mtime {
            seconds: time.tv_sec,
            nanoseconds: time.tv_nsec as u32,
        }
    }
}

impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanoseconds)
    }
}

impl serde::Serialize for Mtime {
    fn serialize<S: serde::Serializer>(&self, out: S) -> std::result::Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}
