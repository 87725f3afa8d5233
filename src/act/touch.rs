//! A touch by a person or a trigger: moves the stamp, and keeps the modules as they are now.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use crate::act::follow::Followed;
use crate::act::kept_witness;
use crate::ground::error::Result;
use crate::ground::time::Mtime;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;
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
    warning: Option<String>,
}

impl Touched {
    /// The warnings for people, one sentence each, of the touch and of its follow-up.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let own = self.warning.iter().map(String::as_str);
        own.chain(self.followed.warnings())
    }

    /// The refresh of libvirt; `None` if the profile asks for none, or if it failed.
    #[cfg(feature = "libvirt")]
    pub fn refreshed(&self) -> Option<&crate::act::libvirt::refresh::Refreshed> {
        self.followed.refreshed()
    }
}

impl Profile {
    /// Touches a stamp of this profile, so that every older answer is stale.
    ///
    /// Keeps a witness of the modules beside the stamp. After a touch of the system's stamp, it
    /// also refreshes libvirt, if the profile says so. `directories` are the module directories
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
        if stamp.waits_for_first_boot()? {
            return Ok(None);
        }
        let profile = &self.without_variables();
        let look = || Ok(glance(profile, stamp));
        let seen = stamp.look(Kept::Witness, look)?;
        let turn = stamp.take_turn();
        let Some((inputs, observation)) = stamp.look_again_if_changed(seen, look)? else {
            let mtime = move_and_keep(turn?, None, by, why, durability)?;
            return Ok(Some(Touched {
                mtime,
                followed: Followed::default(),
                warning: Some(too_slow()),
            }));
        };
        let touched =
            turn.and_then(|turn| move_and_keep(turn, Some(observation), by, why, durability));
        // libvirt can be refreshed even if the stamp cannot be touched.
        let inputs = match touched {
            Ok(mtime) => inputs.with_stamp(stamp.owner(), mtime),
            Err(_) => inputs,
        };
        let followed = Followed::after_touch(profile, stamp, inputs, directories, durability);
        Ok(Some(Touched {
            mtime: touched?,
            followed,
            warning: None,
        }))
    }
}

/// Moves the stamp, and keeps the observation that was made before.
fn move_and_keep(
    turn: Turn,
    observation: Option<Observation>,
    by: &str,
    why: &str,
    durability: Durability,
) -> Result<Mtime> {
    let mtime = turn.move_stamp(by, why, durability)?;
    if let Some(observation) = observation {
        // Losing it in a power cut costs at most one touch.
        let _ = kept_witness::keep(&turn, observation, mtime, Durability::NotSynced);
    }
    turn.end(durability)?;
    Ok(mtime)
}

fn too_slow() -> String {
    let seconds = PATIENCE.as_secs();
    format!(
        "the modules could not be looked at within {seconds} seconds, so only the stamp was touched; \
         “modstamp update” does the rest"
    )
}

/// A quick look at the modules: by stat, with the contents for which stat is no evidence.
///
/// `None` if it takes longer than [`PATIENCE`], or fails.
fn glance(profile: &Profile, stamp: &Stamp) -> Option<(Inputs, Observation)> {
    let (profile, stamp) = (profile.clone(), stamp.clone());
    let (sender, receiver) = mpsc::channel();
    let look = move || -> Result<(Inputs, Observation)> {
        let kept = kept_witness::read_beside(&stamp);
        let known = kept.as_ref().map(|kept| &kept.observation);
        let inputs = Inputs::soon_after_changes(&profile, known)?;
        let observation = inputs.clone().read(Depth::Doubtful, known.as_slice());
        Ok((inputs, observation))
    };
    let thread = std::thread::Builder::new().spawn(move || drop(sender.send(look())));
    thread.ok()?;
    receiver.recv_timeout(PATIENCE).ok()?.ok()
}
