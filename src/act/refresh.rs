//! A refresh: makes the caches of other programs good that a profile names, changed or not.

use std::time::Instant;

use crate::act::follow::Followed;
use crate::act::remedy::cure::Cure;
use crate::act::remedy::round::Which;
use crate::ground::environment::caller;
use crate::ground::error::{Error, Result};
use crate::observe::profile::Profile;
use crate::stamp::event::{Action, Event};
use crate::stamp::stamp::{Durability, Stamp};

/// The reason for a refresh of all caches.
const ASKED_FOR: &str = "asked for";

/// The reason for a refresh of stale caches alone.
const TOUCHED_SINCE: &str = "the stamp was touched since the last remedy, or that failed";

/// What a refresh did.
#[derive(Debug)]
pub struct RefreshedCaches {
    /// The failures. The next update tries again.
    pub errors: Vec<Error>,
    /// Why it was made, for people.
    pub why: &'static str,
    followed: Followed,
    /// The line of the log. `None` if there was nothing to do.
    event: Option<Event>,
    /// The warning about the log.
    not_logged: Option<String>,
}

impl RefreshedCaches {
    /// What was done for each cache but libvirt's.
    pub fn cures(&self) -> &[Cure] {
        self.followed.cures()
    }

    /// The refresh of libvirt; `None` if there was none, or if it failed.
    #[cfg(feature = "libvirt")]
    pub fn refreshed(&self) -> Option<&crate::act::libvirt::refreshed::Refreshed> {
        self.followed.refreshed()
    }

    /// What the log tells of it. `None` if there was nothing to do.
    #[doc(hidden)] // Only the programs use it.
    pub fn event(&self) -> Option<&Event> {
        self.event.as_ref()
    }

    /// The warnings for people, one sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.followed.warnings().chain(self.not_logged.as_deref())
    }
}

impl Profile {
    /// Makes the caches of other programs good that the profile names: root those of the system,
    /// everybody their own. `None` while an image is built: see [`Stamp::touch`].
    ///
    /// # Errors
    /// Like [`Profile::inputs`]. Other failures are in [`RefreshedCaches::errors`].
    #[doc(hidden)] // Only the programs use it.
    pub fn refresh(&self, which: Which, durability: Durability) -> Result<Option<RefreshedCaches>> {
        let begun = Instant::now();
        let stamp = &Stamp::own(self.root(), self.name())?;
        let profile = &self.as_updated_by(stamp.owner());
        if stamp.waits_for_first_boot()? {
            return Ok(None);
        }
        let why = match which {
            Which::All => ASKED_FOR,
            Which::Stale => TOUCHED_SINCE,
        };
        let mut followed = Followed::after_refresh(profile, stamp, which, durability)?;
        let mut event = Event::begin(Action::Refresh, &caller(), why);
        followed.tell(&mut event);
        let mut errors: Vec<Error> = followed.take_error().into_iter().collect();
        event.fail(&errors);
        let is_done = !event.followed.is_empty();
        event.warn(followed.warnings());
        errors.extend(followed.take_errors_of_cures());
        let event = is_done.then(|| event.end(begun.elapsed()));
        let not_logged = event.as_ref().and_then(|event| stamp.log(event));
        Ok(Some(RefreshedCaches {
            errors,
            why,
            followed,
            event,
            not_logged,
        }))
    }
}
