//! One look at a profile's inputs. Several reports share the look, so that none walks anew.

use std::sync::Arc;

use crate::act::kept_witness::KeptWitness;
use crate::ground::error::Result;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::Stamp;

/// A profile, its inputs as they are now, and the modules at the last touch of the system's stamp.
#[derive(Debug)]
pub struct Look {
    pub(crate) profile: Profile,
    /// `Unknown` also if the kept witness could not be read.
    pub(crate) kept: Arc<KeptWitness>,
    pub(crate) inputs: Inputs,
}

impl Look {
    /// Looks at a profile's inputs. A module directory that did not change since the last touch is
    /// in memory once, for `kept` and `inputs` together.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn at(profile: Profile) -> Result<Look> {
        profile.refuse_empty(profile.name())?;
        let stamp = Stamp::system(profile.root(), profile.name());
        let kept = stamp.and_then(|stamp| KeptWitness::of_system(&stamp));
        let kept = Arc::new(kept.unwrap_or(KeptWitness::Unknown));
        Ok(Look {
            inputs: Inputs::of(&profile, kept.observation())?,
            kept,
            profile,
        })
    }

    /// The profile.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Its inputs.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }
}
