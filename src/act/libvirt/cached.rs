//! All that libvirt cached of one profile's programs, with modstamp's verdict on each file.

use std::path::PathBuf;
use std::time::Instant;

use crate::act::libvirt::cache_file::{CacheDirectory, CacheFile};
use crate::act::libvirt::judgement::{is_rejected, judge};
use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::last_refresh::LastRecord;
use crate::act::libvirt::record::Record;
#[cfg(feature = "cli")]
use crate::act::look::Look;
use crate::ground::environment::caller;
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;
use crate::judge::reason::Reason;
use crate::judge::verdict::Verdict;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::event::{Action, Event};
use crate::stamp::stamp::{Owner, Stamp};

/// The cache files of one profile's programs, of the system's daemon and of the caller's own.
pub struct Cached {
    files: Vec<CacheFile>,
    errors: Vec<(Owner, Error)>,
    record: LastRecord,
    /// The caller's own record, for the caller's own cache. It is read only if the system's record
    /// cannot tell which answers are older.
    own_record: LastRecord,
    inputs: Inputs,
    /// The caller's stamp. The log beside it records an eviction.
    stamp: Option<Stamp>,
}

/// What follows from a stale verdict.
#[doc(hidden)] // Only the programs use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// libvirt itself rejects the answer at its next look-up. There is nothing to do.
    AsksAgain,
    /// libvirt may serve the answer until a refresh.
    Refresh,
    /// No refresh reaches the file, or makes it readable. An eviction removes it.
    Evict,
}

/// The choice of files that an eviction removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// Those whose verdict is stale.
    Stale,
    /// All.
    All,
}

/// The result of an eviction.
pub struct Evicted<'a> {
    /// The removed files; in a dry run, those that would be removed.
    pub files: Vec<&'a CacheFile>,
    /// One error for each file that was not removed; in a dry run, for each that would not be.
    pub errors: Vec<Error>,
}

impl Evicted<'_> {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && self.errors.is_empty()
    }

    fn event(&self, which: Eviction) -> Event {
        let why = match which {
            Eviction::Stale => "asked to remove stale files",
            Eviction::All => "asked to remove all",
        };
        let mut event = Event::begin(Action::Evict, &caller(), why);
        let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path()).collect();
        event.add_paths("removed", &paths);
        event.fail(&self.errors);
        event
    }
}

#[cfg(feature = "cli")]
impl Look {
    /// What libvirt cached of the profile's programs. `None` if the profile does not name libvirt's
    /// cache.
    ///
    /// # Errors
    /// Like [`Cached::find`].
    pub fn libvirt_cache(&self) -> Result<Option<Cached>> {
        let whole = &self.profile;
        let Some(kind) = Kind::of(whole).ok().filter(|_| whole.refreshes_libvirt()) else {
            return Ok(None);
        };
        let profile = &whole.of_packages();
        let Some(inputs) = self.inputs.as_of(whole, profile) else {
            return Cached::find(whole).map(Some);
        };
        let record = LastRecord::read(&Stamp::system(profile.root(), profile.name())?);
        Ok(Some(Cached::of(kind, profile, record, inputs)))
    }
}

impl Cached {
    /// Reads the caches of the system and of the caller. It leaves other users' caches alone.
    ///
    /// # Errors
    /// Like [`Profile::inputs`], and if libvirt caches nothing of the profile's programs. A cache
    /// that cannot be read is in [`Cached::errors`] instead.
    pub fn find(profile: &Profile) -> Result<Cached> {
        let kind = Kind::of(profile)?;
        let profile = &profile.of_packages();
        let record = LastRecord::read(&Stamp::system(profile.root(), profile.name())?);
        let known = record.known().map(|record| &record.witness.observation);
        let inputs = Inputs::of(profile, known)?;
        Ok(Cached::of(kind, profile, record, inputs))
    }

    /// Like [`Cached::find`], for a caller that already holds the system's record and the inputs.
    pub(crate) fn of(
        kind: &'static Kind,
        profile: &Profile,
        record: LastRecord,
        inputs: Inputs,
    ) -> Cached {
        let mut files = Vec::new();
        let (directories, mut errors) = CacheDirectory::all(profile.root(), kind);
        for directory in directories {
            let owner = directory.owner;
            let (found, unseen) = directory.files();
            files.extend(found);
            errors.extend(unseen.into_iter().map(|error| (owner, error)));
        }
        let own_record = match record.known().is_some_and(Record::tells_all) {
            true => LastRecord::Never,
            false => own_record(profile),
        };
        Cached {
            files,
            errors,
            record,
            own_record,
            inputs,
            stamp: Stamp::own(profile.root(), profile.name()).ok(),
        }
    }

    /// The cache files, those of the system's daemon first.
    pub fn files(&self) -> &[CacheFile] {
        &self.files
    }

    /// The caches that could not be read, such as the system's by an ordinary user, and the files
    /// that could not be looked at.
    pub fn errors(&self) -> &[(Owner, Error)] {
        &self.errors
    }

    /// Judges a file: it is fresh if it was cached after the last refresh, and nothing that the
    /// refresh saw has changed or was touched since.
    pub fn verdict(&self, file: &CacheFile) -> Verdict {
        judge(self.record_for(file.owner()), file, &self.inputs)
    }

    /// The record that an owner's files are judged by.
    fn record_for(&self, owner: Owner) -> &LastRecord {
        match (&self.own_record, owner) {
            (LastRecord::Never, _) | (_, Owner::System) => &self.record,
            (own, Owner::User) => own,
        }
    }

    /// What the last refresh did that an owner's files are judged by, for people. `None` if no
    /// record tells. A refresh that moved no time has none of its own: the log has that.
    #[doc(hidden)] // Only the programs use it.
    pub fn last_refresh(&self, owner: Owner) -> Option<(Option<Mtime>, String)> {
        let effect = &self.record_for(owner).known()?.effect;
        Some((effect.time(), effect.what(self.inputs.root())))
    }

    /// What follows if the verdict on a file is stale.
    #[doc(hidden)] // Only the programs use it.
    pub fn next(&self, file: &CacheFile) -> Next {
        let Ok(recorded) = file.recorded() else {
            return Next::Evict;
        };
        if is_rejected(self.record.known(), recorded, &self.inputs) {
            return Next::AsksAgain;
        }
        match self.verdict(file).reasons().contains(&Reason::NotOwnCache) {
            true => Next::Evict,
            false => Next::Refresh,
        }
    }

    /// The number of files in the system's cache that only root may remove.
    #[doc(hidden)] // Only the programs use it.
    pub fn left_to_root(&self) -> usize {
        self.files.iter().filter(|file| file.is_foreign()).count()
    }

    /// Removes files from the caches. A link is never followed. Another user's file is never
    /// removed. An ordinary user's eviction skips the system's files. Any other file of another
    /// user is an error.
    ///
    /// If there was something to remove, the log beside the caller's stamp gets a line.
    pub fn evict(&self, which: Eviction) -> Evicted<'_> {
        let begun = Instant::now();
        let evicted = self.evict_by(self.removable(), which, CacheFile::remove);
        if let Some(stamp) = self.stamp.as_ref().filter(|_| !evicted.is_empty()) {
            let event = evicted.event(which).end(begun.elapsed());
            let _ = stamp.log(&event); // The caller has the same facts.
        }
        evicted
    }

    /// Like [`Cached::evict`], but only finds out which files it would remove.
    pub fn would_evict(&self, which: Eviction) -> Evicted<'_> {
        self.evict_by(self.removable(), which, CacheFile::check_removal)
    }

    /// All files but those that are left to root.
    fn removable(&self) -> impl Iterator<Item = &CacheFile> {
        self.files.iter().filter(|file| !file.is_foreign())
    }

    fn evict_by<'a>(
        &'a self,
        files: impl Iterator<Item = &'a CacheFile>,
        which: Eviction,
        remove: impl Fn(&CacheFile) -> Result<()>,
    ) -> Evicted<'a> {
        let is_wanted = |file: &&CacheFile| match which {
            Eviction::All => true,
            Eviction::Stale => !self.verdict(file).is_fresh(),
        };
        let mut evicted = Evicted {
            files: Vec::new(),
            errors: Vec::new(),
        };
        for file in files.filter(is_wanted) {
            match remove(file) {
                Ok(()) => evicted.files.push(file),
                Err(error) => evicted.errors.push(error),
            }
        }
        evicted
    }

    /// Removes the stale files from the cache of one owner alone.
    ///
    /// Returns the paths of the removed files, and one error for each that is still there or could
    /// not be seen.
    pub(crate) fn evict_stale_of(mut self, owner: Owner) -> (Vec<PathBuf>, Vec<Error>) {
        self.files.retain(|file| file.owner() == owner);
        let Evicted { files, mut errors } =
            self.evict_by(self.files.iter(), Eviction::Stale, CacheFile::remove);
        let paths = files.iter().map(|file| file.path()).collect();
        let unseen = self.errors.into_iter();
        errors.extend(
            unseen
                .filter(|(of, _)| *of == owner)
                .map(|(_, error)| error),
        );
        (paths, errors)
    }
}

/// The record beside the stamp of an ordinary user.
fn own_record(profile: &Profile) -> LastRecord {
    match Stamp::own(profile.root(), profile.name()) {
        Ok(stamp) if stamp.owner() == Owner::User => LastRecord::read(&stamp),
        Ok(_) | Err(_) => LastRecord::Never,
    }
}
