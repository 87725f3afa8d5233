//! The standing of each cache of another program: fresh, or stale and why.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::act::kept_witness::KeptWitness;
use crate::act::remedy::cure::{globs, is_command};
use crate::act::remedy::find::Found;
use crate::act::remedy::record::{LastRemedy, Record, RemedyResult};
use crate::act::remedy::round::Round;
use crate::ground::error::Error;
use crate::judge::reason::Reason;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::observe::stamps::Stamps;
use crate::stamp::stamp::{Owner, Stamp};

/// The standing of one cache.
#[derive(Debug)]
pub struct CacheStatus {
    /// The owner, whose task it is to make the cache good.
    pub owner: Owner,
    /// The files, as the profile names them.
    pub cache: String,
    /// The remedy, as the profile names it.
    pub remedy: String,
    /// Whether the remedy is a command.
    pub is_by_command: bool,
    /// The files that exist, as seen from outside the root.
    pub files: Vec<PathBuf>,
    /// The errors about files that could not be searched.
    pub errors: Vec<Error>,
    /// Why it is stale; `None` if it is fresh.
    pub stale: Option<Staleness>,
    /// The last remedy; `None` if there was none.
    pub last: Option<LastRemedy>,
}

/// Why a cache is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Staleness {
    /// No remedy is on record.
    Never,
    /// A stamp was touched since the last remedy.
    Touched,
    /// The last remedy failed.
    Failed,
    /// Modules changed since the last touch of the stamp.
    Changed,
    /// No record of the modules at the last touch was kept, or it cannot be read.
    Unknown,
}

/// For people, as a clause.
impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Staleness::Never => "no remedy is on record",
            Staleness::Touched => "the stamp was touched since the last remedy",
            Staleness::Failed => "the last remedy failed",
            Staleness::Changed => "modules changed since the last touch",
            Staleness::Unknown => "nobody knows if modules changed since the last touch",
        })
    }
}

impl Profile {
    /// The standing of each cache that the profile names: the system's and the caller's own,
    /// without libvirt's. `now` is a look at this profile. By it, a cache is stale if modules changed
    /// since the last touch.
    #[doc(hidden)] // Only the programs use it.
    pub fn foreign_caches_by(&self, now: &Inputs) -> Vec<CacheStatus> {
        let mut caches = self.foreign_caches();
        for owner in [Owner::System, Owner::User] {
            let fresh = caches.iter_mut();
            let mut fresh = fresh
                .filter(|cache| cache.owner == owner && cache.stale.is_none())
                .peekable();
            if fresh.peek().is_some() {
                let why = self.why_outdated(owner, now);
                fresh.for_each(|cache| cache.stale = why);
            }
        }
        caches
    }

    /// Why the last touch does not tell of the modules of now; `None` if it does.
    fn why_outdated(&self, owner: Owner, now: &Inputs) -> Option<Staleness> {
        let (root, name) = (self.root(), self.name());
        // Root's caches in root's home follow the system's stamp, like all of root's.
        let stamp = match (owner, Stamp::own(root, name).ok()?) {
            (Owner::User, own) => own,
            (Owner::System, _) => Stamp::system(root, name).ok()?,
        };
        let looked = self.as_updated_by(stamp.owner());
        let kept = KeptWitness::read(&looked, &stamp);
        match kept.judge_by_whole(now, self, &looked).reasons() {
            [] => None,
            [Reason::NothingKept] => Some(Staleness::Unknown),
            _ => Some(Staleness::Changed),
        }
    }

    /// Like [`Profile::foreign_caches_by`], by the stamps alone.
    #[doc(hidden)] // Only the programs use it.
    pub fn foreign_caches(&self) -> Vec<CacheStatus> {
        let profile = &self.of_packages();
        let stamps = Stamps::of(profile);
        let rounds =
            [Owner::System, Owner::User].map(|owner| Round::seen_by_anybody(profile, owner));
        let mut all = Vec::new();
        for round in rounds.into_iter().flatten() {
            let (owner, record) = (round.stamp.owner(), Record::read(&round.stamp));
            for cache in &round.caches {
                let found = Found::search(profile.root(), &globs(cache, profile));
                let files = found.files.iter();
                let mut errors = found.errors;
                errors.retain(|error| !is_for_root(owner, error));
                let last = record.last(cache).cloned();
                all.push(CacheStatus {
                    owner,
                    cache: cache.to_string(),
                    remedy: cache.remedy.to_string(),
                    is_by_command: is_command(cache),
                    files: files.map(|it| profile.root().outside(&it.path)).collect(),
                    errors,
                    stale: match &last {
                        None => Some(Staleness::Never),
                        Some(last) if last.result == RemedyResult::Failed => {
                            Some(Staleness::Failed)
                        }
                        Some(last) if last.is_for(owner, stamps) => None,
                        Some(_) => Some(Staleness::Touched),
                    },
                    last,
                });
            }
        }
        all
    }
}

/// Whether the caller lacks the right to search a system's cache. Root has it, so nothing is wrong.
fn is_for_root(owner: Owner, error: &Error) -> bool {
    let is_shut = match error {
        Error::System { cause, .. } => cause.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    is_shut && owner == Owner::System && !rustix::process::geteuid().is_root()
}
