//! An update: a touch where the modules are not what they were at the last one, for hosts where no trigger runs.
//!
//! What they were then is kept beside the stamp, `/var/lib/modstamp/<profile>.witness`: a witness that was taken before
//! that touch was made. So whoever finds the same modules as it has knows that the stamp was touched since they became
//! so. Every touch removes it first, and who looked at the modules keeps another; in between, one of the same contents that
//! knows better stat identities may take its place. Who loses it loses no more than that: the next update touches.
//!
//! While an image is built (`SOURCE_DATE_EPOCH`) none is kept, because the stat identities in it would differ from build
//! to build, and so the first boot's update touches.

use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

#[cfg(feature = "libvirt")]
use crate::act::libvirt::{self, Refreshed};
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;
use crate::judge::reason::Reason;
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::inputs::{Inputs, Stamps};
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Owner, Stamp, Turn, build_time, keep};

/// What the name of the kept witness ends with.
pub(crate) const EXTENSION: &str = "witness";

/// As a stored witness's.
const MOST_BYTES: u64 = 256 << 20;

/// How long a touch looks at the modules. A file system that hangs must not keep the stamp from moving, nor a transaction.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a touch did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Touched {
    /// The mtime that the stamp has now.
    pub mtime: Mtime,
    /// What was done for libvirt, where the profile says so.
    #[cfg(feature = "libvirt")]
    pub refreshed: Option<Refreshed>,
    warnings: Vec<String>,
}

/// What an update did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Updated {
    /// Whether the modules are what they were at the last touch, with every reason why not.
    pub verdict: Verdict,
    /// The mtime that the stamp has now, if it was touched.
    pub touched: Option<Mtime>,
    /// What was done for libvirt, if anything was.
    #[cfg(feature = "libvirt")]
    pub refreshed: Option<Refreshed>,
    /// What could not be done or kept, and so is tried again by the next update.
    pub errors: Vec<Error>,
}

impl Touched {
    /// What a person should know of, one sentence each, of the touch and of the refresh.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let warnings = self.warnings.iter();
        #[cfg(feature = "libvirt")]
        let warnings = warnings.chain(self.refreshed.iter().flat_map(|done| &done.warnings));
        warnings.map(String::as_str)
    }
}

impl Profile {
    /// Touches `stamp`, one of this profile's, and keeps beside it what the modules were. Refreshes libvirt with the system's
    /// stamp, where the profile says so, by the module `directories` that changed, as [`libvirt::refresh`].
    ///
    /// # Errors
    /// As [`Stamp::touch`]. All other trouble is a warning.
    pub fn touch(
        &self,
        stamp: &Stamp,
        by: &str,
        why: &str,
        directories: &[PathBuf],
        durability: Durability,
    ) -> Result<Touched> {
        let mut warnings = Vec::new();
        let profile = &self.without_variables();
        let Some(mut look) = Look::within(PATIENCE, profile, stamp) else {
            if build_time().is_none() {
                let seconds = PATIENCE.as_secs();
                warnings.push(format!(
                    "looking at the modules takes more than {seconds} seconds, so only the stamp was touched; \
                     “modstamp update” does the rest"
                ));
            }
            let mtime = stamp.touch(by, why, durability)?;
            return Ok(Touched {
                mtime,
                #[cfg(feature = "libvirt")]
                refreshed: None,
                warnings,
            });
        };
        let mut touch = || {
            let turn = stamp.take_turn()?;
            let mut is_known = true;
            if stamp.mark(EXTENSION) != look.mark {
                // Somebody touched since, perhaps for what came after the look.
                match Look::within(PATIENCE, profile, stamp) {
                    Some(again) => look = again,
                    None => is_known = false,
                }
            }
            let mtime = stamp.touch_in(&turn, by, why, durability)?;
            look.inputs.stamped(stamp.owner(), mtime);
            look.witness.observation.stamps = look.inputs.observation.stamps;
            if is_known {
                // Not synced: where it does not reach the disk, it costs one touch.
                let _ = write(&turn, stamp, &look.witness, Durability::NotSynced);
            }
            stamp.sync(turn, durability)?;
            Ok(mtime)
        };
        let touched = touch();
        // Also where the stamp cannot be touched.
        #[cfg(feature = "libvirt")]
        let refreshed = (stamp.owner() == Owner::System && self.refreshes_libvirt())
            .then(|| libvirt::refresh_too(profile, look.inputs, directories, durability));
        #[cfg(feature = "libvirt")]
        let refreshed = refreshed.transpose().unwrap_or_else(|error| {
            warnings.push(error.to_string());
            None
        });
        #[cfg(not(feature = "libvirt"))]
        let _ = directories;
        Ok(Touched {
            mtime: touched?,
            #[cfg(feature = "libvirt")]
            refreshed,
            warnings,
        })
    }

    /// Touches the caller's stamp ([`Stamp::own`]) if the contents of the module directories, programs and further files
    /// are not what they were at its last touch, or if that is not known. Then, or where libvirt missed it, refreshes libvirt,
    /// too, where the profile says so; for a user other than root, removes what is stale from the own cache
    /// where root could move no time that libvirt looks at.
    ///
    /// Where nothing changed, nothing is written but what makes the next look quicker. Two at once do the work once. An ordinary
    /// user's stamp is touched only where the system's was not for the same modules.
    ///
    /// # Errors
    /// As [`Profile::inputs`]. What else went wrong is in [`Updated::errors`].
    pub fn update(&self, durability: Durability) -> Result<Updated> {
        let profile = &self.without_variables();
        let stamp = &Stamp::own(self.root(), self.name())?;
        if let Some(built) = build_time() {
            return update_of_image(stamp, built, durability);
        }
        let mut done = Updated::nothing();
        let kept = Kept::find(profile, stamp);
        let mut inputs = Inputs::of(profile, kept.witness.as_ref().map(|kept| &kept.observation))?;
        done.verdict = kept.judge(&inputs);
        let touched = match done.verdict {
            Verdict::Fresh => {
                kept.complete(profile, stamp, &inputs, durability);
                Ok(())
            }
            Verdict::Stale(_) => touch(profile, stamp, kept, &mut inputs, durability, &mut done),
        };
        done.errors.extend(touched.err());
        #[cfg(feature = "libvirt")]
        if self.refreshes_libvirt() {
            done.refreshed = update_libvirt(profile, stamp, inputs, durability);
        }
        Ok(done)
    }
}

#[cfg(feature = "libvirt")]
fn update_libvirt(
    profile: &Profile,
    stamp: &Stamp,
    inputs: Inputs,
    durability: Durability,
) -> Option<Refreshed> {
    let refreshed = match stamp.owner() {
        Owner::System => libvirt::update(profile, inputs, durability),
        Owner::User => libvirt::update_own(profile, inputs, stamp, durability),
    };
    // Such as where libvirt caches nothing of this profile.
    refreshed.unwrap_or_else(|error| {
        Some(Refreshed {
            is_done: true,
            warnings: vec![error.to_string()],
            ..Refreshed::default()
        })
    })
}

impl Updated {
    fn nothing() -> Updated {
        Updated {
            verdict: Verdict::Fresh,
            touched: None,
            #[cfg(feature = "libvirt")]
            refreshed: None,
            errors: Vec::new(),
        }
    }
}

/// A touch's look at the modules.
struct Look {
    /// What the stamp and the kept witness were before it.
    mark: Mark,
    inputs: Inputs,
    witness: Witness,
}

type Mark = (Option<Mtime>, Option<(u64, Mtime)>);

impl Look {
    /// By stat, with the contents for which that is no evidence. `None` where it takes longer than that, or fails, and while
    /// an image is built.
    fn within(patience: Duration, profile: &Profile, stamp: &Stamp) -> Option<Look> {
        build_time().is_none().then_some(())?;
        let (profile, stamp) = (profile.clone(), stamp.clone());
        let look = move || {
            let mark = stamp.mark(EXTENSION);
            let kept = read(&stamp);
            let inputs = Inputs::of(&profile, kept.as_ref().map(|kept| &kept.observation)).ok()?;
            if let Some(kept) = &kept {
                inputs.trust(&kept.observation);
            }
            Some(Look {
                mark,
                witness: inputs.outline(),
                inputs,
            })
        };
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().spawn(move || {
            let _ = sender.send(look());
        });
        thread.ok()?;
        receiver.recv_timeout(patience).ok()?
    }
}

/// Touches the stamp, unless another update was quicker.
fn touch(
    profile: &Profile,
    stamp: &Stamp,
    kept: Kept,
    inputs: &mut Inputs,
    durability: Durability,
    done: &mut Updated,
) -> Result<()> {
    if let Some(kept) = &kept.witness {
        inputs.trust(&kept.observation);
    }
    // Before the turn, which others wait for: reading takes its time.
    let mut witness = inputs.witness();
    let turn = stamp.take_turn()?;
    if stamp.mark(EXTENSION) != kept.mark {
        // Somebody touched since, perhaps for what came after the look.
        let kept = Kept::find(profile, stamp);
        *inputs = Inputs::of(profile, kept.witness.as_ref().map(|kept| &kept.observation))?;
        done.verdict = kept.judge(inputs);
        if done.verdict.is_fresh() {
            return Ok(());
        }
        if let Some(kept) = &kept.witness {
            inputs.trust(&kept.observation);
        }
        witness = inputs.witness();
    }
    let why = done.verdict.reasons_for_people(2).join("; ");
    let mtime = stamp.touch_in(&turn, "modstamp update", &why, durability)?;
    inputs.stamped(stamp.owner(), mtime);
    witness.observation.stamps = inputs.observation.stamps;
    done.touched = Some(mtime);
    let kept = write(&turn, stamp, &witness, durability);
    stamp.sync(turn, durability)?;
    kept.map_err(|errno| {
        let attempt = "keep what the modules were beside";
        let remedy = "make room there: until then each update touches";
        Error::system(attempt, stamp.path(), errno, remedy)
    })
}

/// Whatever is in the image, the first update on the host that it becomes is to touch.
fn update_of_image(stamp: &Stamp, built: Mtime, durability: Durability) -> Result<Updated> {
    let is_touched = stamp.mtime()?.is_some_and(|mtime| mtime >= built);
    let mut kept = [EXTENSION, "libvirt"].into_iter();
    let is_forgotten = kept.all(|extension| stamp.open_beside(extension).is_none());
    let mut done = Updated::nothing();
    let why = "an image is built, SOURCE_DATE_EPOCH says: nothing is compared";
    done.verdict = Verdict::unreadable(why);
    if !(is_touched && is_forgotten) {
        done.touched = Some(stamp.touch("modstamp update", why, durability)?);
    }
    Ok(done)
}

/// The witness by which an update knows what the modules were at the last touch.
struct Kept {
    witness: Option<Witness>,
    /// Whether it is beside the caller's own stamp.
    is_own: bool,
    /// What the own stamp and the witness beside it were before this was read.
    mark: Mark,
}

impl Kept {
    /// The one beside `stamp`. For a user, that beside the system's stamp where this was touched since, or where there is no
    /// own one: it counts for users, too.
    fn find(profile: &Profile, stamp: &Stamp) -> Kept {
        let mark = stamp.mark(EXTENSION);
        let mut witness = read(stamp);
        let mut is_own = true;
        let system = profile.stamps().iter();
        let mut system = system.filter(|stamp| stamp.owner() == Owner::System);
        if let (Owner::User, Some(system)) = (stamp.owner(), system.next()) {
            let now = Stamps::of(profile).system;
            is_own = witness
                .as_ref()
                .is_some_and(|own| own.observation.stamps.system == now);
            if !is_own {
                witness = read(system);
            }
        }
        Kept {
            witness,
            is_own,
            mark,
        }
    }

    /// Whether the modules are as they were, whatever stamps and the caller's environment say.
    fn judge(&self, now: &Inputs) -> Verdict {
        let Some(witness) = &self.witness else {
            return Verdict::unreadable("what the modules were at the last touch is not known");
        };
        let is_of_modules = |reason: &Reason| {
            !matches!(
                reason,
                Reason::Stamp { .. } | Reason::UnknownStamp { .. } | Reason::Variable { .. }
            )
        };
        let mut reasons = witness.news(now);
        reasons.retain(is_of_modules);
        match reasons.is_empty() {
            true => Verdict::Fresh,
            false => Verdict::Stale(reasons),
        }
    }

    /// Keeps one of the same contents in its place, where that spares later looks a reading. A trigger has no time to read
    /// all. Where it cannot be kept, the one that is there does as well.
    fn complete(&self, profile: &Profile, stamp: &Stamp, inputs: &Inputs, durability: Durability) {
        let kept = self.witness.as_ref().filter(|_| self.is_own);
        let Some(witness) = kept.and_then(|kept| kept.completed(profile, inputs)) else {
            return;
        };
        let Ok(turn) = stamp.take_turn() else {
            return;
        };
        if stamp.mark(EXTENSION) == self.mark {
            let _ = write(&turn, stamp, &witness, durability);
        }
    }
}

/// The witness that is kept beside `stamp`; `None` also where there is no stamp.
fn read(stamp: &Stamp) -> Option<Witness> {
    stamp.mtime().ok()??;
    let mut bytes = Vec::new();
    let file = std::fs::File::from(stamp.open_beside(EXTENSION)?);
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Witness::from_bytes(&bytes).ok()
}

fn write(
    turn: &Turn,
    stamp: &Stamp,
    witness: &Witness,
    durability: Durability,
) -> rustix::io::Result<()> {
    let name = stamp.name_beside(EXTENSION);
    keep(&turn.directory, &name, &witness.to_string(), durability)
}
