//! Compares a run that a fault hit, and the sound run after it, with a sound world.

use modstamp::Durability;
use support::tally::Promise;

use crate::injection::{self, Point, Ran};
use crate::judgement::{Before, Heard, told, value};
use crate::scene::{BEFORE, LATER, Scene, Verb};

/// What a verb leaves in a sound world: once, and once more.
pub struct Sound {
    heard: Vec<Heard>,
    names: Vec<Vec<String>>,
    /// The calls that it makes.
    pub points: Vec<Point>,
}

impl Sound {
    /// Learns what a verb does in a sound world.
    pub fn of(scene: &Scene, verb: Verb) -> Sound {
        prepare(scene, verb);
        let (command, input) = (scene.command(verb), scene.input(verb));
        let points = injection::points(&command, verb.start(), &input, &scene.scratch);
        prepare(scene, verb);
        let mut sound = Sound {
            heard: Vec::new(),
            names: Vec::new(),
            points,
        };
        for _ in 0..2 {
            let before = Before::of(scene);
            let ran = injection::run(&command, &input, &scene.scratch);
            let problems = before.problems(scene, verb, &ran, &[]);
            assert_eq!(
                problems,
                Vec::<String>::new(),
                "{verb:?} in a sound world: {ran:?}"
            );
            sound.heard.push(Heard::of(verb, &ran));
            sound.names.push(scene.names());
        }
        sound
    }

    /// Runs a verb with faults, and soundly once more. Returns whether one hit it, and the promises
    /// that it broke.
    pub fn problems_with(
        &self,
        scene: &Scene,
        verb: Verb,
        faults: &[String],
    ) -> (bool, Vec<String>) {
        prepare(scene, verb);
        let (command, input) = (scene.command(verb), scene.input(verb));
        let (before, names) = (Before::of(scene), scene.names());
        let ran = injection::run_with(&command, faults, &input, &scene.scratch);
        let mut problems = before.problems(scene, verb, &ran, &self.heard);
        if problems.is_empty() {
            problems.extend(change_back(scene, verb, &ran));
        }
        problems.extend(match verb.only_looks() {
            true => changes_by_a_look(scene, &before, &names),
            false => self.problems_after(scene, verb, &ran),
        });
        if verb.moves_stamp() && scene.stamp() <= before.stamp {
            problems.push("the next run did not move the stamp either".to_owned());
        }
        if problems.is_empty() && ran.is_hit() {
            count(verb, &ran);
        } else if !problems.is_empty() {
            problems.push(format!("{ran:?}"));
        }
        (ran.is_hit(), problems)
    }

    /// Runs a verb soundly, and compares that with a sound world. `faulty` is the run before.
    fn problems_after(&self, scene: &Scene, verb: Verb, faulty: &Ran) -> Vec<String> {
        scene.set_module(verb.module());
        let before = Before::of(scene);
        let (command, input) = (scene.command(verb), scene.input(verb));
        let mut ran = injection::run(&command, &input, &scene.scratch);
        if ran.is_slow {
            ran = injection::run(&command, &input, &scene.scratch); // The machine was too busy.
        }
        let mut problems = before.problems(scene, verb, &ran, &[]);
        let heard = Heard::of(verb, &ran);
        if !self.heard.contains(&heard) {
            problems.push(format!(
                "said {heard:?}, but {:?} in a sound world",
                self.heard
            ));
        }
        problems.extend(self.lasting_leftovers(scene, verb, faulty));
        if verb == Verb::Update {
            let again = scene.host.profile.update(Durability::NotSynced);
            if again.unwrap().is_some_and(|again| again.touched.is_some()) {
                problems.push("the update after that touched once more".to_owned());
            }
        }
        let after = |problem: String| format!("the next run: {problem}");
        problems.into_iter().map(after).collect()
    }

    /// Like [`Sound::leftovers`], after the next run that writes.
    ///
    /// An update that finds nothing changed and a cached answer write nothing. So they leave the new
    /// file of a writer that was killed, or that could not remove it, to the next run that writes.
    fn lasting_leftovers(&self, scene: &Scene, verb: Verb, faulty: &Ran) -> Option<String> {
        let may_have_another_answer = has_found_another_program(faulty);
        let left = self.leftovers(scene, may_have_another_answer)?;
        if !scene.names().iter().any(|name| name.contains(".new")) {
            return Some(left);
        }
        scene.set_module(LATER);
        // rpm's program has no time to look for what others left. A touch does.
        let touch = Some(Verb::Touch).filter(|_| verb == Verb::RpmTrigger);
        for next in touch.into_iter().chain([verb]) {
            injection::run(&scene.command(next), &scene.input(next), &scene.scratch);
        }
        self.leftovers(scene, may_have_another_answer)
    }

    /// The names that a sound world lacks, or has beside these.
    fn leftovers(&self, scene: &Scene, may_have_another_answer: bool) -> Option<String> {
        // Stale files of libvirt's go if no time can be moved.
        let is_ours = |name: &&String| !name.contains("/libvirt/");
        let ours = |names: &[String]| -> Vec<String> {
            let ours = names.iter().filter(is_ours);
            ours.cloned().collect()
        };
        let mut names = ours(&scene.names());
        if may_have_another_answer {
            names.dedup();
        }
        let sound: Vec<Vec<String>> = self.names.iter().map(|names| ours(names)).collect();
        let count = |of: &[String], name: &String| of.iter().filter(|other| *other == name).count();
        let more = |these: &[String], than: &[String]| -> Vec<String> {
            let more = these.iter();
            let more = more.filter(|name| count(these, name) > count(than, name));
            more.cloned().collect()
        };
        let (over, out) = (more(&names, &sound[1]), more(&sound[1], &names));
        (!sound.contains(&names)).then(|| format!("left {over:?} over, and {out:?} out"))
    }
}

/// Whether a look for the command of `modstamp run` failed. The next directory of the PATH then has
/// another program of that name, and so another answer.
fn has_found_another_program(ran: &Ran) -> bool {
    let looks = ["access(", "faccessat", "statx("];
    let is_look = |call: &str| looks.iter().any(|look| call.starts_with(look));
    let mut faulty = ran.faulty.iter().map(|fault| fault.call.as_str());
    faulty.any(|call| is_look(call) && call.contains("/cat\""))
}

fn prepare(scene: &Scene, verb: Verb) {
    scene.put_back();
    scene.set_module(verb.module());
}

fn count(verb: Verb, ran: &Ran) {
    Promise::StampKept.held();
    Promise::NoPanic.held();
    Promise::NothingStaleIsFresh.held();
    Promise::NothingLeftOver.held();
    if ran.signal.is_none() {
        Promise::FailuresAreTold.held();
        Promise::TransactionCompletes.held_times(verb.is_trigger().into());
    }
}

/// A verb that only looks has nothing to leave for a later run.
fn changes_by_a_look(scene: &Scene, before: &Before, names: &[String]) -> Vec<String> {
    let is_same =
        scene.stamp() == before.stamp && scene.moved() == before.moved && scene.names() == names;
    let changed = "it only looks, and changed something".to_owned();
    Some(changed).filter(|_| !is_same).into_iter().collect()
}

/// After a touch that told of no trouble, an update tells of a change back.
fn change_back(scene: &Scene, verb: Verb, ran: &Ran) -> Option<String> {
    let is_touch = verb.moves_stamp() && verb != Verb::Update;
    let is_clean = ran.signal.is_none() && ran.err.is_empty();
    let is_well = value(verb, ran) == Some(0) && told(verb, ran).is_empty();
    if !is_touch || !is_clean || !is_well {
        return None;
    }
    scene.set_module(BEFORE);
    let updated = scene.host.profile.update(Durability::NotSynced).unwrap();
    let is_seen = updated.is_some_and(|updated| updated.touched.is_some());
    let lost = "it tells of no trouble, and the next update passes over a change back";
    (!is_seen).then(|| lost.to_owned())
}
