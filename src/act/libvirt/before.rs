//! All that is known before a refresh moves any time: the last refresh, the inputs and a witness.

use crate::act::libvirt::last_refresh::LastRefresh;
use crate::act::libvirt::occasion::Occasion;
use crate::ground::error::Result;
use crate::judge::witness::Witness;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::Stamp;

/// All that is known before any time is moved.
pub(crate) struct Before {
    pub(crate) last: LastRefresh,
    pub(crate) inputs: Inputs,
    pub(crate) witness: Witness,
}

impl Before {
    pub(crate) fn look(profile: &Profile, stamp: &Stamp, occasion: Occasion) -> Result<Before> {
        let last = LastRefresh::read(stamp);
        let known = last.record.known().map(|last| &last.witness.observation);
        Ok(Before::of(Inputs::of(profile, known)?, last, occasion))
    }

    pub(crate) fn of(inputs: Inputs, last: LastRefresh, occasion: Occasion) -> Before {
        Before {
            witness: occasion.witness(&inputs, last.record.known()),
            last,
            inputs,
        }
    }
}
