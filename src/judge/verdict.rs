//! The verdict on a stored witness: fresh, or stale with every reason.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::ground::error::Error;
use crate::ground::time::{Mtime, Precision};
use crate::judge::compare::{differences, link_difference, stamp_differences};
use crate::judge::difference::Difference;
use crate::judge::reason::Reason;
use crate::observe::inputs::Inputs;
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;
use crate::observe::stamps::Stamps;

/// The version of a verdict as JSON. It moves when a reader of an earlier one could be misled.
const VERSION: u32 = 2;

/// Tells whether a cached answer still holds.
///
/// With serde it is data, `{"version":2,"fresh":false,"reasons":[…]}`, which
/// `packaging/verdict-2.schema.json` describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that the answer depends on is different.
    Fresh,
    /// Something is different, or cannot be known to be the same. There is at least one reason.
    Stale(Vec<Reason>),
}

impl Verdict {
    /// The number of reasons that a person reads, for [`Verdict::reasons_for_people`].
    #[doc(hidden)] // Only the programs use it.
    pub const MOST_LINES: usize = 10;

    /// Whether nothing is different.
    pub fn is_fresh(&self) -> bool {
        *self == Verdict::Fresh
    }

    /// Every reason. A fresh verdict has none.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Verdict::Fresh => &[],
            Verdict::Stale(reasons) => reasons,
        }
    }

    /// The reasons as sentences, in at most `most` lines. If there are more, the last line counts
    /// the rest. If that would hide one that says that something is not known, such reasons come
    /// first: they last until somebody acts. Times are in UTC.
    pub fn reasons_for_people(&self, most: usize) -> Vec<String> {
        self.reasons_with_times(most, Mtime::utc)
    }

    /// Like [`Verdict::reasons_for_people`], with times as `show` shows them.
    #[doc(hidden)] // Only the programs use it.
    pub fn reasons_with_times(
        &self,
        most: usize,
        show: fn(Mtime, Precision) -> String,
    ) -> Vec<String> {
        let mut reasons: Vec<&Reason> = self.reasons().iter().collect();
        let shown = match reasons.len() {
            all if all <= most => all,
            _ => most.saturating_sub(1),
        };
        if reasons[shown..].iter().any(|reason| reason.is_unknown()) {
            reasons.sort_by_key(|reason| !reason.is_unknown());
        }
        let mut lines: Vec<String> = reasons[..shown]
            .iter()
            .map(|it| it.sentence(show))
            .collect();
        if shown < reasons.len() {
            let rest = reasons.len() - shown;
            lines.push(format!("and {rest} more"));
        }
        lines
    }

    /// The verdict that these reasons make: fresh if there are none.
    pub(crate) fn of_reasons(reasons: Vec<Reason>) -> Verdict {
        match reasons.is_empty() {
            true => Verdict::Fresh,
            false => Verdict::Stale(reasons),
        }
    }

    /// The verdict on an observation, by the inputs of now. Contents are read if they are needed.
    pub(crate) fn of(then: &Observation, now: &Inputs) -> Verdict {
        if let Some(other) = other_profile(then, &now.observation().profile) {
            return other;
        }
        let now = &*now.narrowed_to(then);
        let reason = |difference| match difference {
            Difference::Reason(reason) => Some(reason),
            Difference::ContentNeeded(needed) => {
                let (input, path) = (needed.subject.input, needed.subject.path.clone());
                let content = now.content(input, needed.entry, path);
                needed.settle(content)
            }
        };
        let found = differences(then, now.observation()).into_iter();
        let mut reasons: Vec<Reason> = found.filter_map(reason).collect();
        // Most often, another reason explains why files lead to other libraries.
        let is_explained = |reason: &Reason| {
            matches!(
                reason,
                Reason::Added(_)
                    | Reason::Removed(_)
                    | Reason::Changed { .. }
                    | Reason::Variable { .. }
            )
        };
        if !reasons.iter().any(is_explained) {
            reasons.extend(link_difference(then, now.observation()));
        }
        Verdict::of_reasons(reasons)
    }

    /// The verdict on an observation by the stamps alone.
    pub(crate) fn of_stamps(then: &Observation, profile: &Profile) -> Verdict {
        other_profile(then, profile.name()).unwrap_or_else(|| {
            Verdict::of_reasons(stamp_differences(then.stamps, Stamps::of(profile)))
        })
    }
}

fn other_profile(then: &Observation, profile: &str) -> Option<Verdict> {
    (then.profile != profile).then(|| {
        let (old, new) = (then.profile.clone(), profile.to_owned());
        Verdict::Stale(vec![Reason::Profile { old, new }])
    })
}

/// A text that is no witness is stale, with that as the reason.
impl From<Error> for Verdict {
    fn from(error: Error) -> Verdict {
        let error = error.to_string();
        Verdict::Stale(vec![Reason::Witness { error }])
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut verdict = out.serialize_struct("Verdict", 3)?;
        verdict.serialize_field("version", &VERSION)?;
        verdict.serialize_field("fresh", &self.is_fresh())?;
        verdict.serialize_field("reasons", self.reasons())?;
        verdict.end()
    }
}
