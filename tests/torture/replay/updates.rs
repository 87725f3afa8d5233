//! The model of updates, replayed: random walks, and the shortest counterexample of each hole.
//!
//! An update is one call here, so a walk does all its steps at once in the model, too. It may be
//! killed between two of them. Two updates at once are two threads.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use filetime::FileTime;
use modstamp::{Durability, Mtime, Reason, Verdict};
use stateright::{Checker, HasDiscoveries, Model};
use support::tally::{Promise, cases};

use super::real::{Clock, Lab, Real};
use super::update::{self, Act, Hole, Plan, UPDATES, World};
use super::walks::{Random, seed};

/// The actions of one walk.
const ACTIONS: usize = 60;

/// The actor that touches without asking.
const TOUCH: usize = UPDATES;

pub fn walk() {
    let (seed, walks) = seed(cases(100, 2_000));
    let lab = Lab::new();
    let mut seen = Seen::default();
    for number in walks {
        let mut walk = Walk::new(&lab, number);
        let mut random = Random::of(seed, number);
        for _ in 0..ACTIONS {
            walk.act(&mut random, &mut seen).unwrap_or_else(|why| {
                let trace = walk.trace.join("\n");
                panic!("MODSTAMP_SEED={seed}/{number} repeats this walk.\n{trace}\n{why}")
            });
        }
    }
    println!("{seen:?} in updates; seed {seed}");
}

/// What the walks saw.
#[derive(Debug, Default)]
struct Seen {
    touched: u64,
    unchanged: u64,
    /// Updates that touched, although nothing changed in the model.
    stricter: u64,
    killed: u64,
    power_losses: u64,
    served: u64,
}

type Outcome = Result<(), String>;

struct Walk {
    plan: Plan,
    world: World,
    host: Host,
    trace: Vec<String>,
}

impl Walk {
    fn new(lab: &Lab, number: usize) -> Walk {
        let mut plan = update::plan();
        plan.losses = u8::MAX;
        Walk {
            world: plan.init_states()[0],
            plan,
            host: Host::new(lab, number),
            trace: Vec::new(),
        }
    }

    fn step(&mut self, act: Act) {
        let next = self.plan.next_state(&self.world, act);
        self.world = next.expect("every action has a next state");
    }

    /// Does all steps of an actor in the model. Returns whether it touched.
    fn whole(&mut self, actor: usize) -> bool {
        let before = self.world.times;
        self.step(Act::Step(actor));
        while self.world.actors[actor].done > 0 {
            self.step(Act::Step(actor));
        }
        self.world.times > before
    }

    fn act(&mut self, random: &mut Random, seen: &mut Seen) -> Outcome {
        let choice = random.below(12);
        let World { content, files, .. } = self.world;
        self.trace.push(format!("{choice}: {content} {files:?}"));
        match choice {
            0 | 1 => {
                let content = match random.one_in(3) {
                    true => 1,
                    false => self.world.changes + 2,
                };
                self.step(Act::Change(content));
                self.host.real.lay(0, content);
            }
            2 => self.update(seen)?,
            3 => self.updates_at_once(seen)?,
            4 => {
                self.whole(TOUCH);
                self.host.touch();
            }
            5 => self.kill(random, seen)?,
            6 => {
                self.step(Act::LosePower);
                self.host.lose_power();
                seen.power_losses += 1;
            }
            _ => self.consumer(),
        }
        if self.world.durable == self.world.files {
            self.host.write_back();
        }
        let (model, library) = (self.world.is_served(), self.host.served());
        if model != library {
            return Err(format!(
                "the model serves {model:?}, and the library {library:?}"
            ));
        }
        seen.served += u64::from(model.is_some());
        Promise::NothingStaleIsFresh.held();
        Ok(())
    }

    fn update(&mut self, seen: &mut Seen) -> Outcome {
        let model = usize::from(self.whole(0));
        let library = self.host.update();
        self.compare(model, library.as_slice(), seen)
    }

    fn updates_at_once(&mut self, seen: &mut Seen) -> Outcome {
        let model = [0, 1].map(|actor| usize::from(self.whole(actor)));
        let host = &self.host;
        let library = thread::scope(|scope| {
            let both = [0, 1].map(|_| scope.spawn(|| host.update()));
            both.map(|update| update.join().unwrap())
        });
        let library: Vec<Verdict> = library.into_iter().flatten().collect();
        self.compare(model.iter().sum(), &library, seen)
    }

    /// Compares how often updates touched.
    fn compare(&mut self, model: usize, library: &[Verdict], seen: &mut Seen) -> Outcome {
        match (model, library) {
            (0, []) => seen.unchanged += 1,
            (1, [_]) => seen.touched += 1,
            // A touch has no time to read all, so a redeploy of the same content is not known.
            (0, [why]) if is_not_read(why) => {
                seen.stricter += 1;
                self.whole(TOUCH);
            }
            _ => {
                return Err(format!(
                    "updates touch {model} times in the model, and in the library: {library:?}"
                ));
            }
        }
        Ok(())
    }

    /// An update or a touch that is killed after some of its steps.
    fn kill(&mut self, random: &mut Random, seen: &mut Seen) -> Outcome {
        let actor = random.pick(&[0, TOUCH]);
        let steps = 1 + random.below(self.plan.steps.len() - 1);
        let before = self.world.times;
        for _ in 0..steps {
            self.step(Act::Step(actor));
            if self.world.actors[actor].done == 0 {
                return Ok(()); // It ended: there was nothing to do.
            }
        }
        self.step(Act::Kill(actor));
        seen.killed += 1;
        // Before the touch it changes nothing.
        if self.world.times > before {
            self.host
                .killed(if actor == TOUCH { "touch" } else { "update" })?;
        }
        Ok(())
    }

    fn consumer(&mut self) {
        let act = match self.world.asking {
            (None, _) => Act::SeeStamp,
            (Some(_), None) => Act::Probe,
            (Some(_), Some(_)) => Act::Store,
        };
        self.step(act);
        self.host.consumer(act);
    }
}

fn is_not_read(verdict: &Verdict) -> bool {
    let mut reasons = verdict.reasons().iter();
    reasons.all(|reason| matches!(reason, Reason::NotRead(_)))
}

/// The shortest counterexamples. The library has the rule, so its verdict has to be right.
pub fn holes() {
    let lab = Lab::new();
    let holes = [
        update::no_second_look(),
        update::kept_before_the_touch(),
        update::looked_at_after_the_touch(),
    ];
    for (number, hole) in holes.iter().enumerate() {
        let trace = trace(hole);
        assert!(!trace.is_empty(), "hole {number} has no trace");
        let done = replay(&lab, number, hole, &trace);
        done.unwrap_or_else(|why| panic!("{}: {trace:?}\n{why}", hole.promise));
    }
}

/// The shortest way to a state in which the promise does not hold.
fn trace(hole: &Hole) -> Vec<Act> {
    let checker = hole.plan.clone().checker();
    let checker = checker.finish_when(HasDiscoveries::Any).spawn_bfs().join();
    let found = checker.discovery(hole.promise);
    found.map_or(Vec::new(), |path| path.into_actions())
}

/// Replays a trace. A call is made when its actor ends in the model, or ends nothing.
fn replay(lab: &Lab, number: usize, hole: &Hole, trace: &[Act]) -> Outcome {
    let mut host = Host::new(lab, number);
    let mut world = hole.plan.init_states()[0];
    let (mut is_told, mut touches) = (false, 0);
    for act in trace {
        let last = world;
        world = hole.plan.next_state(&last, *act).unwrap();
        match *act {
            Act::Change(content) => {
                host.real.lay(0, content);
                (is_told, touches) = (false, 0);
            }
            Act::Step(actor) if world.actors[actor].done > 0 => {}
            Act::Step(TOUCH) => host.touch(),
            Act::Step(_) => {
                touches += usize::from(host.update().is_some());
                is_told = true;
            }
            Act::Kill(_) => {}
            Act::LosePower => {
                host.lose_power();
                is_told = false;
            }
            Act::WriteBack => host.write_back(),
            Act::SeeStamp | Act::Probe | Act::Store => host.consumer(*act),
        }
        if world.durable == world.files {
            host.write_back();
        }
    }
    let now = host.real.content(0);
    match host.served() {
        Some(old) if is_told && old != now => Err(format!("{old} is served, and {now} is there")),
        _ if touches > 1 => Err(format!("updates touched {touches} times for one change")),
        _ => {
            Promise::NothingStaleIsFresh.held();
            Ok(())
        }
    }
}

/// A file's text, permissions and mtime; `None` if there is no file.
type Saved = Option<(Vec<u8>, fs::Permissions, FileTime)>;

/// A host with one module, and a consumer that knows the stamp alone.
struct Host {
    real: Real,
    /// The stamp that the consumer saw, and then the content that it probed.
    asking: (Option<Option<Mtime>>, Option<u8>),
    answer: Option<(Option<Mtime>, u8)>,
    /// What a power loss leaves of the stamp, the witness and the lock file.
    durable: [Saved; 3],
}

impl Host {
    fn new(lab: &Lab, number: usize) -> Host {
        // The clock is that of touches by hand, of which there are none.
        let clock = Clock::Unreal { begin: 0 };
        Host {
            real: Real::new(lab, number, false, clock),
            asking: (None, None),
            answer: None,
            durable: [None, None, None],
        }
    }

    fn stamp(&self) -> Option<Mtime> {
        self.real.stamp.mtime().unwrap()
    }

    /// Updates. Returns why that touched; `None` if it did not.
    fn update(&self) -> Option<Verdict> {
        let updated = self.real.profile.update(Durability::Synced);
        let updated = updated.unwrap().unwrap();
        assert!(updated.errors.is_empty(), "{:?}", updated.errors);
        updated.touched.map(|_| updated.verdict)
    }

    fn touch(&self) {
        let (profile, stamp) = (&self.real.profile, &self.real.stamp);
        let touched = profile.touch(stamp, "a replay", "", &[], Durability::Synced);
        let touched = touched.unwrap().unwrap();
        assert_eq!(touched.warnings().next(), None);
    }

    /// Kills a verb after it moved the stamp, and before it keeps the witness.
    fn killed(&self, verb: &str) -> Outcome {
        let before = self.stamp();
        // The first exchange is that of the stamp.
        let inject = "inject=renameat2:signal=SIGKILL:when=2";
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", inject]);
        strace.arg(support::program("modstamp")).arg(verb);
        strace.arg("--root").arg(&self.real.root);
        strace.args(["--profile", &self.real.name]);
        let status = strace.stderr(Stdio::null()).stdout(Stdio::null()).status();
        let is_as_wanted = !status.unwrap().success()
            && self.stamp() > before
            && !self.real.stamp.path().with_extension("witness").exists();
        match is_as_wanted {
            true => Ok(()),
            false => Err(format!("{verb} was not killed between stamp and witness")),
        }
    }

    fn consumer(&mut self, act: Act) {
        match act {
            Act::SeeStamp => self.asking.0 = Some(self.stamp()),
            Act::Probe => self.asking.1 = Some(self.real.content(0)),
            _ => {
                if let (Some(stamp), Some(value)) = std::mem::take(&mut self.asking) {
                    if stamp == self.stamp() {
                        self.answer = Some((stamp, value));
                    }
                }
            }
        }
    }

    /// The content of an answer that is served now.
    fn served(&self) -> Option<u8> {
        let (stamp, value) = self.answer?;
        (stamp == self.stamp()).then_some(value)
    }

    fn files(&self) -> [PathBuf; 3] {
        let stamp = self.real.stamp.path();
        let witness = stamp.with_extension("witness");
        [stamp, witness, self.real.lock()]
    }

    fn write_back(&mut self) {
        self.durable = self.files().map(|path| {
            let meta = fs::metadata(&path).ok()?;
            let time = FileTime::from_last_modification_time(&meta);
            Some((fs::read(path).unwrap(), meta.permissions(), time))
        });
    }

    fn lose_power(&mut self) {
        self.asking = (None, None);
        for (path, saved) in self.files().into_iter().zip(&self.durable) {
            let _ = fs::remove_file(&path);
            if let Some((text, permissions, time)) = saved {
                fs::write(&path, text).unwrap();
                fs::set_permissions(&path, permissions.clone()).unwrap();
                filetime::set_file_mtime(&path, *time).unwrap();
            }
        }
    }
}
