//! The verdict on an answer that libvirt cached. It is fresh if it was cached after the last
//! refresh, and no input changed or was touched since.

use std::path::{Path, PathBuf};

use rustix::fs::fstat;

use crate::act::libvirt::cache_file::CacheFile;
use crate::act::libvirt::capabilities::{Recorded, RecordedDirectory};
use crate::act::libvirt::moved::{Moved, TimeOf, signed_epoch};
use crate::act::libvirt::record::{Reached, Record};
use crate::files::root::Steps;
use crate::ground::time::Mtime;
use crate::judge::reason::{Reason, Subject};
use crate::judge::verdict::Verdict;
use crate::observe::content::Content;
use crate::observe::entry::Entry;
use crate::observe::input::Input;
use crate::observe::inputs::Inputs;
use crate::stamp::stamp::Owner;

/// Judges a cache file by the record of the last refresh, if there is one, and the inputs of now.
pub(crate) fn judge(record: Option<&Record>, file: &CacheFile, now: &Inputs) -> Verdict {
    let recorded = match file.recorded() {
        Ok(recorded) => recorded,
        Err(error) => {
            let error = error.to_owned();
            return Verdict::Stale(vec![Reason::CacheFile { error }]);
        }
    };
    let Some(record) = record else {
        return Verdict::Stale(vec![Reason::NeverRefreshed]);
    };
    let reasons = Judgement { record, now }.reasons(file.owner(), recorded);
    Verdict::of_reasons(reasons)
}

/// Whether libvirt must probe again, because something is not as at the last refresh, or because
/// that is not known.
pub(crate) fn is_outdated(record: Option<&Record>, now: &Inputs) -> bool {
    let is_outdated = |record| Judgement { record, now }.is_outdated();
    record.is_none_or(is_outdated)
}

/// A record and the inputs of now, to judge any number of answers by.
struct Judgement<'a> {
    record: &'a Record,
    now: &'a Inputs,
}

impl Judgement<'_> {
    fn is_outdated(&self) -> bool {
        let news = self.record.witness.news(self.now);
        self.record.effect.reached == Reached::Partly
            || news.iter().any(|reason| self.concerns(reason))
            || !self.are_moves_as_left()
            || !self.touched().is_empty()
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
        } else if self.are_moves_as_left() {
            Reason::BeforeRefresh
        } else {
            Reason::SinceRefresh
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
        let identity = |path: &Path| {
            let stat = self.now.root().target(path)?;
            Some((stat.st_dev, stat.st_ino))
        };
        let (path, program) = (&changed.path, &recorded.program);
        changed.second == recorded.program_ctime
            && (path == program || identity(path) == identity(program))
    }

    /// Whether each module directory that was moved still has the second that it was moved to.
    fn are_moves_as_left(&self) -> bool {
        let mtime = |path: &PathBuf| self.now.root().target(path).map(|stat| stat.st_mtime);
        let mut moved = self.record.effect.moved.iter();
        moved.all(|moved| mtime(&moved.path) == Some(moved.second))
    }

    /// Whether a reason concerns the owner's libvirt.
    ///
    /// A daemon probes in its own environment, so the caller's variables do not count. A user's
    /// stamp says nothing to the system's daemon.
    fn concerns(&self, reason: &Reason) -> bool {
        match reason {
            Reason::Stamp { owner, .. } | Reason::UnknownStamp { owner, .. } => {
                *owner == Owner::System || *owner == self.record.owner
            }
            Reason::Variable { .. } => false,
            _ => true,
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
        match self.now.root().target(&recorded.program) {
            None => Some(Reason::Removed(subject)),
            Some(stat) if stat.st_ctime != recorded.program_ctime => Some(Reason::Unknown {
                subject,
                error: "it was touched, and only its ctime is known".to_owned(),
            }),
            Some(_) => None,
        }
    }

    /// The moved directories and their modules that have another stat identity than at the refresh.
    fn touched(&self) -> Vec<Reason> {
        let moved = self.record.effect.moved.iter();
        moved.flat_map(|moved| self.touched_in(moved)).collect()
    }

    fn touched_in(&self, moved: &Moved) -> Vec<Reason> {
        let top = &*moved.path;
        let mut reasons = Vec::new();
        let Ok(place) = self.now.root().place(top, Steps::Any) else {
            return reasons;
        };
        if moved.epoch.is_none() || moved.epoch != signed_epoch(&place) {
            return reasons;
        }
        let touched = |input, top: Option<&Path>, path: &Path| {
            Reason::TouchedSinceRefresh(Subject::new(input, top, path))
        };
        let ctime = fstat(&place).map(|stat| Mtime::of_ctime(&stat));
        if ctime != Ok(moved.ctime) {
            reasons.push(touched(Input::ModuleDirectory, None, top));
        }
        let then = self.record.witness.observation.modules_at(top);
        let modules = then.zip(self.now.observation().modules_at(top));
        let Some((then, now)) = modules.filter(|(then, now)| !then.are_proven_same(now)) else {
            return reasons;
        };
        // The names are the same, or else the witness would be stale already.
        for (then, now) in then.entries.iter().zip(now.entries.iter()) {
            // A look too near to a change kept no identity: then nothing is known to be untouched.
            if then.identity.fingerprint() != now.identity.fingerprint() {
                reasons.push(touched(Input::Module, Some(top), &top.join(&then.name)));
            }
        }
        reasons
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
