//! A touch by a person or a trigger: moves the stamp, and keeps the modules as they are now.

use std::path::PathBuf;
use std::time::Duration;

use crate::act::follow::Followed;
use crate::act::kept_witness;
use crate::act::patience::{NoResult, within};
use crate::act::remedy::cure::Cure;
use crate::act::remedy::round::Commands;
use crate::act::trigger::Due;
use crate::ground::error::Result;
use crate::ground::time::{Deadline, Mtime};
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;
use crate::stamp::event::{Event, TOUCHED};
use crate::stamp::stamp::{Durability, Stamp};
use crate::stamp::turn::{Kept, Turn};

/// The longest look at the modules. A hanging file system must hold up no transaction.
const PATIENCE: Duration = Duration::from_secs(2);

/// The result of a touch.
#[derive(Debug)]
#[non_exhaustive]
pub struct Touched {
    /// The mtime that the stamp has now.
    pub mtime: Mtime,
    followed: Followed,
    warnings: Vec<String>,
}

impl Touched {
    /// The warnings for people, one sentence each, of the touch and of its follow-up.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let own = self.warnings.iter().map(String::as_str);
        own.chain(self.followed.warnings())
    }

    /// What was done for each stale cache of another program but libvirt's.
    #[doc(hidden)] // Only the programs use it.
    pub fn cures(&self) -> &[Cure] {
        self.followed.cures()
    }

    /// The refresh of libvirt; `None` if the profile asks for none, or if it failed.
    #[cfg(feature = "libvirt")]
    pub fn refreshed(&self) -> Option<&crate::act::libvirt::refreshed::Refreshed> {
        self.followed.refreshed()
    }
}

impl Profile {
    /// Touches a stamp of this profile, so that every older answer is stale.
    ///
    /// Keeps a witness of the modules beside the stamp. Then it makes the caches of other programs
    /// good that the profile names, without any command: it removes files, and after a touch of the
    /// system's stamp refreshes libvirt. `directories` are the module directories
    /// that changed; if there are none, all count. `None` while an image is built: see
    /// [`Stamp::touch`].
    ///
    /// # Errors
    /// Like [`Stamp::touch`]. All other trouble is a warning.
    pub fn touch(
        &self,
        stamp: &Stamp,
        by: &str,
        why: &str,
        directories: &[PathBuf],
        durability: Durability,
    ) -> Result<Option<Touched>> {
        let due = Due::now(self.name(), stamp.clone(), by, why);
        self.touch_due(&due, directories, durability, &mut Vec::new())
    }

    /// Like [`Profile::touch`], for the programs. A trigger has one deadline for all its waiting.
    ///
    /// If the stamp cannot be touched, the warnings of all else are added to `warnings`.
    ///
    /// # Errors
    /// Like [`Stamp::touch`].
    #[doc(hidden)] // Only the programs use it.
    pub fn touch_due(
        &self,
        due: &Due,
        directories: &[PathBuf],
        durability: Durability,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Touched>> {
        let (stamp, deadline) = (&due.stamp, due.deadline);
        if stamp.waits_for_first_boot()? {
            return Ok(None);
        }
        let profile = &self.as_updated_by(stamp.owner());
        let look = || Ok(glance(profile, stamp, deadline));
        let seen = stamp.look(Kept::Witness, look)?;
        let turn = stamp.take_turn_by(deadline);
        let mut own = Vec::new();
        let looked = stamp.look_again_if_changed(seen, look)?;
        if let Err(why) = &looked {
            own.push(without_look(profile, why, turn.is_ok()));
        }
        let (inputs, observation) = looked.ok().unzip();
        let touched = turn.and_then(|turn| {
            own.extend(turn.absurd_time());
            let mtime = turn.move_stamp(due.by, due.why, durability)?;
            own.extend(turn.missing_lock());
            let kept = observation.map(|observation| keep(&turn, observation, mtime));
            let lost = kept.and_then(Result::err);
            own.extend(lost.map(|error| error.to_string()));
            turn.end(durability).map(|()| mtime)
        });
        // Caches can be made good even if the stamp cannot be touched.
        let inputs = inputs.map(|inputs| match touched {
            Ok(mtime) => inputs.with_stamp(stamp.owner(), mtime),
            Err(_) => inputs,
        });
        let commands = due
            .manager
            .map_or(Commands::Leave, Commands::LeaveToPackages);
        let mut followed = Followed::after_touch(
            profile,
            stamp,
            inputs,
            directories,
            commands,
            durability,
            deadline,
        );
        // The stamp is what a touch is for, so all else is a warning.
        own.extend(followed.take_error().map(|error| error.to_string()));
        // The touch and the refresh may lack the same lock. People read of it once.
        own.retain(|warning| followed.warnings().all(|other| other != warning));
        let mut event = Event::begin(due.action(), due.by, due.why);
        match &touched {
            Ok(_) => event.add(TOUCHED),
            Err(error) => event.fail([error]),
        }
        followed.tell(&mut event);
        event.warn(own.iter().map(String::as_str).chain(followed.warnings()));
        let not_logged = stamp.log(&event.end(deadline.spent()));
        let of_cures = followed.take_errors_of_cures().into_iter();
        own.extend(of_cures.map(|error| error.to_string()));
        // If the stamp cannot be touched either, its error tells enough.
        own.extend(not_logged.filter(|_| touched.is_ok()));
        match touched {
            Ok(mtime) => Ok(Some(Touched {
                mtime,
                followed,
                warnings: own,
            })),
            Err(error) => {
                let all = own.into_iter();
                let all = all.chain(followed.warnings().map(str::to_owned));
                // The refresh of libvirt may have met the same obstacle.
                let told = error.to_string();
                warnings.extend(all.filter(|warning| *warning != told));
                Err(error)
            }
        }
    }
}

/// Keeps the observation that was made before the touch. Losing it in a power cut costs at most one
/// touch.
fn keep(turn: &Turn, observation: Observation, mtime: Mtime) -> Result<()> {
    kept_witness::keep(turn, observation, mtime, Durability::NotSynced)
}

/// Tells people that only the stamp is touched, if it can be.
fn without_look(profile: &Profile, why: &str, is_touched: bool) -> String {
    let update = profile.command("update");
    match is_touched {
        true => format!("{why}, so only the stamp was touched; “{update}” does the rest"),
        false => format!("{why}; “{update}” tries again"),
    }
}

/// A quick look at the modules: by stat, with the contents for which stat is no evidence.
///
/// # Errors
/// The reason why there is none, as the beginning of a sentence. A look that takes longer than
/// [`PATIENCE`], or that `deadline` cuts off, is one.
fn glance(
    profile: &Profile,
    stamp: &Stamp,
    deadline: Deadline,
) -> std::result::Result<(Inputs, Observation), String> {
    let patience = deadline.left().min(PATIENCE);
    if patience.is_zero() {
        return Err("no time was left to look at the modules".to_owned());
    }
    let (profile, stamp) = (profile.clone(), stamp.clone());
    let look = move || -> Result<(Inputs, Observation)> {
        let kept = kept_witness::read_beside(&stamp);
        let known = kept.as_ref().map(|kept| &kept.observation);
        let inputs = Inputs::soon_after_changes(&profile, known)?;
        let observation = inputs.clone().read(Depth::Doubtful, known.as_slice());
        Ok((inputs, observation))
    };
    let looked = within(patience, look).map_err(|why| match why {
        NoResult::TooLate => format!(
            "the modules could not be looked at within {:.1} seconds",
            patience.as_secs_f32()
        ),
        NoResult::Failed => "the look at the modules failed".to_owned(),
        NoResult::NotBegun(error) => {
            format!("no thread could be started to look at the modules: {error}")
        }
    })?;
    looked.map_err(|error| format!("the modules could not be looked at ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_after_a_touch_without_a_look_is_for_the_same_profile() {
        let advice =
            |name, is_touched| without_look(&Profile::new(name).unwrap(), "too late", is_touched);
        let update = "“modstamp update --profile toy”";
        assert!(advice("toy", true).ends_with(&format!("; {update} does the rest")));
        assert!(advice("toy", false).ends_with(&format!("; {update} tries again")));
        assert!(advice("qemu", true).ends_with("; “modstamp update” does the rest"));
    }
}
