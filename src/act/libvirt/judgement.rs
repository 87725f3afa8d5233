//! The verdict on an answer that libvirt cached. It is fresh if it was cached after the last
//! refresh, and no input changed or was touched since.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use crate::act::libvirt::cache_file::CacheFile;
use crate::act::libvirt::capabilities::{Recorded, RecordedDirectory};
use crate::act::libvirt::last_refresh::LastRecord;
use crate::act::libvirt::moved::{Moved, TimeOf, signed_epoch};
use crate::act::libvirt::record::{Reached, Record};
use crate::files::root::Root;
use crate::files::way::Steps;
use crate::ground::time::Mtime;
use crate::judge::reason::{Reason, Subject};
use crate::judge::verdict::Verdict;
use crate::observe::content::{Content, error_text};
use crate::observe::directory::Directory;
use crate::observe::entry::Entry;
use crate::observe::input::Input;
use crate::observe::inputs::Inputs;
use crate::stamp::stamp::Owner;

/// Judges a cache file by the record of the last refresh, and the inputs of now.
pub(crate) fn judge(record: &LastRecord, file: &CacheFile, now: &Inputs) -> Verdict {
    let recorded = match file.recorded() {
        Ok(recorded) => recorded,
        Err(error) => {
            let error = error.to_owned();
            return Verdict::Stale(vec![Reason::CacheFile { error }]);
        }
    };
    Verdict::of_reasons(match record {
        LastRecord::Never => vec![Reason::NeverRefreshed],
        LastRecord::Unknown(error) => {
            let error = error.to_string();
            vec![Reason::UselessRecord { error }]
        }
        LastRecord::Read(record) => Judgement { record, now }.reasons(file.owner(), recorded),
    })
}

/// Whether libvirt must probe again, because something is not as at the last refresh, or because
/// that is not known.
pub(crate) fn is_outdated(record: Option<&Record>, now: &Inputs) -> bool {
    record.is_none_or(|record| !why_outdated(record, now).is_empty())
}

/// The reasons why libvirt must probe again. There are none if all is as at the last refresh.
pub(crate) fn why_outdated(record: &Record, now: &Inputs) -> Vec<Reason> {
    Judgement { record, now }.why_outdated()
}

/// Whether libvirt itself rejects an answer at its next look-up, because a time that it compares
/// has changed. A difference counts only if every libvirt since 6.8 sees it, and if a look shows it.
pub(crate) fn is_rejected(record: Option<&Record>, recorded: &Recorded, now: &Inputs) -> bool {
    let root = now.root();
    let is_other_program = match target(root, &recorded.program) {
        Ok(program) => program.is_none_or(|it| it.st_ctime != recorded.program_ctime),
        Err(_) => false,
    };
    if is_other_program {
        return true;
    }
    let mtime = |path: &Path| {
        let directory = target(root, path)?;
        Ok::<_, Errno>(directory.map(|stat| stat.st_mtime))
    };
    // QEMU's directory is one of those that a refresh moves or has to leave. If it is missing,
    // libvirt compares nothing.
    let effect = record.map(|record| &record.effect);
    let moved = effect
        .into_iter()
        .flat_map(|it| &it.moved)
        .map(|it| &it.path);
    let left = effect
        .into_iter()
        .flat_map(|it| &it.left)
        .map(|it| &it.path);
    let watched: Vec<_> = moved.chain(left).map(|path| mtime(path)).collect();
    let mut directories = recorded.directories.iter();
    directories.any(|directory| match &directory.path {
        Some(path) => mtime(path).is_ok_and(|it| it.unwrap_or(0) != directory.mtime),
        None => {
            let is_other = |mtime: &_| matches!(mtime, Ok(Some(it)) if *it != directory.mtime);
            !watched.is_empty() && watched.iter().all(is_other)
        }
    })
}

/// A record and the inputs of now, to judge any number of answers by.
struct Judgement<'a> {
    record: &'a Record,
    now: &'a Inputs,
}

impl Judgement<'_> {
    fn why_outdated(&self) -> Vec<Reason> {
        let mut reasons = self.record.witness.news(self.now);
        reasons.retain(|reason| self.concerns(reason));
        if self.record.effect.reached == Reached::Partly {
            reasons.push(Reason::BeforeRefresh);
        }
        reasons.extend(self.why_moves_differ());
        match reasons.is_empty() {
            true => self.touched(),
            false => reasons,
        }
    }

    /// All reasons why an answer in the cache of `owner` is stale.
    fn reasons(&self, owner: Owner, recorded: &Recorded) -> Vec<Reason> {
        if let Some(reason) = self.why_not_after(owner, recorded) {
            return vec![reason];
        }
        let mut reasons = self.record.witness.judge(self.now).reasons().to_vec();
        reasons.retain(|reason| self.concerns(reason) && is_about(reason, &recorded.program));
        if !self.is_content_known(&recorded.program) {
            reasons.retain(|reason| !is_unknown_program(reason));
            reasons.extend(self.why_other_program(recorded));
        }
        // A change may have been undone since. Nothing tells if libvirt probed in between.
        if self.record.effect.reached != Reached::ByEviction && reasons.is_empty() {
            reasons = self.touched();
        }
        reasons
    }

    /// The reason to doubt that an answer was cached after the refresh; `None` if there is no
    /// doubt.
    fn why_not_after(&self, owner: Owner, recorded: &Recorded) -> Option<Reason> {
        let effect = &self.record.effect;
        let was_evicted = effect.reached == Reached::ByEviction;
        let was_cache_emptied = was_evicted && owner == self.record.owner;
        let is_new = self.has_new_time(recorded) || was_cache_emptied;
        if is_new && self.are_directories_as_left(recorded) {
            return None;
        }
        Some(if was_evicted && owner != self.record.owner {
            Reason::NotOwnCache
        } else {
            self.why_moves_differ().unwrap_or(Reason::BeforeRefresh)
        })
    }

    /// Whether an answer has a time that nothing had before the refresh.
    fn has_new_time(&self, recorded: &Recorded) -> bool {
        let mut changed = self.record.effect.changed.iter();
        let mut directories = recorded.directories.iter();
        directories.any(|directory| self.is_moved(directory))
            || changed.any(|changed| self.is_of_program(changed, recorded))
    }

    /// Whether each module directory of an answer has the time that the refresh left.
    fn are_directories_as_left(&self, recorded: &Recorded) -> bool {
        let mut directories = recorded.directories.iter();
        directories.all(|directory| self.is_moved(directory) || self.is_left(directory))
    }

    fn is_moved(&self, directory: &RecordedDirectory) -> bool {
        let mut moved = self.record.effect.moved.iter();
        moved.any(|moved| is_at(directory, &moved.path) && directory.mtime == moved.second)
    }

    fn is_left(&self, directory: &RecordedDirectory) -> bool {
        let mut left = self.record.effect.left.iter();
        left.any(|left| is_at(directory, &left.path) && directory.mtime == left.second)
    }

    /// Whether `changed` is the probed program, under any of its names, with the ctime in the
    /// answer.
    fn is_of_program(&self, changed: &TimeOf, recorded: &Recorded) -> bool {
        let (path, program) = (&changed.path, &recorded.program);
        changed.second == recorded.program_ctime
            && (path == program || self.is_same_file(path, program))
    }

    /// The reason to doubt that each module directory that was moved still has the second that it
    /// was moved to.
    fn why_moves_differ(&self) -> Option<Reason> {
        let mut moved = self.record.effect.moved.iter();
        moved.find_map(|moved| match target(self.now.root(), &moved.path) {
            Ok(Some(stat)) if stat.st_mtime == moved.second => None,
            Ok(_) => Some(Reason::SinceRefresh),
            Err(errno) => Some(unknown_directory(&moved.path, errno)),
        })
    }

    /// Whether a reason concerns the owner's libvirt.
    ///
    /// A daemon probes in its own environment, so the caller's variables do not count. libvirt
    /// compares what the host gives by itself (`virQEMUCapsIsValid`). A user's
    /// stamp says nothing to the system's daemon. As for an update, a path that the profile newly
    /// names counts only if something is there.
    fn concerns(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Stamp { owner, .. } | Reason::UnknownStamp { owner, .. } => {
                *owner == Owner::System || *owner == self.record.owner
            }
            Reason::NewlyNamed { .. } => false,
            reason => !reason.is_of_process(),
        }
    }

    /// Whether the witness can tell if a program is another one.
    fn is_content_known(&self, program: &Path) -> bool {
        let is_known =
            |entry: &Entry| entry.identity.evidence().is_some() || entry.content != Content::Unread;
        let mut programs = self.record.witness.observation.programs.iter();
        programs.any(|entry| entry.name == program && is_known(entry))
    }

    /// The reason why a program is not the probed one. It is for programs of unknown content, such
    /// as those that the profile does not name. Its ctime decides.
    fn why_other_program(&self, recorded: &Recorded) -> Option<Reason> {
        let subject = Subject::new(Input::Program, None, &recorded.program);
        match target(self.now.root(), &recorded.program) {
            Err(errno) => Some(Reason::Unknown {
                subject,
                error: error_text(errno.raw_os_error()),
            }),
            Ok(None) => Some(Reason::Removed(subject)),
            Ok(Some(stat)) if stat.st_ctime != recorded.program_ctime => Some(Reason::Unknown {
                subject,
                error: "it was touched, and only its ctime is known".to_owned(),
            }),
            Ok(Some(_)) => None,
        }
    }

    /// The module directories and their modules that have another stat identity than at the
    /// refresh.
    fn touched(&self) -> Vec<Reason> {
        let moved = self.record.effect.moved.iter();
        let moved = moved.flat_map(|moved| self.touched_in(moved));
        let others = self.record.witness.observation.directories.iter();
        let others = others.filter(|other| !other.is_alias() && !self.has_moved(&other.name));
        let others = others.flat_map(|other| self.touched_in_other(other));
        moved.chain(others).collect()
    }

    /// Whether the refresh moved the directory at `path`, under any of its names.
    fn has_moved(&self, path: &Path) -> bool {
        let mut moved = self.record.effect.moved.iter();
        moved.any(|moved| moved.path == path || self.is_same_file(&moved.path, path))
    }

    /// Whether a look shows that two paths name one file.
    fn is_same_file(&self, one: &Path, other: &Path) -> bool {
        let [one, other] = [one, other].map(|path| {
            let stat = target(self.now.root(), path).ok()??;
            Some((stat.st_dev, stat.st_ino))
        });
        one.is_some() && one == other
    }

    /// A directory that the refresh did not move, and its modules, if they were touched.
    fn touched_in_other(&self, then: &Directory) -> Vec<Reason> {
        match self.is_comparable(then) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(errno) => return vec![unknown_directory(&then.name, errno)],
        }
        let now = self.now.observation().directory(&then.name);
        let now = now.and_then(Directory::own);
        let is_touched = then.own().zip(now).is_some_and(|(then, now)| then != now);
        let subject = Subject::new(Input::ModuleDirectory, None, &then.name);
        let own = is_touched.then_some(Reason::TouchedSinceRefresh(subject));
        own.into_iter()
            .chain(self.touched_modules(&then.name))
            .collect()
    }

    /// Whether the stat identities in a directory that was not moved are those of the refresh's
    /// time. The record has the epochs of moved directories alone, so one of them must be its own.
    fn is_comparable(&self, directory: &Directory) -> rustix::io::Result<bool> {
        let place = place(self.now.root(), &directory.name)?;
        let epoch = place.as_ref().and_then(signed_epoch);
        let mut moved = self.record.effect.moved.iter();
        Ok(epoch.is_some() && moved.any(|moved| moved.epoch == epoch))
    }

    /// A moved directory, and its modules, if they were touched.
    ///
    /// A stat identity on an image or a network file system is no evidence. So this function misses
    /// a change there that was undone. Calling it "not known" instead would cost a probe at each
    /// boot.
    fn touched_in(&self, moved: &Moved) -> Vec<Reason> {
        let top = &*moved.path;
        let place = match place(self.now.root(), top) {
            Ok(Some(place)) => place,
            Ok(None) => return Vec::new(), // The witness tells that it is gone.
            Err(errno) => return vec![unknown_directory(top, errno)],
        };
        if moved.epoch.is_none() || moved.epoch != signed_epoch(&place) {
            return Vec::new();
        }
        let mut reasons = Vec::new();
        match fstat(&place) {
            Ok(stat) if Mtime::of_ctime(&stat) == moved.ctime => {}
            Ok(_) => {
                let subject = Subject::new(Input::ModuleDirectory, None, top);
                reasons.push(Reason::TouchedSinceRefresh(subject));
            }
            Err(errno) => reasons.push(unknown_directory(top, errno)),
        }
        reasons.extend(self.touched_modules(top));
        reasons
    }

    /// The modules in the directory `top` that were touched.
    fn touched_modules(&self, top: &Path) -> Vec<Reason> {
        let then = self.record.witness.observation.modules_at(top);
        let modules = then.zip(self.now.observation().modules_at(top));
        let Some((then, now)) = modules.filter(|(then, now)| !then.are_proven_same(now)) else {
            return Vec::new();
        };
        // The names are the same, or else the witness would be stale already.
        let both = then.entries.iter().zip(now.entries.iter());
        // A look too near to a change kept no identity: then nothing is known to be untouched.
        let touched =
            both.filter(|(then, now)| then.identity.fingerprint() != now.identity.fingerprint());
        let reasons = touched.filter_map(|(then, now)| {
            let path = top.join(&then.name);
            let subject = Subject::new(Input::Module, Some(top), &path);
            match now.identity.fingerprint() {
                // One module directory may be in another.
                _ if self.has_moved(&path) => None,
                Some(_) => Some(Reason::TouchedSinceRefresh(subject)),
                // Now a look at its target failed.
                None => Some(Reason::Unknown {
                    subject,
                    error: "the target of the link could not be looked at".to_owned(),
                }),
            }
        });
        reasons.collect()
    }
}

/// Opens the place at `path`, links followed. `None` if the path leads nowhere.
fn place(root: &Root, path: &Path) -> rustix::io::Result<Option<OwnedFd>> {
    match root.place(path, Steps::Any) {
        Ok(place) => Ok(Some(place)),
        Err(stop) if stop.leads_nowhere() => Ok(None),
        Err(stop) => Err(stop.errno()),
    }
}

/// The state of the file at `path`, links followed. `None` if the path leads nowhere.
fn target(root: &Root, path: &Path) -> rustix::io::Result<Option<Stat>> {
    place(root, path)?.map(fstat).transpose()
}

fn unknown_directory(path: &Path, errno: Errno) -> Reason {
    Reason::Unknown {
        subject: Subject::new(Input::ModuleDirectory, None, path),
        error: error_text(errno.raw_os_error()),
    }
}

/// Whether an answer's module directory may be the one at `path`. QEMU's answers do not say.
fn is_at(directory: &RecordedDirectory, path: &Path) -> bool {
    let named = directory.path.as_ref();
    named.is_none_or(|named| named == path)
}

/// Whether a reason concerns the answer of `program`.
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

/// Whether a reason says that a program's content is unknown.
pub(crate) fn is_unknown_program(reason: &Reason) -> bool {
    match reason {
        Reason::Unknown { subject, .. } | Reason::NotRead(subject) => {
            subject.input == Input::Program
        }
        _ => false,
    }
}
