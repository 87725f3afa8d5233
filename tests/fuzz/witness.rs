//! The text of a witness. A mutated one never says fresh about a changed world.

use modstamp::Witness;

use crate::profile::expect_whole;
use crate::world::{Change, Changed, World, settle};
use crate::{Reader, Target, Tried, expect_sentence};

pub const TARGET: Target = Target {
    name: "witness",
    begin: |directory| {
        let name = |number| format!("world-{number}");
        let worlds = (0..).zip(Change::ALL);
        let worlds: Vec<(Change, World)> = worlds
            .map(|(number, change)| (change, World::new(directory, &name(number))))
            .collect();
        let young = worlds.iter().map(|(_, world)| world.profile.observe());
        let young = young.map(|witness| witness.unwrap().to_string()).collect();
        settle();
        let worlds = worlds.into_iter();
        let worlds = worlds.map(|(change, world)| world.changed_by(change));
        Box::new(Text {
            worlds: worlds.collect(),
            young,
        })
    },
};

struct Text {
    /// One for each kind of change. Their profiles have different names.
    worlds: Vec<Changed>,
    /// The witnesses that hold no evidence, because they were taken at once.
    young: Vec<String>,
}

impl Reader for Text {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let settled = self.worlds.iter().map(|world| world.before.to_string());
        let young = self.young.iter().cloned();
        settled.chain(young).map(String::into_bytes).collect()
    }

    fn read(&mut self, input: &[u8]) -> Tried {
        let witness = match Witness::from_bytes(input) {
            Ok(witness) => witness,
            Err(error) => {
                expect_sentence(&error.to_string());
                return Tried::Read;
            }
        };
        expect_whole(&witness);
        let mut worlds = self.worlds.iter();
        let own = worlds.find(|it| it.world.profile.name() == witness.profile());
        let changed = own.unwrap_or(&self.worlds[0]);
        let profile = &changed.world.profile;
        let now = profile.inputs().unwrap();
        let verdict = witness.check(profile).unwrap();
        changed.expect_stale(verdict.is_fresh(), input);
        changed.expect_stale(witness.judge(&now).is_fresh(), input);
        changed.expect_stale(witness.disturbed(&now).is_none(), input);
        for reason in verdict.reasons() {
            expect_sentence(&reason.to_string());
        }
        Tried::Judged
    }
}
