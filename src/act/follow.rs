//! The follow-up of a touch or an update: the caches of other programs that the profile names are
//! made good.
//!
//! One of them is libvirt's, which has a rule of its own. Without the feature `libvirt` that is left
//! out.

use std::path::PathBuf;

#[cfg(feature = "libvirt")]
use crate::act::libvirt::own_cache::update_own;
#[cfg(feature = "libvirt")]
use crate::act::libvirt::refresh;
#[cfg(feature = "libvirt")]
use crate::act::libvirt::refreshed::Refreshed;
use crate::act::remedy::cure::Cure;
use crate::act::remedy::round::{Commands, Rounds, Which};
use crate::ground::error::{Error, Result};
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
    rounds: Rounds,
    /// The sentence about a profile of which libvirt caches nothing. No later refresh does more.
    warning: Option<String>,
    /// The error that kept libvirt from being refreshed.
    failed: Option<Error>,
}

impl Followed {
    /// Makes caches good after a touch, without any command.
    ///
    /// `commands` tells who makes those good that need one. `inputs` are those of before the touch,
    /// if there was a look at them. `directories` are the module directories that changed, if the
    /// caller knows them. All waiting ends at `deadline`.
    pub(crate) fn after_touch(
        profile: &Profile,
        stamp: &Stamp,
        inputs: Option<Inputs>,
        directories: &[PathBuf],
        commands: Commands,
        durability: Durability,
        deadline: Deadline,
    ) -> Followed {
        let libvirt = Followed::libvirt_after_touch(
            profile,
            stamp,
            inputs,
            directories,
            durability,
            deadline,
        );
        let owner = stamp.owner();
        Followed {
            rounds: Rounds::after_touch(profile, owner, commands, deadline),
            ..libvirt
        }
    }

    /// Makes stale caches good after an update, which has touched the stamp if it was due.
    pub(crate) fn after_update(
        profile: &Profile,
        stamp: &Stamp,
        inputs: Inputs,
        commands: Commands,
        durability: Durability,
    ) -> Followed {
        let libvirt = Followed::libvirt_after_update(profile, stamp, inputs, durability);
        Followed {
            rounds: Rounds::run(profile, Which::Stale, commands, durability),
            ..libvirt
        }
    }

    /// Makes caches good because somebody asked for it. All of them, or only stale ones.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub(crate) fn after_refresh(
        profile: &Profile,
        stamp: &Stamp,
        which: Which,
        durability: Durability,
    ) -> Result<Followed> {
        let libvirt = Followed::libvirt_after_refresh(profile, stamp, which, durability)?;
        Ok(Followed {
            rounds: Rounds::run(profile, which, Commands::Run, durability),
            ..libvirt
        })
    }

    /// What was done for each stale cache but libvirt's.
    pub(crate) fn cures(&self) -> &[Cure] {
        &self.rounds.cures
    }

    /// Adds to an event what was done.
    pub(crate) fn tell(&self, event: &mut Event) {
        #[cfg(feature = "libvirt")]
        if let Some(refreshed) = &self.refreshed {
            refreshed.tell(event);
        }
        self.rounds.tell(event);
    }

    /// The warnings for people, one sentence each.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &str> {
        #[cfg(feature = "libvirt")]
        let refreshed = self.refreshed.iter().flat_map(|done| &done.warnings);
        #[cfg(not(feature = "libvirt"))]
        let refreshed = [].iter();
        let all = refreshed.chain(&self.rounds.warnings).chain(&self.warning);
        all.map(String::as_str)
    }

    /// Takes out the error that kept libvirt from being refreshed.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Takes out the errors of all other caches.
    pub(crate) fn take_errors_of_cures(&mut self) -> Vec<Error> {
        self.rounds.take_errors()
    }
}

#[cfg(feature = "libvirt")]
impl Followed {
    fn libvirt_after_touch(
        profile: &Profile,
        stamp: &Stamp,
        inputs: Option<Inputs>,
        directories: &[PathBuf],
        durability: Durability,
        deadline: Deadline,
    ) -> Followed {
        let is_due = profile.refreshes_libvirt() && stamp.owner() == Owner::System;
        let Some(inputs) = inputs.filter(|_| is_due) else {
            return Followed::default();
        };
        let refreshed = refresh::refresh_too(profile, inputs, directories, durability, deadline);
        Followed::from(refreshed.map(Some))
    }

    /// For a user, only removes stale answers from the user's own cache.
    fn libvirt_after_update(
        profile: &Profile,
        stamp: &Stamp,
        inputs: Inputs,
        durability: Durability,
    ) -> Followed {
        if !profile.refreshes_libvirt() {
            return Followed::default();
        }
        Followed::from(match stamp.owner() {
            Owner::System => refresh::update(profile, inputs, durability),
            Owner::User => update_own(profile, inputs, stamp, durability),
        })
    }

    fn libvirt_after_refresh(
        profile: &Profile,
        stamp: &Stamp,
        which: Which,
        durability: Durability,
    ) -> Result<Followed> {
        Ok(match (which, stamp.owner()) {
            _ if !profile.refreshes_libvirt() => Followed::default(),
            (Which::All, Owner::System) => {
                Followed::from(refresh::asked_for(profile, durability).map(Some))
            }
            (Which::Stale, _) | (_, Owner::User) => {
                let inputs = Inputs::of(profile, None)?;
                Followed::libvirt_after_update(profile, stamp, inputs, durability)
            }
        })
    }

    /// The refresh; `None` if there was none, or if it failed.
    pub(crate) fn refreshed(&self) -> Option<&Refreshed> {
        self.refreshed.as_ref()
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
}

#[cfg(not(feature = "libvirt"))]
impl Followed {
    fn libvirt_after_touch(
        _: &Profile,
        _: &Stamp,
        _: Option<Inputs>,
        _: &[PathBuf],
        _: Durability,
        _: Deadline,
    ) -> Followed {
        Followed::default()
    }

    fn libvirt_after_update(_: &Profile, _: &Stamp, _: Inputs, _: Durability) -> Followed {
        Followed::default()
    }

    fn libvirt_after_refresh(_: &Profile, _: &Stamp, _: Which, _: Durability) -> Result<Followed> {
        Ok(Followed::default())
    }
}
