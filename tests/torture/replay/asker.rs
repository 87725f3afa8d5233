//! A consumer that keeps its answers itself, by the public interface.

use modstamp::{Inputs, Verdict, Witness};

use super::protocol::Kind;
use super::real::Real;

/// A consumer, and as much of an answer as it has.
#[derive(Default)]
pub struct Asker {
    inputs: Option<Inputs>,
    witness: Option<Witness>,
    probed: [Option<u8>; 2],
    as_of: Option<u8>,
    pub stored: Option<Stored>,
}

/// An answer that it keeps.
#[derive(Debug, Clone)]
pub struct Stored {
    witness: String,
    /// The content that each module was probed from.
    pub value: [u8; 2],
    /// How many changes had been made when the probe began.
    pub as_of: u8,
}

impl Asker {
    /// Looks at all inputs, if it did not.
    pub fn look(&mut self, real: &Real) {
        if self.inputs.is_none() {
            self.inputs = Some(real.profile.inputs().unwrap());
        }
    }

    /// Observes, if it did not: waits until the tick is over, and reads the contents.
    pub fn read(&mut self, real: &Real) {
        self.look(real);
        if self.witness.is_none() {
            self.witness = self.inputs.as_ref().map(Inputs::witness);
        }
    }

    /// Probes a module, after it observed.
    pub fn probe(&mut self, real: &Real, module: usize, changes: u8) {
        self.read(real);
        self.as_of.get_or_insert(changes);
        self.probed[module] = Some(real.content(module));
    }

    /// Stores the answer, unless something was disturbed. Returns whether it did.
    pub fn end(&mut self, real: &Real, kind: Kind, changes: u8) -> bool {
        for module in 0..2 {
            if self.probed[module].is_none() {
                self.probe(real, module, changes);
            }
        }
        let witness = self.witness.take().unwrap();
        let is_kept = match kind {
            Kind::StampOnly => witness.check_stamps(&real.profile).is_fresh(),
            Kind::Folding => {
                let after = real.profile.inputs().unwrap();
                witness.disturbed(&after).is_none()
            }
        };
        if is_kept {
            self.stored = Some(Stored {
                witness: witness.to_string(),
                value: self.probed.map(Option::unwrap),
                as_of: self.as_of.unwrap(),
            });
        }
        self.stop();
        is_kept
    }

    /// Forgets the answer that it was about to get.
    pub fn stop(&mut self) {
        let stored = self.stored.take();
        *self = Asker {
            stored,
            ..Asker::default()
        };
    }

    /// The verdict on the stored answer; `None` if there is none.
    pub fn check(&self, real: &Real, kind: Kind) -> Option<Verdict> {
        let witness: Witness = self.stored.as_ref()?.witness.parse().unwrap();
        if kind == Kind::StampOnly {
            return Some(witness.check_stamps(&real.profile));
        }
        let verdict = witness.check(&real.profile).unwrap();
        let by_one_look = witness.judge(&real.profile.inputs().unwrap());
        assert_eq!(verdict, by_one_look);
        Some(verdict)
    }

    /// Takes over the stat identities of now, after a check that said fresh.
    pub fn learn(&mut self, real: &Real) {
        let Some(stored) = &mut self.stored else {
            return;
        };
        let old: Witness = stored.witness.parse().unwrap();
        let new = real.profile.observe_again(&old).unwrap();
        let after = real.profile.inputs().unwrap();
        if old.judge(&after).is_fresh() && new.disturbed(&after).is_none() {
            stored.witness = new.to_string();
        }
    }
}
