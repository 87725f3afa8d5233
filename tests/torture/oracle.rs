//! Judges a run that a fault hit, and the sound run after it.

use modstamp::{Durability, Witness};
use support::tally::Promise;

use crate::injection::{self, Point, Ran};
use crate::scene::{BEFORE, Scene, Verb};

/// What a verb leaves in a sound world: once, and once more.
pub struct Sound {
    heard: Vec<Heard>,
    names: Vec<Vec<String>>,
    /// The calls that it makes.
    pub points: Vec<Point>,
}

/// What a caller gets from a run, without numbers and times.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    value: Option<i32>,
    out: String,
    err: String,
}

impl Heard {
    fn of(verb: Verb, ran: &Ran) -> Heard {
        let out = match verb {
            Verb::Observe | Verb::CObserve => String::new(), // It has ctimes.
            // They do what the earlier run left undone.
            Verb::Update | Verb::Evict => String::new(),
            _ => masked(&String::from_utf8_lossy(&ran.out)),
        };
        Heard {
            value: value(verb, ran),
            out,
            err: masked(&ran.err),
        }
    }
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
            let problems = before.problems(scene, verb, &ran, None);
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
        let mut problems = before.problems(scene, verb, &ran, Some(self));
        if problems.is_empty() {
            problems.extend(change_back(scene, verb, &ran));
        }
        problems.extend(match verb.only_looks() {
            true => changes_by_a_look(scene, &before, &names),
            false => self.problems_after(scene, verb),
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

    /// Runs a verb soundly, and compares that with what it did in a sound world.
    fn problems_after(&self, scene: &Scene, verb: Verb) -> Vec<String> {
        scene.set_module(verb.module());
        let before = Before::of(scene);
        let command = scene.command(verb);
        let ran = injection::run(&command, &scene.input(verb), &scene.scratch);
        let mut problems = before.problems(scene, verb, &ran, None);
        let heard = Heard::of(verb, &ran);
        if !self.heard.contains(&heard) {
            problems.push(format!(
                "said {heard:?}, but {:?} in a sound world",
                self.heard
            ));
        }
        // Stale files of libvirt's go if no time can be moved.
        let is_ours = |name: &String| !name.contains("/libvirt/");
        let ours = |names: &[String]| names.iter().filter(|name| is_ours(name)).cloned().collect();
        let names: Vec<String> = ours(&scene.names());
        let sound: Vec<Vec<String>> = self.names.iter().map(|names| ours(names)).collect();
        if !sound.contains(&names) {
            let sound = &sound[1];
            let more: Vec<_> = names.iter().filter(|name| !sound.contains(name)).collect();
            let fewer: Vec<_> = sound.iter().filter(|name| !names.contains(name)).collect();
            problems.push(format!("left {more:?} over, and {fewer:?} out"));
        }
        if verb == Verb::Update {
            let again = scene.host.profile.update(Durability::NotSynced);
            if again.unwrap().is_some_and(|again| again.touched.is_some()) {
                problems.push("the update after that touched once more".to_owned());
            }
        }
        let after = |problem: String| format!("the next run: {problem}");
        problems.into_iter().map(after).collect()
    }
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

/// The state before a run.
struct Before {
    stamp: Option<i128>,
    moved: [Option<i128>; 3],
}

impl Before {
    fn of(scene: &Scene) -> Before {
        Before {
            stamp: scene.stamp(),
            moved: scene.moved(),
        }
    }

    /// The promises that a run broke. `sound` is there if a fault was to hit the run.
    fn problems(&self, scene: &Scene, verb: Verb, ran: &Ran, sound: Option<&Sound>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut broken = |problem: &str| problems.push(problem.to_owned());
        if scene.stamp().is_none() || scene.stamp() < self.stamp {
            broken("the stamp is lost or wound back");
        }
        if ["panicked", "RUST_BACKTRACE", "fatal runtime"]
            .iter()
            .any(|word| ran.err.contains(word))
        {
            broken("a panic");
        }
        match ran.signal {
            Some(9) if ran.faulty.is_empty() => return problems, // Killed, as it was meant.
            Some(0) => broken("it hangs"),
            Some(_) => broken("a signal ended it"),
            None => {}
        }
        let is_foreign = ran.faulty.iter().any(|call| call.is_foreign);
        let is_runs = matches!(verb, Verb::RunHit | Verb::RunMiss);
        if is_foreign || (is_runs && ran.code == Some(128 + 9) && ran.faulty.is_empty()) {
            return problems; // The command's own affair.
        }
        // A program that cannot write to standard error tells nothing. The C program tells on
        // standard output.
        let mute = if verb.is_c() { "write(1," } else { "write(2," };
        let is_mute = ran.faulty.iter().any(|call| call.call.starts_with(mute));
        if is_mute && verb.is_c() {
            return problems;
        }
        let value = value(verb, ran);
        let is_well = value == Some(sound_value(verb));
        if !is_well && !value.is_some_and(|value| verb.failures().contains(&value)) {
            broken("the exit status is none of the documented ones");
        }
        let is_mute = ran
            .faulty
            .iter()
            .any(|call| call.call.starts_with("write(2,"));
        let told = told(verb, ran);
        if is_mute {
            return problems;
        }
        if is_mute {
            return problems;
        }
        problems.extend(vague_sentences(&told));
        if !is_well && told.is_empty() {
            problems.push("it fails and tells nothing".to_owned());
        }
        if is_well && told.is_empty() {
            problems.extend(self.silent_losses(scene, verb, ran, sound));
        }
        problems
    }

    /// What a run that claims success did not do.
    fn silent_losses(
        &self,
        scene: &Scene,
        verb: Verb,
        ran: &Ran,
        sound: Option<&Sound>,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let mut broken = |problem: String| problems.push(problem);
        let out = String::from_utf8_lossy(&ran.out);
        // An update does only what the one before it left undone.
        let is_repeated = verb == Verb::Update && sound.is_none();
        if verb.moves_stamp() && scene.stamp() <= self.stamp && !is_repeated {
            broken("it tells of no trouble, and did not move the stamp".to_owned());
        }
        if verb.refreshes() && scene.moved() == self.moved && !is_repeated {
            broken("it tells of no trouble, and did not refresh libvirt".to_owned());
        }
        if verb == Verb::Evict && scene.answers() > 0 {
            broken("it tells of no trouble, and left stale answers of libvirt's".to_owned());
        }
        if matches!(verb, Verb::RunHit | Verb::RunMiss) && out != verb.module() {
            broken("it printed another answer than that of now".to_owned());
        }
        if matches!(verb, Verb::Observe | Verb::CObserve) {
            problems.extend(blind_witness(scene, verb, &out));
        }
        if matches!(verb, Verb::Status | Verb::LibvirtStatus) {
            let out = masked(&out);
            let tells = ["cannot", "not known"]
                .iter()
                .any(|word| out.contains(word));
            let is_known = |sound: &Sound| sound.heard.iter().any(|heard| heard.out == out);
            if out.lines().any(|line| line.trim_end().ends_with(" fresh")) {
                problems.push("it calls a stale answer fresh".to_owned());
            }
            if sound.is_some_and(|sound| !is_known(sound)) && !tells {
                problems.push("it shows something else, and tells of no trouble".to_owned());
            }
        }
        problems
    }
}

/// A verb that only looks has nothing to leave for a later run.
fn changes_by_a_look(scene: &Scene, before: &Before, names: &[String]) -> Vec<String> {
    let is_same =
        scene.stamp() == before.stamp && scene.moved() == before.moved && scene.names() == names;
    let changed = "it only looks, and changed something".to_owned();
    Some(changed).filter(|_| !is_same).into_iter().collect()
}

/// A witness that was observed in spite of a fault must still see every later change.
fn blind_witness(scene: &Scene, verb: Verb, out: &str) -> Vec<String> {
    let text = match verb {
        Verb::CObserve => out
            .split_once('\n')
            .map_or("", |(_, text)| text.trim_end_matches('\n')),
        _ => out,
    };
    let text = format!("{}\n", text.trim_end_matches('\n'));
    let Ok(witness) = text.parse::<Witness>() else {
        return vec!["it printed no whole witness".to_owned()];
    };
    scene.set_module(BEFORE);
    let verdict = witness.check(&scene.host.profile).unwrap();
    scene.set_module(verb.module());
    let is_blind = verdict.is_fresh();
    is_blind
        .then(|| "its witness is fresh after a change".to_owned())
        .into_iter()
        .collect()
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

/// The exit status, or the value of a C function; `None` after a signal.
fn value(verb: Verb, ran: &Ran) -> Option<i32> {
    match verb.is_c() {
        false => ran.code,
        true => {
            let out = String::from_utf8_lossy(&ran.out);
            let line = out.lines().next()?;
            ran.code.filter(|code| *code == 0)?;
            line.parse().ok()
        }
    }
}

/// What is right in a sound world. The witness that a check gets is stale.
fn sound_value(verb: Verb) -> i32 {
    match verb {
        Verb::Check | Verb::CCheck | Verb::CDisturbed => 1,
        _ => 0,
    }
}

/// The messages, one a line.
fn told(verb: Verb, ran: &Ran) -> Vec<String> {
    let out = String::from_utf8_lossy(&ran.out);
    let why: Vec<&str> = match value(verb, ran) {
        Some(-2) if verb.is_c() => out
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty())
            .collect(),
        _ => Vec::new(),
    };
    let err = ran
        .err
        .lines()
        .filter(|line| !line.starts_with("modstamp: note: "));
    err.chain(why).map(str::to_owned).collect()
}

/// The messages that lack the attempt, the path or the remedy.
fn vague_sentences(told: &[String]) -> Vec<String> {
    let subjects = [
        "/",
        "standard output",
        "standard input",
        "the paths",
        "what the command printed",
        "the command ",
    ];
    let remedies = ["; ", "to be safe", ", so "];
    let has = |line: &String, words: &[&str]| words.iter().any(|word| line.contains(word));
    let is_vague = |line: &&String| !has(line, &subjects) || !has(line, &remedies);
    let vague = told.iter().filter(is_vague);
    vague
        .map(|line| format!("this lacks its path or its remedy: {line}"))
        .collect()
}

/// A text without numbers, words of time, and the reasons of verdicts.
fn masked(text: &str) -> String {
    let verdict = |line: &str| {
        let reasons = ["stale:", "): "]
            .iter()
            .filter_map(|mark| Some(line.find(mark)? + mark.len()));
        format!("{}\n", &line[..reasons.min().unwrap_or(line.len())])
    };
    let text: String = text.lines().map(verdict).collect();
    let mut masked = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let is_time = ["second", "minute", "hour", "ago", "now", "just", "an"]
            .iter()
            .any(|time| {
                word.trim_end_matches(|c: char| !c.is_alphanumeric())
                    .trim_end_matches('s')
                    == *time
            });
        match is_time || word.contains(|c: char| c.is_ascii_digit()) {
            true => masked.push('#'),
            false => masked.push_str(word),
        }
    }
    while masked.contains("##") || masked.contains("  ") {
        masked = masked.replace("##", "#").replace("  ", " ");
    }
    masked
}
