//! The record of the last refresh: which times it left, by which what libvirt cached since is known, and a witness of all
//! inputs from before it.
//!
//! It is text, `/var/lib/modstamp/<profile>.libvirt`:
//!
//! ```text
//! modstamp-libvirt 1
//! latest 1700000001
//! moved 1700000001 /usr/lib64/qemu
//! changed 1700000000 /usr/bin/qemu-system-x86_64
//! modstamp-witness 1 qemu
//! …
//! ```
//!
//! `latest` is the latest second that any module directory was ever moved to. A line `evicted` says that what was stale in
//! the system daemon's cache was removed instead, because nothing could be moved. Who loses the record loses no
//! more than that: all that is cached is then "not known" until the next refresh.

use std::fmt::Write as _;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode};

use super::CacheFile;
use super::installation::stat;
use crate::root::{Steps, write_all};
use crate::stamp::{SYSTEM_DIRECTORY, create, take_place};
use crate::witness::{Escaped, unescape};
use crate::{Input, Inputs, Owner, Profile, Reason, Subject, Verdict, Witness};

const HEAD: &str = "modstamp-libvirt 1";

/// As a witness's.
const MOST_BYTES: u64 = 256 << 20;

/// What the last refresh left. All times are in whole seconds since 1970, as libvirt compares them.
#[derive(Debug)]
pub(crate) struct Record {
    /// The latest one that a module directory was ever moved to.
    pub(crate) latest: i64,
    /// The mtimes that module directories got, and never had before.
    pub(crate) moved: Vec<(PathBuf, i64)>,
    /// The ctimes that programs got, and did not have just before.
    pub(crate) changed: Vec<(PathBuf, i64)>,
    /// Whether what was stale in the system daemon's cache was removed.
    pub(crate) evicted: bool,
    /// Of all inputs, from before the times were left.
    pub(crate) witness: Witness,
}

impl Record {
    /// That of `profile`; `None` where there is none, or none that can be read.
    pub(crate) fn read(profile: &Profile) -> Option<Record> {
        let mut text = String::new();
        let file = std::fs::File::from(open(profile)?);
        file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
        Record::parse(&text)
    }

    /// The latest second of the record that is kept now, which is after [`Record::latest`] where others refreshed since.
    pub(crate) fn latest(profile: &Profile) -> Option<i64> {
        let mut head = [0; 64];
        let length = rustix::io::read(&open(profile)?, &mut head).ok()?;
        let head = String::from_utf8_lossy(&head[..length]);
        let mut lines = head.lines();
        (lines.next()? == HEAD).then_some(())?;
        lines.next()?.strip_prefix("latest ")?.parse().ok()
    }

    fn parse(text: &str) -> Option<Record> {
        let at = text.find("\nmodstamp-witness ")? + 1;
        let (head, witness) = text.split_at(at);
        let mut lines = head.lines();
        (lines.next()? == HEAD).then_some(())?;
        let mut record = Record {
            latest: lines.next()?.strip_prefix("latest ")?.parse().ok()?,
            moved: Vec::new(),
            changed: Vec::new(),
            evicted: false,
            witness: witness.parse().ok()?,
        };
        for line in lines {
            let mut words = line.splitn(3, ' ');
            let list = match words.next()? {
                "moved" => &mut record.moved,
                "changed" => &mut record.changed,
                "evicted" => {
                    record.evicted = true;
                    continue;
                }
                _ => return None,
            };
            let second = words.next()?.parse().ok()?;
            list.push((PathBuf::from(unescape(words.next()?)?), second));
        }
        Some(record)
    }

    /// Replaces the one that is kept in the stamp's `directory`. It is our turn to.
    pub(crate) fn write(&self, directory: &OwnedFd, profile: &Profile) -> rustix::io::Result<()> {
        let name = name(profile);
        let new = format!(".{name}.new");
        let mode = Mode::from_raw_mode(0o644);
        let file = create(directory, &new, mode)?;
        let write = || {
            write_all(&file, self.text().as_bytes())?;
            rustix::fs::fchmod(&file, mode)?; // whatever the umask is
            take_place(directory, &new, &name)
        };
        write().map(|_| ()).inspect_err(|_| {
            let _ = rustix::fs::unlinkat(directory, &new, AtFlags::empty());
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\nlatest {}\n", self.latest);
        for (what, list) in [("moved", &self.moved), ("changed", &self.changed)] {
            for (path, second) in list {
                let _ = writeln!(text, "{what} {second} {}", Escaped(path.as_os_str()));
            }
        }
        if self.evicted {
            text.push_str("evicted\n");
        }
        let _ = write!(text, "{}", self.witness);
        text
    }

    /// What modstamp says of a cache file, by what the inputs are `now`.
    pub(crate) fn judge(record: Option<&Record>, file: &CacheFile, now: &Inputs) -> Verdict {
        let not_known = |error: String| Verdict::Stale(vec![Reason::Witness { error }]);
        let recorded = match file.recorded() {
            Ok(recorded) => recorded,
            Err(error) => return not_known(format!("not known: {error}")),
        };
        let Some(record) = record else {
            return not_known("not known: modstamp has not refreshed libvirt yet".to_owned());
        };
        let directory = recorded.directories.iter().any(|(path, mtime)| {
            let is_it = |moved: &&(PathBuf, i64)| {
                path.as_ref().is_none_or(|path| *path == moved.0) && *mtime == moved.1
            };
            record.moved.iter().any(|moved| is_it(&moved))
        });
        let program = (recorded.program.clone(), recorded.program_ctime);
        let is_left = record.evicted && file.owner() == Owner::System;
        if !directory && !record.changed.contains(&program) && !is_left {
            let is_moved = |(path, second): &(PathBuf, i64)| {
                stat(&now.root, path).map(|stat| stat.st_mtime) == Some(*second)
            };
            return not_known(match record.moved.iter().all(is_moved) {
                true => "cached before the last refresh".to_owned(),
                false => "not known: a module directory changed since the last refresh, run “modstamp libvirt refresh”"
                    .to_owned(),
            });
        }
        let mut reasons = record.witness.judge(now).reasons().to_vec();
        reasons.retain(|reason| concerns(reason, &recorded.program));
        let is_watched = record
            .witness
            .observed
            .programs
            .iter()
            .any(|entry| entry.name == recorded.program);
        if !is_watched {
            reasons.extend(program_changed(
                now,
                &recorded.program,
                recorded.program_ctime,
            ));
        }
        match reasons.is_empty() {
            true => Verdict::Fresh,
            false => Verdict::Stale(reasons),
        }
    }
}

/// Whether a reason concerns what libvirt learnt from `program`. It is asked by a daemon, whose environment is not ours, and
/// what a user stamps is not asked of the system's libvirt.
fn concerns(reason: &Reason, program: &Path) -> bool {
    match reason {
        Reason::Added(subject)
        | Reason::Removed(subject)
        | Reason::Changed { subject, .. }
        | Reason::Unknown { subject, .. } => {
            subject.input != Input::Program || program.starts_with(&subject.path)
        }
        Reason::Stamp { owner, .. } | Reason::UnknownStamp { owner, .. } => *owner == Owner::System,
        Reason::Variable { .. } => false,
        _ => true,
    }
}

/// Whether a program that the profile does not name is another one than libvirt asked, by its ctime.
fn program_changed(now: &Inputs, program: &Path, ctime: i64) -> Option<Reason> {
    let subject = || Subject::new(Input::Program, None, program);
    match stat(&now.root, program) {
        None => Some(Reason::Removed(subject())),
        Some(stat) if stat.st_ctime != ctime => Some(Reason::Unknown {
            subject: subject(),
            error: "it was touched, and the profile does not name it".to_owned(),
        }),
        Some(_) => None,
    }
}

fn open(profile: &Profile) -> Option<OwnedFd> {
    let path = Path::new(SYSTEM_DIRECTORY).join(name(profile));
    profile.root().read(&path, Steps::Any).ok()
}

fn name(profile: &Profile) -> String {
    format!("{}.libvirt", profile.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "modstamp-libvirt 1\nlatest 1700000001\nmoved 1700000001 /usr/lib64/qemu\n\
        changed 1700000000 /usr/bin/a\\x20b\nevicted\nmodstamp-witness 1 qemu\nstamp system -\nstamp user -\nend 3\n";

    #[test]
    fn a_record_is_read_back_as_it_was_written() {
        assert_eq!(Record::parse(TEXT).unwrap().text(), TEXT);
    }

    #[test]
    fn a_torn_record_is_none() {
        for length in 0..TEXT.len() {
            assert!(Record::parse(&TEXT[..length]).is_none(), "{length} bytes");
        }
        assert!(Record::parse(&TEXT.replace("evicted", "invented")).is_none());
        assert!(Record::parse(&TEXT.replace("libvirt 1", "libvirt 2")).is_none());
    }
}
