//! The record of the last refresh: which times it left, by which what libvirt cached since is known, and a witness of all
//! inputs from before it.
//!
//! It is text, `/var/lib/modstamp/<profile>.libvirt`, or in the directory of a user's own stamp:
//!
//! ```text
//! modstamp-libvirt 1
//! latest 00000000001700000001
//! moved 1700000001 1700000000.123456789 c1f7a05e2b9d3846 /usr/lib64/qemu
//! left 1600000000 /usr/lib/qemu
//! changed 1700000000 /usr/bin/qemu-system-x86_64
//! modstamp-witness 1 qemu
//! …
//! ```
//!
//! `latest` is the latest second that any module directory was ever moved to, in 20 digits. `moved` has a directory's new
//! mtime, the ctime that it got with it, and a number for what stat identities in it can be compared with
//! (`-` where they are no evidence); `left` the mtime of one that could not be moved; `changed` a program's
//! new ctime. A line `evicted` says that what was stale in the cache of the record's owner was removed instead, because
//! nothing could be moved; a user's own record always has it, unless a line `undone` says that something stale could not be
//! reached. Who loses the record loses no
//! more than that: all that is cached is then "not known" until the next refresh.

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::act::libvirt::{CacheFile, Recorded};
use crate::files::root::Steps;
use crate::files::trust::why_not_believed;
use crate::ground::text::{Escaped, unescape};
use crate::ground::time::Mtime;
use crate::judge::reason::{Reason, Subject};
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::content::Content;
use crate::observe::entry::Entry;
use crate::observe::evidence::epoch;
use crate::observe::input::Input;
use crate::observe::inputs::Inputs;
use crate::stamp::stamp::{Durability, Owner, Stamp};
use crate::stamp::turn::{Kept, Turn};

const HEAD: &str = "modstamp-libvirt 1";

/// As a witness's.
const MOST_BYTES: u64 = 256 << 20;

/// What the last refresh left. All times are in whole seconds since 1970, as libvirt compares them.
#[derive(Debug)]
pub(crate) struct Record {
    /// Whose it is: the system's, or that of a user for whom nothing could be moved.
    pub(crate) owner: Owner,
    /// The latest one that a module directory was ever moved to.
    pub(crate) latest: i64,
    /// The module directories that got an mtime which they never had before.
    pub(crate) moved: Vec<Moved>,
    /// The mtimes of those that could not be moved.
    pub(crate) left: Vec<(PathBuf, i64)>,
    /// The ctimes that programs got, and did not have just before.
    pub(crate) changed: Vec<(PathBuf, i64)>,
    /// Whether what was stale in the owner's cache was removed.
    pub(crate) evicted: bool,
    /// Whether something that is stale could not be reached in any way.
    pub(crate) undone: bool,
    /// Of all inputs, from before the times were left.
    pub(crate) witness: Witness,
}

/// A module directory that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) path: PathBuf,
    /// Its new mtime.
    pub(crate) second: i64,
    /// The ctime that it got with it, which moves with whatever comes or goes later.
    pub(crate) ctime: Mtime,
    /// What the stat identities in it can be compared with (`evidence::epoch`).
    pub(crate) epoch: Option<u64>,
}

impl Record {
    /// That beside `stamp`; `None` where there is none, or none that can be read.
    pub(crate) fn read(stamp: &Stamp) -> Option<Record> {
        let mut text = String::new();
        let file = std::fs::File::from(stamp.open_kept(Kept::LibvirtRecord)?);
        file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
        Record::parse(stamp.owner(), &text)
    }

    /// The latest second of the record that is kept now, which is after [`Record::latest`] where others refreshed since.
    pub(crate) fn latest(stamp: &Stamp) -> Option<i64> {
        let mut head = [0; 64];
        let length = rustix::io::read(stamp.open_kept(Kept::LibvirtRecord)?, &mut head).ok()?;
        let head = String::from_utf8_lossy(&head[..length]);
        let mut lines = head.lines();
        (lines.next()? == HEAD).then_some(())?;
        lines.next()?.strip_prefix("latest ")?.parse().ok()
    }

    fn parse(owner: Owner, text: &str) -> Option<Record> {
        let at = text.find("\nmodstamp-witness ")? + 1;
        let (head, witness) = text.split_at(at);
        let mut lines = head.lines();
        (lines.next()? == HEAD).then_some(())?;
        let mut record = Record {
            owner,
            latest: lines.next()?.strip_prefix("latest ")?.parse().ok()?,
            moved: Vec::new(),
            left: Vec::new(),
            changed: Vec::new(),
            evicted: false,
            undone: false,
            witness: witness.parse().ok()?,
        };
        for line in lines {
            let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
            match what {
                "evicted" => record.evicted = true,
                "undone" => record.undone = true,
                _ => record.read_line(what, rest)?,
            }
        }
        Some(record)
    }

    fn read_line(&mut self, what: &str, rest: &str) -> Option<()> {
        let (second, rest) = rest.split_once(' ')?;
        let second = second.parse().ok()?;
        let path = |text| Some(PathBuf::from(unescape(text)?));
        match what {
            "moved" => {
                let (ctime, rest) = rest.split_once(' ')?;
                let (epoch, rest) = rest.split_once(' ')?;
                let number = |text| u64::from_str_radix(text, 16).ok();
                self.moved.push(Moved {
                    path: path(rest)?,
                    second,
                    ctime: ctime.parse().ok()?,
                    epoch: match epoch {
                        "-" => None,
                        text => Some(number(text)?),
                    },
                });
            }
            "left" => self.left.push((path(rest)?, second)),
            "changed" => self.changed.push((path(rest)?, second)),
            _ => return None,
        }
        Some(())
    }

    /// Has the one that is kept remember `latest`, or the beginning of one, if there is none. It is our turn to.
    pub(crate) fn remember(
        turn: &Turn,
        stamp: &Stamp,
        latest: i64,
        durability: Durability,
    ) -> Option<()> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = Kept::LibvirtRecord.name(stamp);
        let new = first_lines(latest);
        let file = rustix::fs::openat(&turn.directory, &name, flags, Mode::empty());
        let is_record = |file: &OwnedFd| {
            if !rustix::fs::fstat(file).is_ok_and(|stat| why_not_believed(&stat).is_none()) {
                return false;
            }
            let mut old = vec![0; new.len()];
            rustix::io::read(file, &mut old) == Ok(new.len())
                && old.starts_with(format!("{HEAD}\nlatest ").as_bytes())
                && old.ends_with(b"\n")
        };
        match file.ok().filter(is_record) {
            Some(file) => {
                let written = rustix::io::pwrite(&file, new.as_bytes(), 0);
                (written == Ok(new.len())).then_some(())
            }
            None => turn.keep(Kept::LibvirtRecord, &new, durability).ok(),
        }
    }

    /// Replaces the one that is kept.
    pub(crate) fn write(&self, turn: &Turn, durability: Durability) -> rustix::io::Result<()> {
        turn.keep(Kept::LibvirtRecord, &self.text(), durability)
    }

    fn text(&self) -> String {
        let mut text = first_lines(self.latest);
        for Moved {
            path,
            second,
            ctime,
            epoch,
        } in &self.moved
        {
            let path = Escaped(path.as_os_str());
            let epoch = epoch.map_or("-".to_owned(), |epoch| format!("{epoch:x}"));
            let _ = writeln!(text, "moved {second} {ctime} {epoch} {path}");
        }
        for (what, list) in [("left", &self.left), ("changed", &self.changed)] {
            for (path, second) in list {
                let _ = writeln!(text, "{what} {second} {}", Escaped(path.as_os_str()));
            }
        }
        for (word, is_said) in [("evicted", self.evicted), ("undone", self.undone)] {
            if is_said {
                let _ = writeln!(text, "{word}");
            }
        }
        let _ = write!(text, "{}", self.witness);
        text
    }

    /// What modstamp says of a cache file, by what the inputs are `now`.
    pub(crate) fn judge(record: Option<&Record>, file: &CacheFile, now: &Inputs) -> Verdict {
        let not_known = |error: String| Verdict::Stale(vec![Reason::Witness { error }]);
        let recorded = match file.recorded() {
            Ok(recorded) => recorded,
            Err(error) => return not_known(error.to_owned()),
        };
        let Some(record) = record else {
            return not_known("modstamp has not refreshed libvirt yet".to_owned());
        };
        if let Some(why) = record.why_not_after(file, recorded, now) {
            return not_known(why.to_owned());
        }
        let mut reasons = record.witness.judge(now).reasons().to_vec();
        reasons.retain(|reason| record.concerns(reason) && is_about(reason, &recorded.program));
        let mut programs = record.witness.observation.programs.iter();
        let is_known =
            |entry: &Entry| entry.identity.evidence().is_some() || entry.content != Content::Unread;
        if !programs.any(|entry| entry.name == recorded.program && is_known(entry)) {
            reasons.retain(|reason| !is_of_program(reason));
            let (program, ctime) = (&recorded.program, recorded.program_ctime);
            reasons.extend(program_changed(now, program, ctime));
        }
        // What was changed and changed back since may have been asked for in between: this cannot know when.
        if !record.evicted && reasons.is_empty() {
            reasons = record.touched(now);
        }
        match reasons.is_empty() {
            true => Verdict::Fresh,
            false => Verdict::Stale(reasons),
        }
    }

    /// Why it is not known that a file was cached after the refresh; `None` where it is known.
    fn why_not_after(&self, file: &CacheFile, recorded: &Recorded, now: &Inputs) -> Option<&str> {
        let is = |path: &Option<PathBuf>, known: &Path| path.as_ref().is_none_or(|p| p == known);
        let is_moved = |(path, mtime): &(Option<PathBuf>, i64)| {
            let mut moved = self.moved.iter();
            moved.any(|moved| is(path, &moved.path) && *mtime == moved.second)
        };
        let is_left = |(path, mtime): &(Option<PathBuf>, i64)| {
            let mut left = self.left.iter();
            left.any(|(known, second)| is(path, known) && mtime == second)
        };
        let directories = &recorded.directories;
        let are_as_left = directories
            .iter()
            .all(|directory| is_moved(directory) || is_left(directory));
        let identity = |path: &Path| {
            let stat = now.root().target(path)?;
            Some((stat.st_dev, stat.st_ino))
        };
        // By whatever name it was asked.
        let is_changed = |(path, second): &(PathBuf, i64)| {
            let (program, ctime) = (&recorded.program, recorded.program_ctime);
            *second == ctime && (path == program || identity(path) == identity(program))
        };
        let is_new = directories.iter().any(is_moved) || self.changed.iter().any(is_changed);
        if are_as_left && (is_new || self.evicted && file.owner() == self.owner) {
            return None;
        }
        if self.evicted && file.owner() != self.owner {
            return Some("nothing could be moved, so only the system's own cache can be told");
        }
        let is_still = |moved: &Moved| {
            now.root().target(&moved.path).map(|stat| stat.st_mtime) == Some(moved.second)
        };
        Some(match self.moved.iter().all(is_still) {
            true => "cached before the last refresh",
            false => {
                "a module directory changed since the last refresh, run “modstamp libvirt refresh”"
            }
        })
    }

    /// Whether libvirt is to be asked again because of what the inputs are `now`.
    pub(crate) fn is_outdated(&self, now: &Inputs) -> bool {
        let is_moved_on = |moved: &Moved| {
            let stat = now.root().target(&moved.path);
            stat.map(|stat| stat.st_mtime) != Some(moved.second)
        };
        let reasons = self.witness.news(now);
        self.undone
            || reasons.iter().any(|reason| self.concerns(reason))
            || self.moved.iter().any(is_moved_on)
            || !self.touched(now).is_empty()
    }

    /// Whether every libvirt on the host can tell by the times that were left what is from before them.
    pub(crate) fn tells_all(&self) -> bool {
        !self.moved.is_empty() || !self.changed.is_empty()
    }

    /// Whether a reason concerns the owner's libvirt. It is asked by a daemon, whose environment is not ours, and
    /// what a user stamps is not asked of the system's.
    fn concerns(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Stamp { owner, .. } | Reason::UnknownStamp { owner, .. } => {
                *owner == Owner::System || *owner == self.owner
            }
            Reason::Variable { .. } => false,
            _ => true,
        }
    }

    /// What has another stat identity than at the refresh, of the directories that were moved and the modules in them.
    fn touched(&self, now: &Inputs) -> Vec<Reason> {
        let unknown = |input, top: Option<&Path>, path: &Path| Reason::Unknown {
            subject: Subject::new(input, top, path),
            error: "touched since the last refresh, run “modstamp libvirt refresh”".to_owned(),
        };
        let mut reasons = Vec::new();
        for moved in &self.moved {
            let top = &*moved.path;
            let Ok(place) = now.root().place(top, Steps::Any) else {
                continue;
            };
            if moved.epoch.is_none() || moved.epoch != epoch(place.as_fd()) {
                continue;
            }
            let ctime = rustix::fs::fstat(&place).map(|stat| Mtime::of_ctime(&stat));
            if ctime != Ok(moved.ctime) {
                reasons.push(unknown(Input::ModuleDirectory, None, top));
            }
            let directories = (
                self.witness.observation.directory(top),
                now.observation().directory(top),
            );
            let (Some(then), Some(now)) = directories else {
                continue;
            };
            let (Some(then), Some(now)) = (then.modules(), now.modules()) else {
                continue;
            };
            if then.are_proven_same(now) {
                continue;
            }
            // They have the same names, or else there would be other reasons.
            for (then, now) in then.entries.iter().zip(now.entries.iter()) {
                if then.identity.evidence().is_some()
                    && then.identity.fingerprint() != now.identity.fingerprint()
                {
                    reasons.push(unknown(Input::Module, Some(top), &top.join(&then.name)));
                }
            }
        }
        reasons
    }
}

/// Whether a reason concerns what libvirt learnt from `program`.
fn is_about(reason: &Reason, program: &Path) -> bool {
    match reason {
        Reason::Added(subject)
        | Reason::Removed(subject)
        | Reason::Changed { subject, .. }
        | Reason::NotRead(subject)
        | Reason::Unknown { subject, .. } => {
            subject.input != Input::Program || program.starts_with(&subject.path)
        }
        _ => true,
    }
}

fn is_of_program(reason: &Reason) -> bool {
    matches!(reason, Reason::Unknown { subject, .. } | Reason::NotRead(subject) if subject.input == Input::Program)
}

/// Whether a program of which the witness knows nothing, such as one that the profile does not name, is another one than
/// libvirt asked, by its ctime.
fn program_changed(now: &Inputs, program: &Path, ctime: i64) -> Option<Reason> {
    let subject = || Subject::new(Input::Program, None, program);
    match now.root().target(program) {
        None => Some(Reason::Removed(subject())),
        Some(stat) if stat.st_ctime != ctime => Some(Reason::Unknown {
            subject: subject(),
            error: "it was touched, and only its ctime is known".to_owned(),
        }),
        Some(_) => None,
    }
}

/// The first lines, of always the same length.
fn first_lines(latest: i64) -> String {
    format!("{HEAD}\nlatest {:020}\n", latest.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "modstamp-libvirt 1\nlatest 00000000001700000001\n\
        moved 1700000001 1700000000.123456789 f0 /usr/lib64/qemu\n\
        moved 1700000001 1700000000.123456789 - /usr/lib64/b\n\
        left 1600000000 /usr/lib/qemu\nchanged 1700000000 /usr/bin/a\\x20b\nevicted\n\
        modstamp-witness 1 qemu\nstamp system -\nstamp user -\nend 3\n";

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        assert_eq!(Record::parse(Owner::System, TEXT).unwrap().text(), TEXT);
    }

    #[test]
    fn a_torn_record_is_none() {
        for length in 0..TEXT.len() {
            assert!(
                Record::parse(Owner::System, &TEXT[..length]).is_none(),
                "{length} bytes"
            );
        }
        assert!(Record::parse(Owner::System, &TEXT.replace("evicted", "invented")).is_none());
        assert!(Record::parse(Owner::System, &TEXT.replace("libvirt 1", "libvirt 2")).is_none());
    }
}
