//! The record of the last refresh: the times that it left, and a witness of all inputs from before.
//!
//! The system's record is `/var/lib/modstamp/<profile>.libvirt`. A user's record lies beside the
//! user's own stamp. It is TOML, with the witness's own text at the end:
//!
//! ```text
//! version = 2
//!
//! [effect]
//! reached = "by-times"
//!
//! [[effect.moved]]
//! path = "/usr/lib64/qemu"
//! second = 1700000001
//! ctime = "1700000000.123456789"
//! epoch = 7029584136209874
//!
//! modstamp-witness 2 qemu
//! …
//! ```
//!
//! A record of another version, or a torn one, tells nothing. Then every answer is stale until the
//! next refresh, which costs one probe.
//!
//! The mtime of the system's record is the last second that any refresh chose for a directory. It
//! is set before the directory is moved. So a refresh that is killed in between only skips a
//! second, and no second is ever left twice. The mtime counts even if the text cannot be read.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{OFlags, fstat};
use serde::{Deserialize, Serialize};

use crate::act::libvirt::moved::{Moved, TimeOf, move_to_second};
use crate::files::directory::{open_file, stat_at};
use crate::files::root::Root;
use crate::files::trust::{why_linked, why_not_believed};
use crate::ground::text::Printable;
use crate::ground::time::Mtime;
use crate::judge::witness::Witness;
use crate::stamp::stamp::{Durability, Owner};
use crate::stamp::turn::{Kept, Turn};

/// The version of the text. A record of another version is not read.
const VERSION: u32 = 2;

/// What the last refresh did, and what there was before it.
#[derive(Debug)]
pub(crate) struct Record {
    /// Whose refresh it was: the system's, or that of a user for whom no time could be moved.
    pub(crate) owner: Owner,
    pub(crate) effect: Effect,
    /// All inputs, from before any time was moved.
    pub(crate) witness: Witness,
}

/// The effect of a refresh.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Effect {
    pub(crate) reached: Reached,
    /// The module directories that got a new mtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) moved: Vec<Moved>,
    /// The mtimes of the module directories that could not be moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left: Vec<TimeOf>,
    /// The new ctimes of programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<TimeOf>,
}

impl Effect {
    /// When times were moved, by the ctimes that this left. `None` if none was moved.
    pub(crate) fn time(&self) -> Option<Mtime> {
        let moved = self.moved.iter().map(|moved| moved.ctime);
        let changed = self.changed.iter();
        let changed = changed.map(|changed| Mtime::new(changed.second, 0));
        moved.chain(changed).max()
    }

    /// What the refresh did, as parts of a sentence.
    pub(crate) fn what(&self, root: &Root) -> String {
        let told = |what: &str, paths: Vec<&PathBuf>| {
            let (first, rest) = paths.split_first()?;
            let first = root.outside(first);
            let first = Printable(first.as_os_str());
            Some(match rest.len() {
                0 => format!("{what} {first}"),
                more => format!("{what} {first} and {more} more"),
            })
        };
        let moved = self.moved.iter().map(|moved| &moved.path);
        let changed = self.changed.iter().map(|changed| &changed.path);
        let rest = match self.reached {
            Reached::ByTimes => None,
            Reached::ByEviction => Some("removed stale files from the cache".to_owned()),
            Reached::Partly => Some("the next update refreshes libvirt again".to_owned()),
        };
        let parts = [
            told("moved the time of", moved.collect()),
            told("moved the ctime of", changed.collect()),
            rest,
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match parts.is_empty() {
            true => "there was nothing to move".to_owned(),
            false => parts.join("; "),
        }
    }
}

/// How a refresh reached the stale answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reached {
    /// By new times, which every libvirt on the host compares.
    ByTimes,
    /// By removing the stale files from the owner's cache, because a time could not be moved.
    ByEviction,
    /// Not all of them. The next update refreshes again.
    Partly,
}

/// The TOML before the witness.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Preamble<E> {
    version: u32,
    effect: E,
}

impl Record {
    /// Claims a second: stores it as the record's mtime, where the next refresh finds it.
    ///
    /// It is not synced. After a power cut, the directory that was moved has the second, too.
    ///
    /// # Errors
    /// If the record cannot be written, or its file system stores no time so late.
    pub(crate) fn claim_second(turn: &Turn, second: i64) -> io::Result<()> {
        let claim = |file: &OwnedFd| move_to_second(file, second, Durability::NotSynced).map(drop);
        let name = Kept::LibvirtRecord.name(turn.stamp);
        let file = open_file(&turn.directory, &name, OFlags::RDWR);
        let is_ours = |file: &OwnedFd| {
            let Ok(stat) = fstat(file) else {
                return false;
            };
            let linked = why_linked(&stat, &turn.directory);
            why_not_believed(&stat).is_none() && matches!(linked, Ok(None))
        };
        match file.ok().filter(is_ours) {
            Some(file) => claim(&file),
            None => {
                let durability = Durability::NotSynced;
                turn.keep_with(Kept::LibvirtRecord, "", durability, claim)
            }
        }
    }

    /// The second that was claimed last. `None` if it cannot be looked at.
    pub(crate) fn claimed_second(turn: &Turn) -> Option<i64> {
        let record = stat_at(&turn.directory, Kept::LibvirtRecord.name(turn.stamp));
        record.ok()?.map(|stat| stat.st_mtime)
    }

    /// Puts this record in the place of the kept one, with `last_second` as its mtime.
    ///
    /// A user's record has no such second, because nothing is moved for it.
    ///
    /// # Errors
    /// If it cannot be written, or cannot get that mtime.
    pub(crate) fn write(
        &self,
        turn: &Turn,
        last_second: Option<i64>,
        durability: Durability,
    ) -> io::Result<()> {
        let prepare = |file: &OwnedFd| {
            let moved = last_second
                .map(|second| move_to_second(file, second, Durability::NotSynced))
                .transpose();
            match moved {
                // Otherwise the kept record stays, with the second that was claimed.
                Err(error) if error.raw_os_error().is_some() => Err(error),
                // If the file system cannot store the second, the claim failed, too. Then programs
                // were changed as well.
                Ok(_) | Err(_) => Ok(()),
            }
        };
        turn.keep_with(Kept::LibvirtRecord, &self.text()?, durability, prepare)
    }

    /// Whether the refresh reached every libvirt by moving directories alone. They are all known.
    pub(crate) fn tells_all_directories(&self) -> bool {
        self.effect.reached == Reached::ByTimes && self.effect.changed.is_empty()
    }

    /// Whether the times that the refresh left make every libvirt on the host reject older answers.
    pub(crate) fn tells_all(&self) -> bool {
        !self.effect.moved.is_empty() || !self.effect.changed.is_empty()
    }

    /// Reads the text of an owner's record. `None` if it is torn or of another version.
    pub(crate) fn parse(owner: Owner, text: &[u8]) -> Option<Record> {
        let text = std::str::from_utf8(text).ok()?;
        let at = text.find("\nmodstamp-witness ")? + 1;
        let (head, witness) = text.split_at(at);
        let head: Preamble<Effect> = toml::from_str(head).ok()?;
        (head.version == VERSION).then_some(())?;
        Some(Record {
            owner,
            effect: head.effect,
            witness: witness.parse().ok()?,
        })
    }

    fn text(&self) -> io::Result<String> {
        let head = Preamble {
            version: VERSION,
            effect: &self.effect,
        };
        let head = toml::to_string(&head).map_err(io::Error::other)?;
        Ok(format!("{head}\n{}", self.witness))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"version = 2

[effect]
reached = "by-eviction"

[[effect.moved]]
path = "/usr/lib64/qemu"
second = 1700000001
ctime = "1700000000.123456789"
epoch = -240

[[effect.moved]]
path = "/usr/lib64/b"
second = 1700000001
ctime = "1700000000.123456789"

[[effect.left]]
path = "/usr/lib/qemu"
second = 1600000000

[[effect.changed]]
path = '/usr/bin/a\x20b\xff'
second = 1700000000

modstamp-witness 2 qemu
stamp system -
stamp user -
end 3
"#;

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        let record = Record::parse(Owner::System, TEXT.as_bytes()).unwrap();
        assert_eq!(record.effect.moved[0].epoch, Some(-240));
        assert_eq!(record.text().unwrap(), TEXT);
    }

    #[test]
    fn a_torn_record_is_none() {
        for length in 0..TEXT.len() {
            let torn = Record::parse(Owner::System, &TEXT.as_bytes()[..length]);
            assert!(torn.is_none(), "{length} bytes");
        }
    }

    #[test]
    fn a_record_of_another_version_or_with_something_unknown_is_none() {
        for (known, unknown) in [
            ("version = 2", "version = 3"),
            ("version = 2\n", ""),
            ("by-eviction", "by-invention"),
            ("effect.left", "effect.invented"),
            ("\\xff", "\\xfx"),
        ] {
            let text = TEXT.replacen(known, unknown, 1);
            assert!(
                Record::parse(Owner::System, text.as_bytes()).is_none(),
                "{unknown}"
            );
        }
        let first = "modstamp-libvirt 1\nlatest 00000000001700000001\nevicted\n\
            modstamp-witness 2 qemu\nstamp system -\nstamp user -\nend 3\n";
        assert!(Record::parse(Owner::System, first.as_bytes()).is_none());
    }
}
