//! An inquiry: serves a stored answer while it is fresh, and otherwise has its caller probe.
//!
//! The order makes it safe. Look for a fresh answer. Take the turn, and look again, because another
//! caller may just have probed. Observe, then probe, then look at the inputs once more. Store the
//! answer only if nothing moved.
//!
//! The probe may ask a program that takes its answer from a stale cache of its own. So these caches
//! are made good before the observation, and an answer of one that is stale is not stored.
//!
//! Trouble with the shelf or the inputs never costs the caller an answer. The probe runs, and its
//! answer is returned without being kept.

use std::ffi::OsString;
use std::path::Path;

use crate::act::not_kept::NotKept;
use crate::act::remedy::before_probe::Sources;
use crate::act::shelf::{Finding, Shelf};
use crate::act::stored::{Parts, Stored};
use crate::files::lock::Lock;
use crate::ground::text::Printable;
use crate::judge::reason::Reason;
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;

/// A question, and the place of its answer.
pub(crate) struct Inquiry<'a> {
    pub(crate) profile: &'a Profile,
    /// The caller's profile, whose caches are made good before a probe.
    pub(crate) whole: &'a Profile,
    /// A program that counts besides those of the profile.
    pub(crate) command: Option<&'a Path>,
    pub(crate) ask: Ask,
    /// One line that tells this question from others.
    pub(crate) question: String,
    pub(crate) shelf: &'a Shelf,
    /// The answer's name on the shelf.
    pub(crate) name: OsString,
}

/// When a probe is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// If no fresh answer is stored.
    IfNeeded,
    /// Whatever is stored.
    Anew,
}

/// Whether the stored answer will do.
pub(crate) enum Standing<'a> {
    Fresh(Stored),
    /// A probe is due. The verdict is that on the stored answer, if there is one.
    Due(Option<Verdict>, Due<'a>),
}

/// A probe that is due: the inputs were observed, and the turn is held until this is gone.
pub(crate) struct Due<'a> {
    inquiry: &'a Inquiry<'a>,
    before: Result<Witness, NotKept>,
    /// Why the probe's answer may come from an outdated cache of another program.
    doubt: Option<NotKept>,
    _turn: Option<Lock>,
}

/// The result of a look at the shelf and at the inputs.
enum Seen {
    Fresh(Box<Stored>),
    Stale(Box<Stale>),
}

/// The state in which a probe is due.
struct Stale {
    /// The verdict on the stored answer, if there is one.
    verdict: Option<Verdict>,
    now: Inputs,
    /// The stored answer's observation, from which contents can be taken.
    older: Option<Observation>,
}

impl Inquiry<'_> {
    /// Looks for a fresh answer. Waits for another caller that already probes. Observes the inputs
    /// if a probe is due.
    pub(crate) fn look_up(&self) -> Standing<'_> {
        let first = match self.look() {
            Ok(Seen::Fresh(stored)) => return Standing::Fresh(*stored),
            Ok(Seen::Stale(stale)) => stale.verdict,
            Err(why) => return Standing::Due(None, self.due(Err(why), None)),
        };
        let turn = self.shelf.take_turn(&self.name);
        match self.look() {
            Ok(Seen::Fresh(stored)) => Standing::Fresh(*stored),
            Ok(Seen::Stale(mut stale)) => {
                let verdict = stale.verdict.take().or(first);
                let sources = Sources::of(self.whole);
                let before = self.observe(*stale, sources.as_ref());
                let doubt = sources.filter(|_| before.is_ok()).and_then(Sources::doubt);
                let due = self.due(before, turn);
                Standing::Due(verdict, Due { doubt, ..due })
            }
            Err(why) => Standing::Due(first, self.due(Err(why), turn)),
        }
    }

    fn due(&self, before: Result<Witness, NotKept>, turn: Option<Lock>) -> Due<'_> {
        Due {
            inquiry: self,
            before,
            doubt: None,
            _turn: turn,
        }
    }

    /// Finds the answer and judges it by the inputs of now.
    fn look(&self) -> Result<Seen, NotKept> {
        if self.ask == Ask::Anew {
            return self.nothing_stored(None);
        }
        let useless = match self.shelf.find(&self.name) {
            Finding::Answer(stored) if stored.question == self.question => {
                return self.judge(stored);
            }
            Finding::Answer(_) => {
                let path = self.shelf.path_of(&self.name);
                let path = Printable(path.as_os_str());
                Some(format!("the answer in {path} is to another question"))
            }
            Finding::Useless(why) => Some(why),
            Finding::Nothing => None,
            Finding::LeftAlone(why) => return Err(why),
        };
        let verdict = useless.map(|error| Verdict::Stale(vec![Reason::UselessAnswer { error }]));
        self.nothing_stored(verdict)
    }

    fn nothing_stored(&self, verdict: Option<Verdict>) -> Result<Seen, NotKept> {
        Ok(Seen::Stale(Box::new(Stale {
            verdict,
            now: self.inputs(None)?,
            older: None,
        })))
    }

    fn judge(&self, stored: Box<Stored>) -> Result<Seen, NotKept> {
        let older = &stored.witness.observation;
        let now = self.inputs(Some(older))?;
        let verdict = stored.witness.judge(&now);
        if verdict.is_fresh() {
            self.learn(&stored, &now);
            return Ok(Seen::Fresh(stored));
        }
        Ok(Seen::Stale(Box::new(Stale {
            verdict: Some(verdict),
            now,
            older: Some(stored.witness.observation),
        })))
    }

    /// Stores the witness with better evidence for the same contents, so that later looks read
    /// less.
    fn learn(&self, stored: &Stored, now: &Inputs) {
        if stored.witness.can_learn_from(now) {
            let observation = now.clone().read(Depth::All, &[&stored.witness.observation]);
            let witness = Witness { observation };
            let _ = self.keep(&witness, &stored.parts());
        }
    }

    fn inputs(&self, older: Option<&Observation>) -> Result<Inputs, NotKept> {
        let not_empty = self.profile.refuse_empty(self.profile.name());
        let inputs = not_empty.and_then(|()| Inputs::of(self.profile, older));
        let inputs = match self.command {
            Some(command) => inputs.and_then(|inputs| inputs.with_command(command)),
            None => inputs,
        };
        inputs.map_err(NotKept::NotObserved)
    }

    fn observe(&self, stale: Stale, sources: Option<&Sources>) -> Result<Witness, NotKept> {
        let Stale { mut now, older, .. } = stale;
        if let Some(sources) = sources {
            sources.make_good();
            now = self.inputs(older.as_ref())?;
        }
        if now.wait_if_racy() {
            // An input may have changed within that tick, after the verdict read it.
            now = self.inputs(older.as_ref())?;
        }
        let known = older.as_ref();
        let observation = now.read(Depth::All, known.as_slice());
        Ok(Witness { observation })
    }

    fn keep(&self, witness: &Witness, parts: &Parts) -> Result<(), NotKept> {
        self.shelf.keep(&self.name, &self.question, witness, parts)
    }
}

impl Due<'_> {
    /// The inputs before the probe; `None` if they could not be looked at.
    pub(crate) fn observation(&self) -> Option<&Observation> {
        Some(&self.before.as_ref().ok()?.observation)
    }

    /// Stores the probe's answer, if nothing moved while the probe ran.
    pub(crate) fn keep(self, parts: &Parts) -> Result<(), NotKept> {
        let before = self.before?;
        if let Some(why) = self.doubt {
            return Err(why);
        }
        let after = self.inquiry.inputs(None)?;
        match before.disturbed(&after) {
            Some(reason) => Err(NotKept::Disturbed(reason)),
            None => self.inquiry.keep(&before, parts),
        }
    }
}
