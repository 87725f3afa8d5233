//! The files that modstamp keeps and later believes: a stored answer, and the witness beside a
//! stamp.

use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};

use modstamp::{Cache, Durability, Profile, cached};

use crate::world::{Change, Changed, World, settle};
use crate::{Reader, Target, Tried, expect_sentence, is_obeyed};

/// The probe's answers. They are as long as a witness, so that as many mutations hit them.
const ANSWER_BEFORE: &[u8] = &[b'a'; 1000];
const ANSWER_NOW: &[u8] = &[b'b'; 1000];

/// The name that a cache gives to a file.
const NAME: &str = "0123456789abcdef";

pub const ANSWER: Target = Target {
    name: "answer",
    begin: |directory| {
        let [same, changed] = ["same", "changed"].map(|name| World::new(directory, name));
        settle();
        let [file, changed_file] = ["same.answer", "changed.answer"].map(|it| directory.join(it));
        ask(&same.profile, &file, ANSWER_BEFORE);
        ask(&changed.profile, &changed_file, ANSWER_BEFORE);
        let seeds = vec![fs::read(&file).unwrap(), fs::read(&changed_file).unwrap()];
        let cache = Cache::open(same.profile.root(), Path::new("/cache")).unwrap();
        Box::new(Answer {
            cache,
            in_cache: same.path("cache").join(NAME),
            same,
            changed: changed.changed_by(Change::ModuleRewritten),
            file,
            changed_file,
            seeds,
        })
    },
};

/// A stored answer about a world that stays as it is, and one about a world that changed.
struct Answer {
    same: World,
    changed: Changed,
    file: PathBuf,
    changed_file: PathBuf,
    cache: Cache,
    in_cache: PathBuf,
    seeds: Vec<Vec<u8>>,
}

/// Asks for the cached answer. The probe gives `answer`.
fn ask(profile: &Profile, file: &Path, answer: &[u8]) -> Vec<u8> {
    let given = cached(profile, file, || Ok::<_, Infallible>(answer)).unwrap();
    for reason in given.verdict.iter().flat_map(|verdict| verdict.reasons()) {
        expect_sentence(&reason.to_string());
    }
    if let Some(why) = given.not_kept {
        expect_sentence(&why.to_string());
    }
    given.bytes
}

impl Reader for Answer {
    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    /// Whatever is served is the probe's answer.
    fn read(&mut self, input: &[u8]) -> Tried {
        fs::write(&self.file, input).unwrap();
        let given = ask(&self.same.profile, &self.file, ANSWER_BEFORE);
        assert!(given == ANSWER_BEFORE, "a mutated answer is served");
        fs::write(&self.changed_file, input).unwrap();
        let given = ask(&self.changed.world.profile, &self.changed_file, ANSWER_NOW);
        self.changed.expect_stale(given != ANSWER_NOW, input);
        fs::write(&self.in_cache, input).unwrap();
        let profile = &self.changed.world.profile;
        for command in self.cache.verdicts(profile).unwrap() {
            self.changed.expect_stale(command.verdict.is_fresh(), input);
            let command = command.command;
            assert!(!command.chars().any(is_obeyed), "{command:?}");
        }
        Tried::Judged
    }
}

pub const KEPT_WITNESS: Target = Target {
    name: "kept-witness",
    begin: |directory| {
        let world = World::new(directory, "kept");
        settle();
        world.profile.update(Durability::NotSynced).unwrap();
        let file = world.path("var/lib/modstamp/kept.witness");
        let seeds = vec![fs::read(&file).unwrap()];
        let changed = world.changed_by(Change::ModuleRewritten);
        Box::new(KeptWitness {
            changed,
            file,
            seeds,
        })
    },
};

/// The witness beside the stamp of a world that changed since.
struct KeptWitness {
    changed: Changed,
    file: PathBuf,
    seeds: Vec<Vec<u8>>,
}

impl Reader for KeptWitness {
    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    /// The next update sees that the world changed, and touches. The one after that has nothing to
    /// do.
    fn read(&mut self, input: &[u8]) -> Tried {
        fs::write(&self.file, input).unwrap();
        let update = || {
            let updated = self.changed.world.profile.update(Durability::NotSynced);
            let updated = updated.unwrap().unwrap();
            assert!(updated.errors.is_empty(), "{:?}", updated.errors);
            updated
        };
        let updated = update();
        self.changed.expect_stale(updated.touched.is_none(), input);
        for reason in updated.verdict.reasons() {
            expect_sentence(&reason.to_string());
        }
        assert_eq!(update().touched, None, "a second update touches again");
        Tried::Judged
    }
}
