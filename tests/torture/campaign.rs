//! Runs cases of all verbs side by side, each in a scene, and gathers the promises that they broke.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::mounted::Mounted;
use support::test::Needs;

use crate::injection::{Fault, Point};
use crate::oracle::Sound;
use crate::scene::{Programs, Scene, Verb};

/// The number of scenes that run at once. Most of them wait for a process.
const SCENES: usize = 4;

/// The most broken cases of each kind that are shown.
const MOST_SHOWN: usize = 10;

pub fn needs() -> Needs {
    Needs::root_and(&[
        "strace", "chroot", "flock", "gcc", "make", "mount", "strip", "ldd",
    ])
}

/// Numbers that follow from a seed: splitmix64.
pub struct Random(u64);

impl Random {
    /// `MODSTAMP_SEED`, or another seed in each run.
    fn seeded() -> Random {
        let given = std::env::var("MODSTAMP_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("MODSTAMP_SEED=SEED, a number"));
        let time = || std::time::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        Random(seed.unwrap_or_else(time))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[(self.next() % of.len() as u64) as usize]
    }

    /// So many of them, each at most once.
    pub fn sample<T>(&mut self, mut of: Vec<T>, count: usize) -> Vec<T> {
        let mut picked = Vec::new();
        while picked.len() < count && !of.is_empty() {
            let at = (self.next() % of.len() as u64) as usize;
            picked.push(of.swap_remove(at));
        }
        picked
    }
}

/// A case: the verb, and its faults, each a value of strace's `--inject`.
type Case = (Verb, Vec<String>);

/// A case that broke a promise.
struct Broken {
    verb: Verb,
    faults: Vec<String>,
    problems: Vec<String>,
}

/// Runs the cases that `choose` makes of each verb's calls. Panics if one breaks a promise.
///
/// `MODSTAMP_FAULT="VERB FAULT …"` runs only that case.
pub fn run(choose: impl Fn(&[Point], &mut Random) -> Vec<Vec<Fault>>) {
    let mounted = Mounted::tmpfs("mode=755");
    let top = mounted.path();
    let programs = Programs::build(top);
    let scenes = scenes(top, &programs);
    let sounds = sounds(&scenes);
    let mut random = Random::seeded();
    let seed = random.0;
    let mut cases: Vec<Case> = Vec::new();
    for (verb, sound) in &sounds {
        let chosen = choose(&sound.points, &mut random);
        let texts = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect();
        cases.extend(chosen.into_iter().map(|faults| (*verb, texts(faults))));
    }
    let cases = only_chosen().map_or(cases, |case| vec![case]);
    let count = cases.len();
    let broken = broken(&scenes, &sounds, cases);
    println!(
        "{count} cases, MODSTAMP_SEED={seed}, {} broken",
        broken.len()
    );
    assert!(broken.is_empty(), "{}", report(&broken, seed));
}

/// Makes all scenes at once, because each waits until its files are settled.
fn scenes(top: &Path, programs: &Programs) -> Vec<Scene> {
    std::thread::scope(|threads| {
        let scene = |number: usize| Scene::new(&top.join(number.to_string()), programs);
        let start = |number| threads.spawn(move || scene(number));
        let started: Vec<_> = (0..SCENES).map(start).collect();
        let made = started.into_iter();
        made.map(|thread| thread.join().unwrap()).collect()
    })
}

/// The case of `MODSTAMP_FAULT`, if any.
fn only_chosen() -> Option<Case> {
    let text = std::env::var("MODSTAMP_FAULT").ok()?;
    let mut words = text.split_whitespace().map(str::to_owned);
    let name = words.next()?;
    let verb = Verb::ALL
        .into_iter()
        .find(|verb| format!("{verb:?}") == name);
    Some((
        verb.expect("MODSTAMP_FAULT=\"VERB FAULT …\""),
        words.collect(),
    ))
}

fn sounds(scenes: &[Scene]) -> BTreeMap<Verb, Sound> {
    let learned = side_by_side(scenes, Verb::ALL.to_vec(), |scene, verb| {
        Some((verb, Sound::of(scene, verb)))
    });
    learned.into_iter().collect()
}

/// The cases that broke a promise, with their problems.
///
/// The calls of a run vary a little. Nearly all faults hit one nevertheless.
fn broken(scenes: &[Scene], sounds: &BTreeMap<Verb, Sound>, cases: Vec<Case>) -> Vec<Broken> {
    let (hits, count) = (AtomicUsize::new(0), cases.len());
    let broken = side_by_side(scenes, cases, |scene, (verb, faults)| {
        let (is_hit, problems) = sounds[&verb].problems_with(scene, verb, &faults);
        hits.fetch_add(is_hit.into(), Ordering::Relaxed);
        let case = Broken {
            verb,
            faults,
            problems,
        };
        (!case.problems.is_empty()).then_some(case)
    });
    let hits = hits.into_inner();
    assert!(
        hits * 10 >= count * 9,
        "only {hits} of {count} faults hit a call"
    );
    broken
}

/// Does all the work, in each scene one piece at a time.
fn side_by_side<W: Send, R: Send>(
    scenes: &[Scene],
    work: Vec<W>,
    action: impl Fn(&Scene, W) -> Option<R> + Sync,
) -> Vec<R> {
    let work = Mutex::new(VecDeque::from(work));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for scene in scenes {
            threads.spawn(|| {
                loop {
                    let next = work.lock().unwrap().pop_front();
                    let Some(next) = next else { return };
                    let result = action(scene, next);
                    results.lock().unwrap().extend(result);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

/// The broken cases of each kind: the first in full, and the faults of the others.
fn report(broken: &[Broken], seed: u64) -> String {
    let mut kinds: BTreeMap<(Verb, &str), Vec<&Broken>> = BTreeMap::new();
    for case in broken {
        let kind = (case.verb, case.problems[0].as_str());
        kinds.entry(kind).or_default().push(case);
    }
    let count = broken.len();
    let mut text = format!("{count} cases broke a promise; MODSTAMP_SEED={seed} repeats them\n");
    for ((verb, problem), cases) in kinds {
        text.push_str(&format!("\n{verb:?}: {problem} ({} cases)\n", cases.len()));
        for (number, case) in cases.into_iter().take(MOST_SHOWN).enumerate() {
            let faults = case.faults.join(" ");
            text.push_str(&format!("  MODSTAMP_FAULT=\"{verb:?} {faults}\"\n"));
            let details = case.problems.iter().skip(1).filter(|_| number == 0);
            details.for_each(|line| text.push_str(&format!("    {line}\n")));
        }
    }
    text
}
