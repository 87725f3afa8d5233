//! The record of remedies, `<profile>.remedies` beside a stamp: when each cache was last made good,
//! for which time of the stamp, and with what result.
//!
//! The record of the system's caches is beside the system's stamp, and that of a user's own caches
//! beside that user's stamp. A cache is stale if a recorded time of a stamp is not that stamp's
//! time now.
//!
//! A line has these words, with a space between two of them, each escaped:
//!
//! 1. the time of the system's stamp, or `-` if there was no stamp
//! 2. the time of the user's own stamp; `-` for a cache of the system
//! 3. the time of the remedy
//! 4. `good` or `failed`
//! 5. the cache and its remedy, as the profile has them
//! 6. what was done, for people
//! 7. the last lines of a command's output
//! 8. if it failed: the time of the last good one, if there was one. Older versions lack this word.
//!
//! Only modstamp reads it. A record that cannot be read makes every cache stale.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;

use crate::files::read::read_at_most;
use crate::ground::text::{Escaped, unescape};
use crate::ground::time::Mtime;
use crate::observe::foreign_cache::ForeignCache;
use crate::observe::stamps::{StampState, Stamps};
use crate::stamp::stamp::{Durability, Owner, Stamp};
use crate::stamp::turn::{Kept, Turn};

/// The first line.
const FIRST: &str = "modstamp-remedies 1";

/// A record has a few lines for each cache.
const MOST_BYTES: u64 = 4 << 20;

/// The last remedies of a profile's caches.
#[derive(Debug, Default)]
pub(crate) struct Record {
    last: Vec<LastRemedy>,
}

/// The last remedy of one cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastRemedy {
    key: String,
    stamps: [String; 2],
    /// When it ended.
    pub time: Mtime,
    /// Whether the cache is good since then.
    pub result: RemedyResult,
    /// What was done, for people.
    pub what: String,
    /// The last lines of a command's output.
    pub output: String,
    /// If it failed: when the last good one ended. `None` if none is on record.
    pub last_good: Option<Mtime>,
}

/// The result of a remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemedyResult {
    /// The cache is good.
    Good,
    /// The next update tries again.
    Failed,
}

impl RemedyResult {
    fn word(self) -> &'static str {
        match self {
            RemedyResult::Good => "good",
            RemedyResult::Failed => "failed",
        }
    }
}

impl LastRemedy {
    /// A remedy that ends now. `stamps` are the times of the stamps before it began.
    pub(crate) fn now(
        cache: &ForeignCache,
        owner: Owner,
        stamps: Stamps,
        result: RemedyResult,
        what: String,
        output: String,
    ) -> LastRemedy {
        LastRemedy {
            key: key(cache),
            stamps: texts(owner, stamps),
            time: Mtime::now(),
            result,
            what,
            output,
            last_good: None,
        }
    }

    /// This remedy, with the time of the last good one, by the one before it.
    fn after(mut self, before: Option<&LastRemedy>) -> LastRemedy {
        self.last_good = match (self.result, before) {
            (RemedyResult::Failed, Some(before)) => match before.result {
                RemedyResult::Good => Some(before.time),
                RemedyResult::Failed => before.last_good,
            },
            _ => None,
        };
        self
    }

    /// Whether the stamps still have the times for which the remedy was applied. A stamp that
    /// cannot be read may have any time.
    pub(crate) fn is_for(&self, owner: Owner, stamps: Stamps) -> bool {
        let is_known = stamps.system != StampState::Unreadable
            && (owner == Owner::System || stamps.user != StampState::Unreadable);
        is_known && self.stamps == texts(owner, stamps)
    }

    /// Whether both tell people the same.
    pub(crate) fn tells_the_same(&self, other: &LastRemedy) -> bool {
        (&self.key, &self.stamps, self.result) == (&other.key, &other.stamps, other.result)
            && (&self.what, &self.output) == (&other.what, &other.output)
    }

    fn line(&self) -> String {
        let [system, user] = &self.stamps;
        let (time, result) = (self.time, self.result.word());
        let mut line = format!("{system} {user} {time} {result}");
        for word in [&self.key, &self.what, &self.output] {
            let _ = write!(line, " {}", Escaped(OsStr::new(word)));
        }
        if let Some(time) = self.last_good {
            let _ = write!(line, " {time}");
        }
        line + "\n"
    }

    fn of_line(line: &str) -> Option<LastRemedy> {
        let words: Vec<&str> = line.split(' ').collect();
        let (words, last_good) = match words[..] {
            [.., last_good] if words.len() == 8 => (&words[..7], Some(last_good.parse().ok()?)),
            _ => (&words[..], None),
        };
        let [system, user, time, result, key, what, output] = *words else {
            return None;
        };
        let text = |word: &str| unescape(word)?.into_string().ok();
        let result = [RemedyResult::Good, RemedyResult::Failed]
            .into_iter()
            .find(|it| it.word() == result)?;
        Some(LastRemedy {
            key: text(key)?,
            stamps: [system.to_owned(), user.to_owned()],
            time: time.parse().ok()?,
            result,
            what: text(what)?,
            output: text(output)?,
            last_good,
        })
    }
}

impl Record {
    /// Reads the record beside a stamp. A missing or untrusted record gives an empty one.
    pub(crate) fn read(stamp: &Stamp) -> Record {
        let read = || {
            let bytes = read_at_most(MOST_BYTES, stamp.open_kept(Kept::RemedyRecord).ok()?).ok()?;
            Record::parse(std::str::from_utf8(&bytes).ok()?)
        };
        read().unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Record> {
        let mut lines = text.strip_suffix("end\n")?.lines();
        lines.next().filter(|first| *first == FIRST)?;
        let last: Option<Vec<LastRemedy>> = lines.map(LastRemedy::of_line).collect();
        Some(Record { last: last? })
    }

    /// The last remedy of a cache; `None` if there was none.
    pub(crate) fn last(&self, cache: &ForeignCache) -> Option<&LastRemedy> {
        let key = key(cache);
        self.last.iter().find(|last| last.key == key)
    }

    /// Keeps new remedies beside the stamp. Forgets those of caches that are not among `caches`.
    pub(crate) fn keep(
        turn: &Turn,
        new: Vec<LastRemedy>,
        caches: &[ForeignCache],
        durability: Durability,
    ) -> io::Result<()> {
        let mut last = Record::read(turn.stamp).last;
        let new: Vec<LastRemedy> = new
            .into_iter()
            .map(|new| {
                let before = last.iter().find(|last| last.key == new.key);
                new.after(before)
            })
            .collect();
        let keys: Vec<String> = caches.iter().map(key).collect();
        last.retain(|it| keys.contains(&it.key) && new.iter().all(|new| new.key != it.key));
        last.extend(new);
        let lines: String = last.iter().map(LastRemedy::line).collect();
        let text = format!("{FIRST}\n{lines}end\n");
        Ok(turn.keep(Kept::RemedyRecord, &text, durability)?)
    }
}

/// Tells a cache, and its remedy, from the others of a profile.
fn key(cache: &ForeignCache) -> String {
    format!("{cache}: {}", cache.remedy)
}

/// The times of the stamps that count for `owner`.
fn texts(owner: Owner, stamps: Stamps) -> [String; 2] {
    let text = |state: StampState| match state {
        StampState::Absent => "-".to_owned(),
        StampState::At(mtime) => mtime.to_string(),
        StampState::Unreadable => "?".to_owned(),
    };
    let user = match owner {
        Owner::System => "-".to_owned(),
        Owner::User => text(stamps.user),
    };
    [text(stamps.system), user]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> LastRemedy {
        LastRemedy {
            key: "/var/cache/a b: remove".to_owned(),
            stamps: ["1.000000005".to_owned(), "-".to_owned()],
            time: Mtime::new(7, 0),
            result: RemedyResult::Failed,
            what: "removed “é”".to_owned(),
            output: "one\ntwo \\ three\n".to_owned(),
            last_good: None,
        }
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        for last in [
            last(),
            LastRemedy {
                output: String::new(),
                what: String::new(),
                ..last()
            },
            LastRemedy {
                last_good: Some(Mtime::new(5, 1)),
                ..last()
            },
        ] {
            let text = format!("{FIRST}\n{}end\n", last.line());
            assert_eq!(Record::parse(&text).unwrap().last, [last]);
        }
    }

    #[test]
    fn a_record_that_was_cut_off_is_none() {
        let text = format!("{FIRST}\n{}end\n", last().line());
        for length in 0..text.len() {
            let cut = text.get(..length).and_then(Record::parse);
            assert!(cut.is_none(), "{length}");
        }
    }
}
