//! An update: touches only if the modules are not as they were at the last touch.
//!
//! It is for hosts on which no trigger runs: images, rollbacks, `make install`. The kept witness
//! tells it the state of the modules at the last touch.

use std::time::Instant;

use crate::act::follow::Followed;
use crate::act::kept_witness::{self, KeptWitness};
use crate::act::remedy::cure::Cure;
use crate::act::remedy::round::Commands;
use crate::ground::environment::caller;
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;
use crate::judge::verdict::Verdict;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;
use crate::stamp::event::{Action, Event, TOUCHED};
use crate::stamp::stamp::{Durability, Stamp};
use crate::stamp::turn::{Kept, Turn, Versioned};

/// The most reasons that an update writes into the stamp.
const MOST_REASONS: usize = 2;

/// The reason for an update that touches no stamp and only makes libvirt probe again.
const MISSED: &str = "something changed since the last refresh of libvirt";

/// The reason for an update that touches no stamp and only makes other caches good.
const STALE: &str = "a cache was not made good since the last touch";

/// The result of an update.
#[derive(Debug)]
#[non_exhaustive]
pub struct Updated {
    /// Whether the modules are as they were at the last touch, with every reason why not.
    pub verdict: Verdict,
    /// The mtime that the stamp has now, if it was touched.
    pub touched: Option<Mtime>,
    /// The failures. The next update tries again.
    pub errors: Vec<Error>,
    warnings: Vec<String>,
    followed: Followed,
    event: Option<Event>,
}

impl Updated {
    /// The event in the log. `None` if nothing was done, because the log leaves that out.
    #[doc(hidden)] // Only the programs use it.
    pub fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }

    /// The warnings for people, one sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let own = self.warnings.iter().map(String::as_str);
        own.chain(self.followed.warnings())
    }

    /// What was done for each stale cache of another program but libvirt's.
    #[doc(hidden)] // Only the programs use it.
    pub fn cures(&self) -> &[Cure] {
        self.followed.cures()
    }

    /// The refresh of libvirt; `None` if nothing asked for one, or if it failed.
    #[cfg(feature = "libvirt")]
    pub fn refreshed(&self) -> Option<&crate::act::libvirt::refreshed::Refreshed> {
        self.followed.refreshed()
    }
}

impl Profile {
    /// Touches the caller's stamp ([`Stamp::own`]), if the modules changed since its last touch.
    ///
    /// They changed if the contents of the module directories, programs and further files differ,
    /// or if their state at that touch is not known. A user's stamp is touched only if the system's
    /// was not touched for the same modules. An update of that looks at inputs in the home
    /// directory, too. Two updates at once do the work once. If nothing
    /// changed, an update writes at most a witness that makes the next look quicker.
    ///
    /// Then it makes the stale caches of other programs good that the profile names. It runs the
    /// commands that the profile has for them, and waits for their ends. It refreshes libvirt, if
    /// the profile says so, and if something changed or libvirt missed a change. If root's refresh
    /// could move no time, an ordinary user's update removes stale answers from that user's own
    /// cache. `None` while an image is built: see [`Stamp::touch`].
    ///
    /// # Errors
    /// Like [`Profile::inputs`]. Other failures are in [`Updated::errors`].
    pub fn update(&self, durability: Durability) -> Result<Option<Updated>> {
        self.update_with(Commands::Run, durability)
    }

    /// Like [`Profile::update`], but `commands` tells whether the commands of remedies run.
    ///
    /// # Errors
    /// Like [`Profile::update`].
    #[doc(hidden)] // Only the programs use it.
    pub fn update_with(
        &self,
        commands: Commands,
        durability: Durability,
    ) -> Result<Option<Updated>> {
        let begun = Instant::now();
        let stamp = &Stamp::own(self.root(), self.name())?;
        let profile = &self.as_updated_by(stamp.owner());
        if stamp.waits_for_first_boot()? {
            return Ok(None);
        }
        let look = || Look::at(profile, stamp);
        let seen = stamp.look(Kept::Witness, look)?;
        complete(profile, stamp, &seen, durability);
        let (mut updated, inputs) = touch_if_changed(stamp, seen, look, durability)?;
        let mut followed = Followed::after_update(profile, stamp, inputs, commands, durability);
        updated.errors.extend(followed.take_error());
        updated.followed = followed;
        let event = updated.as_event();
        let of_cures = updated.followed.take_errors_of_cures();
        updated.errors.extend(of_cures);
        if let Some(event) = event {
            let event = event.end(begun.elapsed());
            updated.warnings.extend(stamp.log(&event));
            updated.event = Some(event);
        }
        Ok(Some(updated))
    }
}

impl Updated {
    /// The event for the log, without its end. `None` if nothing was done.
    fn as_event(&self) -> Option<Event> {
        let why = self.verdict.reasons_for_people(MOST_REASONS).join("; ");
        let why = match self.verdict {
            Verdict::Stale(_) => &*why,
            Verdict::Fresh if self.followed.cures().is_empty() => MISSED,
            Verdict::Fresh => STALE,
        };
        let mut event = Event::begin(Action::Update, &caller(), why);
        if self.touched.is_some() {
            event.add(TOUCHED);
        }
        self.followed.tell(&mut event);
        event.fail(&self.errors);
        let is_done = !event.followed.is_empty();
        event.warn(self.warnings());
        is_done.then_some(event)
    }
}

/// A look at the modules, judged by the kept witness.
enum Look {
    Unchanged {
        kept: KeptWitness,
        inputs: Inputs,
    },
    Changed {
        verdict: Verdict,
        inputs: Inputs,
        observation: Observation,
    },
}

impl Look {
    /// Looks by stat. Reads all contents if the modules changed, because a touch keeps them.
    fn at(profile: &Profile, stamp: &Stamp) -> Result<Look> {
        let kept = KeptWitness::read(profile, stamp);
        let known = kept.observation();
        let inputs = Inputs::of(profile, known)?;
        let verdict = kept.judge(&inputs);
        if verdict.is_fresh() {
            return Ok(Look::Unchanged { kept, inputs });
        }
        let observation = inputs.clone().read(Depth::All, known.as_slice());
        Ok(Look::Changed {
            verdict,
            inputs,
            observation,
        })
    }
}

/// Keeps a better witness of the same contents. If that fails, the old one is good enough.
fn complete(profile: &Profile, stamp: &Stamp, seen: &Versioned<Look>, durability: Durability) {
    let Look::Unchanged { kept, inputs } = &seen.value else {
        return;
    };
    let Some(witness) = kept.completed(profile, inputs) else {
        return;
    };
    if let Some(turn) = stamp.take_turn_if_unchanged(seen) {
        let _ = turn.keep(Kept::Witness, &witness.to_string(), durability);
    }
}

/// Touches the stamp if the modules changed. Also returns the inputs by which libvirt is judged
/// next.
fn touch_if_changed(
    stamp: &Stamp,
    seen: Versioned<Look>,
    look: impl FnOnce() -> Result<Look>,
    durability: Durability,
) -> Result<(Updated, Inputs)> {
    let mut updated = Updated {
        verdict: Verdict::Fresh,
        touched: None,
        errors: Vec::new(),
        warnings: Vec::new(),
        followed: Followed::default(),
        event: None,
    };
    if let Look::Unchanged { inputs, .. } = seen.value {
        return Ok((updated, inputs));
    }
    let turn = stamp.take_turn();
    let (verdict, inputs, observation) = match stamp.look_again_if_changed(seen, look)? {
        // Another update was quicker.
        Look::Unchanged { inputs, .. } => return Ok((updated, inputs)),
        Look::Changed {
            verdict,
            inputs,
            observation,
        } => (verdict, inputs, observation),
    };
    let touched = turn.and_then(|turn| move_for(turn, &verdict, observation, durability));
    updated.verdict = verdict;
    match touched {
        Ok(moved) => {
            updated.touched = Some(moved.mtime);
            updated.errors = moved.errors;
            updated.warnings = moved.warnings;
            Ok((updated, inputs.with_stamp(stamp.owner(), moved.mtime)))
        }
        Err(error) => {
            updated.errors.push(error);
            Ok((updated, inputs))
        }
    }
}

/// A stamp that an update moved.
struct Moved {
    mtime: Mtime,
    /// The failures after that.
    errors: Vec<Error>,
    warnings: Vec<String>,
}

/// Moves the stamp for the reasons of `verdict`, and keeps the observation.
fn move_for(
    turn: Turn,
    verdict: &Verdict,
    observation: Observation,
    durability: Durability,
) -> Result<Moved> {
    let why = verdict.reasons_for_people(MOST_REASONS).join("; ");
    let absurd_time = turn.absurd_time();
    let mtime = turn.move_stamp("modstamp update", &why, durability)?;
    let kept = kept_witness::keep(&turn, observation, mtime, durability);
    let warnings = absurd_time.into_iter().chain(turn.missing_lock()).collect();
    let ended = turn.end(durability);
    let errors = ended.err().into_iter().chain(kept.err()).collect();
    Ok(Moved {
        mtime,
        errors,
        warnings,
    })
}
