//! The follow-up of a touch or an update: libvirt probes again, if the profile says so.
//!
//! Without the feature `libvirt` nothing follows.

use std::path::PathBuf;

#[cfg(feature = "libvirt")]
use crate::act::libvirt::own_cache::update_own;
#[cfg(feature = "libvirt")]
use crate::act::libvirt::refresh;
#[cfg(feature = "libvirt")]
use crate::act::libvirt::refreshed::Refreshed;
use crate::ground::error::Error;
#[cfg(feature = "libvirt")]
use crate::ground::error::Result;
use crate::ground::time::Deadline;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::event::Event;
#[cfg(feature = "libvirt")]
use crate::stamp::stamp::Owner;
use crate::stamp::stamp::{Durability, Stamp};

/// The result of the follow-up.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    #[cfg(feature = "libvirt")]
    refreshed: Option<Refreshed>,
    /// The sentence about a profile of which libvirt caches nothing. No later refresh does more.
    warning: Option<String>,
    /// The error that kept libvirt from being refreshed.
    failed: Option<Error>,
}

#[cfg(feature = "libvirt")]
impl Followed {
    /// Refreshes libvirt after a touch of the system's stamp. `directories` are the module
    /// directories that changed, if the caller knows them. The wait for a turn ends at `deadline`.
    pub(crate) fn after_touch(
        profile: &Profile,
        stamp: &Stamp,
        inputs: Inputs,
        directories: &[PathBuf],
        durability: Durability,
        deadline: Deadline,
    ) -> Followed {
        if !profile.refreshes_libvirt || stamp.owner() == Owner::User {
            return Followed::default();
        }
        let refreshed = refresh::refresh_too(profile, inputs, directories, durability, deadline);
        Followed::from(refreshed.map(Some))
    }

    /// Refreshes libvirt after an update, if anything is not as at the last refresh. For a user,
    /// only removes stale answers from the user's own cache.
    pub(crate) fn after_update(
        profile: &Profile,
        stamp: &Stamp,
        inputs: Inputs,
        durability: Durability,
    ) -> Followed {
        if !profile.refreshes_libvirt {
            return Followed::default();
        }
        Followed::from(match stamp.owner() {
            Owner::System => refresh::update(profile, inputs, durability),
            Owner::User => update_own(profile, inputs, stamp, durability),
        })
    }

    /// The refresh; `None` if there was none, or if it failed.
    pub(crate) fn refreshed(&self) -> Option<&Refreshed> {
        self.refreshed.as_ref()
    }

    /// Adds to an event what the refresh did.
    pub(crate) fn tell(&self, event: &mut Event) {
        if let Some(refreshed) = &self.refreshed {
            refreshed.tell(event);
        }
    }

    fn from(refreshed: Result<Option<Refreshed>>) -> Followed {
        let mut followed = Followed::default();
        match refreshed {
            Ok(refreshed) => followed.refreshed = refreshed,
            Err(error @ Error::NoProfile(_)) => followed.warning = Some(error.to_string()),
            Err(error) => followed.failed = Some(error),
        }
        followed
    }

    /// The warnings for people, one sentence each.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &str> {
        let refreshed = self.refreshed.iter().flat_map(|done| &done.warnings);
        refreshed.chain(&self.warning).map(String::as_str)
    }
}

#[cfg(not(feature = "libvirt"))]
impl Followed {
    pub(crate) fn after_touch(
        _: &Profile,
        _: &Stamp,
        _: Inputs,
        _: &[PathBuf],
        _: Durability,
        _: Deadline,
    ) -> Followed {
        Followed::default()
    }

    pub(crate) fn after_update(_: &Profile, _: &Stamp, _: Inputs, _: Durability) -> Followed {
        Followed::default()
    }

    pub(crate) fn tell(&self, _: &mut Event) {}

    pub(crate) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.warning.iter().map(String::as_str)
    }
}

impl Followed {
    /// Takes out the error that kept libvirt from being refreshed.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.failed.take()
    }
}
