//! The kept witness: the modules as they were at the stamp's last touch.
//!
//! It lies beside the stamp, `/var/lib/modstamp/<profile>.witness`. It is taken before its touch.
//! So if the modules still match it, the stamp was touched after their last change.
//!
//! Every touch removes it first. A touch that looked at the modules then keeps another one. If it
//! is lost, the next update touches.
//!
//! The witness holds the time that its touch left. A reader believes it only if modstamp has not
//! touched the stamp since. So a touch outdates the witness even if it cannot remove the file.

use std::io;
use std::path::Path;

use crate::files::read::read_at_most;
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;
use crate::judge::reason::{Reason, Subject};
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::inputs::Inputs;
use crate::observe::observation::Observation;
use crate::observe::pattern::Glob;
use crate::observe::profile::Profile;
use crate::observe::stamps::Stamps;
use crate::stamp::stamp::{Durability, Owner, Stamp};
use crate::stamp::turn::{Kept, Turn};

/// The longest witness that is read, in bytes.
const MOST_BYTES: u64 = 256 << 20;

/// The kept witness that tells the caller of an update whether the modules changed.
#[derive(Debug)]
pub(crate) enum KeptWitness {
    /// The one beside the caller's own stamp.
    Own(Witness),
    /// The one beside the system's stamp, for a user. The system's stamp was touched since the
    /// user's own was, or the user has none. The inputs in the home directory are those of the
    /// user's own witness.
    OfSystem(Witness),
    /// There is none, or none that can be read and believed.
    Unknown,
}

impl KeptWitness {
    /// Reads the kept witness that counts for the system's `stamp`.
    ///
    /// # Errors
    /// If a look at it fails.
    #[cfg(feature = "cli")]
    pub(crate) fn of_system(stamp: &Stamp) -> Result<KeptWitness> {
        Ok(find_beside(stamp)?.map_or(KeptWitness::Unknown, KeptWitness::Own))
    }

    /// Reads the kept witness that counts for the caller's `stamp`.
    pub(crate) fn read(profile: &Profile, stamp: &Stamp) -> KeptWitness {
        let own = read_beside(stamp);
        if stamp.owner() == Owner::System {
            return own.map_or(KeptWitness::Unknown, KeptWitness::Own);
        }
        let now = Stamps::of(profile).system;
        let own = match own {
            Some(own) if own.observation.stamps.system == now => return KeptWitness::Own(own),
            own => own,
        };
        let mut stamps = profile.stamps().iter();
        let system = stamps.find(|stamp| stamp.owner() == Owner::System);
        let Some(mut system) = system.and_then(read_beside) else {
            return KeptWitness::Unknown;
        };
        if let Some(own) = own {
            let home = profile.named_paths_in_home();
            add_those_in_home(&mut system.observation, own.observation, &home);
        }
        KeptWitness::OfSystem(system)
    }

    /// The observation in the witness.
    pub(crate) fn observation(&self) -> Option<&Observation> {
        match self {
            KeptWitness::Own(witness) | KeptWitness::OfSystem(witness) => {
                Some(&witness.observation)
            }
            KeptWitness::Unknown => None,
        }
    }

    /// Judges whether the modules are as they were. Stamps and the caller's environment do not
    /// count. A path that the profile newly names counts only if something is there.
    pub(crate) fn judge(&self, now: &Inputs) -> Verdict {
        let (KeptWitness::Own(witness) | KeptWitness::OfSystem(witness)) = self else {
            return Verdict::Stale(vec![Reason::NothingKept]);
        };
        let mut reasons = witness.news(now);
        reasons.retain(|reason| {
            let is_stamp = matches!(reason, Reason::Stamp { .. } | Reason::UnknownStamp { .. });
            let is_of_profile = matches!(reason, Reason::NewlyNamed { .. });
            !is_stamp && !is_of_profile && !reason.is_of_process()
        });
        Verdict::of_reasons(reasons)
    }

    /// Like [`KeptWitness::judge`], by a look at the `whole` profile. `looked` is the profile by
    /// which this witness was taken. A path that only one of the two names does not count.
    pub(crate) fn judge_by_whole(
        &self,
        now: &Inputs,
        whole: &Profile,
        looked: &Profile,
    ) -> Verdict {
        let paths = |profile: &Profile| profile.named_paths(&profile.program_globs());
        let (whole, looked) = (paths(whole), paths(looked));
        let counts = |reason: &&Reason| {
            let path = subject(reason).map(|subject| subject.path.as_path());
            path.is_none_or(|path| is_in(path, &whole) == is_in(path, &looked))
        };
        let verdict = self.judge(now);
        Verdict::of_reasons(verdict.reasons().iter().filter(counts).cloned().collect())
    }

    /// A more complete witness of the same contents; `None` if there is nothing to add.
    ///
    /// A trigger has no time to read all contents. The next update does, so that a later redeploy
    /// with new inodes costs no touch.
    pub(crate) fn completed(&self, profile: &Profile, inputs: &Inputs) -> Option<Witness> {
        match self {
            KeptWitness::Own(witness) => witness.completed(profile, inputs),
            KeptWitness::OfSystem(_) | KeptWitness::Unknown => None,
        }
    }
}

/// Whether a path is one of the `named` ones, or lies below one.
pub(crate) fn is_in(path: &Path, named: &[Glob]) -> bool {
    named.iter().any(|glob| glob.rest_of(path).is_some())
}

fn subject(reason: &Reason) -> Option<&Subject> {
    match reason {
        Reason::Added(subject) | Reason::Removed(subject) | Reason::NotRead(subject) => {
            Some(subject)
        }
        Reason::Changed { subject, .. } | Reason::Unknown { subject, .. } => Some(subject),
        _ => None,
    }
}

/// Adds the inputs of a user's witness that are at the paths of `home`.
fn add_those_in_home(system: &mut Observation, own: Observation, home: &[Glob]) {
    let directories = own.directories.into_iter();
    system
        .directories
        .extend(directories.filter(|it| is_in(&it.name, home)));
    system.directories.sort_by(|a, b| a.name.cmp(&b.name));
    system.directories.dedup_by(|a, b| a.name == b.name);
    for (list, own) in [
        (&mut system.programs, own.programs),
        (&mut system.files, own.files),
    ] {
        list.extend(own.into_iter().filter(|it| is_in(&it.name, home)));
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list.dedup_by(|a, b| a.name == b.name);
    }
}

/// Reads the witness that is kept beside a stamp. `None` if there is no stamp, or no witness of its
/// last touch.
pub(crate) fn read_beside(stamp: &Stamp) -> Option<Witness> {
    find_beside(stamp).ok().flatten()
}

/// Like `read_beside`, but a look that fails is no missing witness.
fn find_beside(stamp: &Stamp) -> Result<Option<Witness>> {
    let Some(now) = stamp.mtime()? else {
        return Ok(None);
    };
    let failed = |cause| {
        let attempt = "read the witness of the modules beside";
        let remedy = "make it readable: until then nobody knows if the modules changed";
        Error::system(attempt, stamp.path(), cause, remedy)
    };
    let Some(file) = stamp.find_kept(Kept::Witness).map_err(failed)? else {
        return Ok(None);
    };
    let bytes = match read_at_most(MOST_BYTES, file) {
        Err(cause) if cause.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        read => read.map_err(failed)?,
    };
    let Ok(mut witness) = Witness::from_bytes(&bytes) else {
        return Ok(None);
    };
    let Some(then) = witness.observation.stamps.of_mut(stamp.owner()).mtime() else {
        return Ok(None);
    };
    // A plain `touch FILE` since then needs no second touch.
    let is_last = then == now || Some(then) == stamp.last_own_mtime().map_err(failed)?;
    Ok(is_last.then_some(witness))
}

/// Keeps an observation from before the touch that just left `mtime`.
///
/// # Errors
/// If it cannot be written. Until one is kept, each update touches.
pub(crate) fn keep(
    turn: &Turn,
    observation: Observation,
    mtime: Mtime,
    durability: Durability,
) -> Result<()> {
    let observation = observation.with_stamp(turn.stamp.owner(), mtime);
    let witness = Witness { observation };
    let kept = turn.keep(Kept::Witness, &witness.to_string(), durability);
    kept.map_err(|errno| {
        let attempt = "keep the witness of the modules beside";
        let remedy = "make room there: until then each update touches";
        Error::system(attempt, turn.stamp.path(), errno, remedy)
    })
}
