//! The occasion of a refresh, which decides how much of the inputs it reads.

use crate::act::libvirt::judgement::is_unknown_program;
use crate::act::libvirt::moved::Patience;
use crate::act::libvirt::record::Record;
use crate::ground::error::Result;
use crate::judge::witness::Witness;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;

/// Why a refresh is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A person asked for it.
    Hand,
    /// The stamp was touched, perhaps by a trigger. There is no time to read a content if its stat
    /// identity is evidence.
    Touch,
    /// An update found that something is not as at the last refresh.
    Update,
}

impl Occasion {
    /// Makes the witness of a refresh from inputs of before it.
    pub(crate) fn witness(self, inputs: &Inputs, last: Option<&Record>) -> Witness {
        let known: Vec<_> = last.iter().map(|last| &last.witness.observation).collect();
        let observation = inputs.clone().read(self.depth(), &known);
        Witness { observation }
    }

    /// Whether the refresh may wait for the next second.
    pub(crate) fn patience(self) -> Patience {
        match self {
            Occasion::Touch => Patience::Nothing,
            Occasion::Hand | Occasion::Update => Patience::ASecond,
        }
    }

    fn depth(self) -> Depth {
        match self {
            Occasion::Touch => Depth::Doubtful,
            Occasion::Hand | Occasion::Update => Depth::All,
        }
    }

    /// Makes a new witness with the programs' new ctimes. All else in it is from before.
    ///
    /// libvirt may have probed since the programs changed. So a change that came and went
    /// meanwhile must differ from this witness.
    ///
    /// `None` if anything else changed, or if a transaction would have to wait: the caller then
    /// keeps the earlier witness.
    pub(crate) fn witness_again(
        self,
        profile: &Profile,
        before: &Witness,
    ) -> Result<Option<Witness>> {
        let mut now = Inputs::of(profile, Some(&before.observation))?;
        // The programs changed just now, and this witness knows them by stat alone.
        if self == Occasion::Touch && now.is_racy() {
            if !now.wait_if_short() {
                return Ok(None);
            }
            now = Inputs::of(profile, Some(&before.observation))?;
        }
        let after = now.clone().read(self.depth(), &[&before.observation]);
        let again = Witness {
            observation: Observation {
                programs: after.programs,
                searched: after.searched,
                ..before.observation.clone()
            },
        };
        // Programs are large. A transaction has no time to compare what is in them.
        let then = match self {
            Occasion::Touch => &again,
            Occasion::Hand | Occasion::Update => before,
        };
        let verdict = then.judge(&now);
        let is_same = verdict.reasons().iter().all(is_unknown_program);
        Ok(is_same.then_some(again))
    }
}
