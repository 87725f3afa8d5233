//! The caches of other programs before a probe.
//!
//! A probe may ask a program that takes its answer from a stale cache of its own. So `run` and
//! `cached` do first what `modstamp update --no-commands` does. They keep no answer if one of the
//! caches is stale even then, or may be older than an input that no update looks at.

use crate::act::kept_witness::is_in;
use crate::act::not_kept::NotKept;
use crate::act::remedy::round::{Commands, is_of_root};
use crate::act::remedy::standing::CacheStatus;
use crate::ground::error::Result;
use crate::observe::foreign_cache::{ForeignCache, Remedy};
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Owner, Stamp};

/// The caches that a probe may take its answer from.
pub(crate) struct Sources {
    profile: Profile,
}

impl Sources {
    /// The caches of a profile but libvirt's, which has daemons of its own. `None` if there are
    /// none.
    pub(crate) fn of(profile: &Profile) -> Option<Sources> {
        let is_one = |cache: &ForeignCache| cache.remedy != Remedy::Libvirt;
        if !profile.caches.iter().any(is_one) {
            return None;
        }
        // The stamp and its witness are of the whole profile, whoever asks.
        let mut profile = profile.clone().with_added(Vec::new());
        (profile.program, profile.tag) = (None, None);
        profile.caches.retain(is_one);
        Some(Sources { profile })
    }

    /// Touches the caller's stamp if modules changed, and removes the files of the caller's own
    /// stale caches. Trouble leaves a cache stale, and [`Sources::doubt`] tells of that.
    pub(crate) fn make_good(&self) {
        let _ = self
            .profile
            .update_with(Commands::Leave, Durability::Synced);
    }

    /// Why an answer may come from an outdated cache; `None` if it cannot.
    ///
    /// Call it after the inputs were observed. Then it sees a change between both looks.
    pub(crate) fn doubt(self) -> Option<NotKept> {
        let looked = self.look();
        looked.unwrap_or_else(|error| Some(NotKept::NotObserved(error)))
    }

    fn look(&self) -> Result<Option<NotKept>> {
        let now = self.profile.inputs()?;
        let mut caches = self.profile.foreign_caches_by(&now);
        // A file that does not exist is not believed.
        caches.retain(|cache| !cache.files.is_empty() || !cache.errors.is_empty());
        let Some(first) = caches.first() else {
            return Ok(None);
        };
        let stale = caches.iter().find_map(|cache| self.why_stale(cache));
        Ok(match stale {
            Some(why) => Some(why),
            None => self.unseen(first, &now)?,
        })
    }

    /// The doubt because of an input that no update of the caller looks at.
    fn unseen(&self, cache: &CacheStatus, now: &Inputs) -> Result<Option<NotKept>> {
        let profile = &self.profile;
        let own = Stamp::own(profile.root(), profile.name())?;
        let paths = |profile: &Profile| profile.named_paths(&profile.program_globs());
        let looked = paths(&profile.as_updated_by(own.owner()));
        let whole = paths(profile);
        let seen = now.observation();
        let directories = seen.directories.iter().map(|it| &it.name);
        let entries = seen.programs.iter().chain(&seen.files).map(|it| &it.name);
        let mut paths = directories.chain(entries);
        let unseen = paths.find(|path| is_in(path, &whole) && !is_in(path, &looked));
        Ok(unseen.map(|path| NotKept::CacheOfUnseen {
            cache: cache.cache.clone(),
            path: profile.root().outside(path),
        }))
    }

    fn why_stale(&self, cache: &CacheStatus) -> Option<NotKept> {
        cache.stale.map(|why| NotKept::StaleCache {
            cache: cache.cache.clone(),
            why: why.to_string(),
            is_for_root: cache.owner == Owner::System && !is_of_root(self.profile.root()),
        })
    }
}
