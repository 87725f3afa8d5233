//! The stamps of a profile at one moment.

use crate::ground::time::Mtime;
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Owner, Stamp};

/// Both stamps at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamps {
    pub(crate) system: StampState,
    pub(crate) user: StampState,
}

/// A stamp at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StampState {
    #[default]
    Absent,
    At(Mtime),
    Unreadable,
}

impl Stamps {
    /// The profile's stamps as they are now. A user without a home has no stamp.
    pub(crate) fn of(profile: &Profile) -> Stamps {
        let mut stamps = Stamps::default();
        for stamp in profile.stamps() {
            *stamps.of_mut(stamp.owner()) = StampState::of(stamp);
        }
        stamps
    }

    pub(crate) fn of_mut(&mut self, owner: Owner) -> &mut StampState {
        match owner {
            Owner::System => &mut self.system,
            Owner::User => &mut self.user,
        }
    }
}

impl StampState {
    fn of(stamp: &Stamp) -> StampState {
        match stamp.mtime() {
            Ok(None) => StampState::Absent,
            Ok(Some(mtime)) => StampState::At(mtime),
            Err(_) => StampState::Unreadable,
        }
    }

    pub(crate) fn mtime(self) -> Option<Mtime> {
        match self {
            StampState::At(mtime) => Some(mtime),
            StampState::Absent | StampState::Unreadable => None,
        }
    }
}
