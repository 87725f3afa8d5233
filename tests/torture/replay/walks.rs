//! Random walks through the model of the protocol, replayed step by step.
//!
//! The library does some steps of the model in one call: all looks of an observation, a whole
//! check, and a whole touch. A walk does those steps at once in the model, too. A touch may be
//! killed between any two of its steps.
//!
//! Each fresh or stale verdict, and each answer that is not kept, has to be the model's. The
//! library may refuse to keep an answer that the model keeps: it also sees inodes. The walk then
//! goes on as if the model's consumer was killed.
//!
//! `MODSTAMP_SEED=SEED/WALK` repeats one walk.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;

use stateright::Model;
use support::tally::{Promise, cases};

use super::asker::Asker;
use super::protocol::{
    Action, At, BOTH, DPKG, Do, EITHER, FOLDING, IN_AND_OUT, Kind, Often, Plan, RPM, STAMP, Step,
    TouchStep, World, plan,
};
use super::real::{Clock, Ending, Lab, Real};

/// The actions of one walk, at most.
const MOST_ACTIONS: usize = 80;

/// Walks whose ticks are real.
pub fn timed() {
    walk_all(cases(300, 4_000), 100, timed_walk);
}

/// Walks of consumers that know the stamp alone. The clock may step back, and the power may fail.
pub fn untimed() {
    walk_all(cases(2_000, 40_000), 8, untimed_walk);
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// The numbers of one walk.
    pub fn of(seed: u64, walk: usize) -> Random {
        Random(seed ^ (walk as u64) << 32)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// What the walks saw.
#[derive(Default)]
struct Seen {
    fresh: AtomicU64,
    stale: AtomicU64,
    not_kept: AtomicU64,
    stricter: AtomicU64,
    touches: AtomicU64,
}

static SEEN: Seen = Seen {
    fresh: AtomicU64::new(0),
    stale: AtomicU64::new(0),
    not_kept: AtomicU64::new(0),
    stricter: AtomicU64::new(0),
    touches: AtomicU64::new(0),
};

/// The seed and the walks: `count` of them, or the one that `MODSTAMP_SEED` names.
pub fn seed(count: usize) -> (u64, Range<usize>) {
    let given = std::env::var("MODSTAMP_SEED").unwrap_or_default();
    let (seed, only) = match given.split_once('/') {
        Some((seed, walk)) => (seed, Some(walk.parse::<usize>().expect("SEED/WALK"))),
        None => (given.as_str(), None),
    };
    let seed = match seed {
        "" => RandomState::new().hash_one(0),
        seed => seed.parse().expect("MODSTAMP_SEED=SEED, a number"),
    };
    println!("seed {seed}");
    (seed, only.map_or(0..count, |only| only..only + 1))
}

fn walk_all(count: usize, at_once: usize, make: fn(&Lab, usize, Random) -> Walk) {
    let (seed, Range { start, end }) = seed(count);
    let is_one = end - start == 1;
    let lab = Lab::new();
    let next = AtomicUsize::new(start);
    let failed = Mutex::new(None);
    let work = || {
        while failed.lock().unwrap().is_none() {
            let number = next.fetch_add(1, Relaxed);
            if number >= end {
                return;
            }
            let mut walk = make(&lab, number, Random::of(seed, number));
            let run = catch_unwind(AssertUnwindSafe(|| walk.run()));
            if let Err(why) = run.unwrap_or_else(|_| Err("it panicked, as told above".to_owned())) {
                let trace = walk.trace.join("\n");
                *failed.lock().unwrap() = Some(format!(
                    "MODSTAMP_SEED={seed}/{number} repeats this walk of {:?}.\n{trace}\n{why}",
                    walk.plan
                ));
            }
        }
    };
    thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
    if let Some(failed) = failed.into_inner().unwrap() {
        panic!("{failed}");
    }
    let [fresh, stale, not_kept, stricter, touches] = [
        &SEEN.fresh,
        &SEEN.stale,
        &SEEN.not_kept,
        &SEEN.stricter,
        &SEEN.touches,
    ]
    .map(|count| count.load(Relaxed));
    println!(
        "so far {fresh} fresh, {stale} stale and {not_kept} not kept as the model says, {stricter} \
         not kept although the model keeps them, {touches} touches; seed {seed}"
    );
    // Without these sights the verdicts might agree only because nothing happens.
    let is_rare = |count: u64| count < end as u64 / 10;
    assert!(
        is_one || ![fresh, stale, not_kept, touches].into_iter().any(is_rare),
        "one kind of verdict is too rare"
    );
}

fn timed_walk(lab: &Lab, number: usize, mut random: Random) -> Walk {
    let often = Often {
        touches: 2,
        changes: 6,
        redeploys: 3,
        hand_touches: 2,
        stamp_removals: 1,
        ..Often::default()
    };
    let plan = Plan {
        manager: random.pick(&[RPM, DPKG, IN_AND_OUT, &[]]),
        consumers: random.pick(&[FOLDING, FOLDING, BOTH]),
        often,
        kills: random.one_in(2),
        ticks: 4,
        ..plan()
    };
    let mut real = Real::new(lab, number, false, Clock::Real { tick: 2 });
    real.sets_mtimes = !random.one_in(3);
    Walk::new(plan, real, random)
}

fn untimed_walk(lab: &Lab, number: usize, mut random: Random) -> Walk {
    // A power loss with a clock that was set back, or with a stamp that was removed, is a limit.
    let may_lose_power = random.one_in(4);
    let often = Often {
        touches: 4,
        changes: 2,
        hand_touches: 4,
        stamp_removals: if may_lose_power { 0 } else { 2 },
        steps_back: if may_lose_power { 0 } else { 3 },
        power_losses: u8::from(may_lose_power),
        ..Often::default()
    };
    let plan = Plan {
        manager: random.pick(&[RPM, DPKG, IN_AND_OUT, &[]]),
        consumers: random.pick(&[STAMP, STAMP, EITHER]),
        often,
        kills: random.one_in(2),
        ticks: 5,
        ..plan()
    };
    // Touches by hand are behind the clock, or ahead of it.
    let begin = match may_lose_power {
        true => 1_500_000_000,
        false => random.pick(&[1_500_000_000, 2_100_000_000]),
    };
    let real = Real::new(lab, number, false, Clock::Unreal { begin });
    Walk::new(plan, real, random)
}

struct Walk {
    plan: Plan,
    world: World,
    real: Real,
    askers: Vec<Asker>,
    random: Random,
    trace: Vec<String>,
}

type Outcome = Result<(), String>;

impl Walk {
    fn new(plan: Plan, mut real: Real, mut random: Random) -> Walk {
        let starts = plan.init_states();
        // An untimed walk has consumers of the stamp alone: the real ticks of contents are others.
        let is_timed = matches!(real.clock, Clock::Real { .. });
        let knows = |world: &&World| {
            let mut consumers = world.consumers.iter();
            is_timed || consumers.all(|consumer| consumer.kind == Kind::StampOnly)
        };
        let starts: Vec<&World> = starts.iter().filter(knows).collect();
        let world = random.pick(&starts).clone();
        real.begin();
        real.clock.tick();
        Walk {
            askers: world.consumers.iter().map(|_| Asker::default()).collect(),
            trace: vec![format!("{:?}", real.clock)],
            plan,
            world,
            real,
            random,
        }
    }

    fn run(&mut self) -> Outcome {
        for _ in 0..MOST_ACTIONS {
            let mut actions = Vec::new();
            self.plan.actions(&self.world, &mut actions);
            let consumer = |action: &&Action| matches!(action, Action::Consumer(_));
            let consumers: Vec<Action> = actions.iter().filter(consumer).copied().collect();
            let action = match self.random.one_in(2) {
                true => self.random.pick(&consumers),
                false => self.random.pick(&actions),
            };
            self.act(action)?;
        }
        Ok(())
    }

    /// Does an action in the model, if it can be done there.
    fn step(&mut self, action: Action) -> bool {
        let next = self.plan.next_state(&self.world, action);
        let is_possible = next.is_some();
        if let Some(next) = next {
            self.world = next;
        }
        is_possible
    }

    fn note(&mut self, what: impl std::fmt::Debug) {
        self.trace.push(format!("{what:?}"));
    }

    fn act(&mut self, action: Action) -> Outcome {
        match action {
            Action::Consumer(index) => return self.consumer(index),
            Action::Manager => self.manager(),
            Action::Person => self.touch(action, Action::PersonKilled, Ending::Synced),
            // These come in the midst of a touch, which is one action here.
            Action::TriggerKilled | Action::PersonKilled => {}
            Action::Mount | Action::Unmount => {}
            action => {
                let before = self.world.clone();
                if self.step(action) {
                    self.note(action);
                    self.imitate(action, &before);
                }
            }
        }
        Ok(())
    }

    fn imitate(&mut self, action: Action, before: &World) {
        self.real.imitate(action, before);
        match action {
            Action::PowerLoss(_) => self.askers.iter_mut().for_each(Asker::stop),
            Action::ConsumerKilled(index) => self.askers[index].stop(),
            _ => {}
        }
    }

    fn manager(&mut self) {
        match self.plan.manager[usize::from(self.world.manager_at)] {
            Step::Lay(module, content) => {
                self.step(Action::Manager);
                self.note(("Lay", module, content));
                self.real.lay(module, content);
            }
            Step::Touch => {
                self.touch(Action::Manager, Action::TriggerKilled, Ending::NotSynced);
            }
            Step::SyncTouch => self.touch(Action::Manager, Action::TriggerKilled, Ending::Synced),
            Step::Next | Step::End => drop(self.step(Action::Manager)),
        }
    }

    /// Does a whole touch, or kills it after some of its steps.
    fn touch(&mut self, step: Action, kill: Action, ending: Ending) {
        let is_killed = self.plan.kills && self.random.one_in(4);
        let most = match is_killed {
            true => 1 + self.random.below(self.plan.touch.len() - 1),
            false => usize::MAX,
        };
        let mut done = 0;
        while done < most && self.step(step) {
            done += 1;
            if self.world.trigger.is_none() && self.world.person.is_none() {
                break;
            }
        }
        let is_over = self.world.trigger.is_none() && self.world.person.is_none();
        let has_done = |step| self.plan.touch[..done.min(self.plan.touch.len())].contains(&step);
        let ending = match (is_over, has_done(TouchStep::Exchange)) {
            (true, _) => Some(ending),
            (false, true) => Some(Ending::NotSynced),
            (false, false) => has_done(TouchStep::Remember).then_some(Ending::Killed),
        };
        self.note((step, ending));
        if let Some(ending) = ending {
            SEEN.touches.fetch_add(1, Relaxed);
            self.real.touch(ending);
        }
        if !is_over {
            self.step(kill);
        }
    }

    fn consumer(&mut self, index: usize) -> Outcome {
        let consumer = self.world.consumers[index];
        match consumer.at {
            At::Idle | At::Fresh(_) | At::NotKept if consumer.stored.is_some() => {
                self.check(index, consumer.kind)
            }
            At::Asking(done) => self.ask(index, consumer.kind, usize::from(done)),
            _ => self.ask(index, consumer.kind, 0),
        }
    }

    /// A whole check, in the model and by the library.
    fn check(&mut self, index: usize, kind: Kind) -> Outcome {
        while self.step(Action::Consumer(index)) {
            if !matches!(self.world.consumers[index].at, At::Checking(_)) {
                break;
            }
        }
        let at = self.world.consumers[index].at;
        let verdict = self.askers[index].check(&self.real, kind);
        let verdict = verdict.ok_or("the model has an answer, and the library kept none")?;
        self.note(("check", index, at, verdict.is_fresh()));
        // The lost time may come again in the model, which has few times.
        let is_lax = self.plan.often.power_losses > 0 && !verdict.is_fresh();
        match (at, verdict.is_fresh()) {
            (At::Fresh(check), true) => {
                SEEN.fresh.fetch_add(1, Relaxed);
                let is_new = kind == Kind::Folding && check.is_same != [true; 2];
                if is_new && self.is_settled() {
                    self.askers[index].learn(&self.real);
                }
            }
            (At::Stale(_), false) => drop(SEEN.stale.fetch_add(1, Relaxed)),
            (At::Fresh(_), false) if is_lax => {
                // Go on as the library does: the model asks again once it has no answer.
                self.world.consumers[index].stored = None;
                self.askers[index].stored = None;
            }
            (at, is_fresh) => {
                return Err(format!(
                    "the model says {at:?}, and the library that it is fresh: {is_fresh}; {verdict:?}"
                ));
            }
        }
        Promise::NothingStaleIsFresh.held();
        Ok(())
    }

    /// Whether no module has changed in this tick. Otherwise to learn would take until the next.
    fn is_settled(&self) -> bool {
        let tick = self.world.clock.tick;
        let mut modules = self.world.tree.modules.iter();
        self.world.tree.ctime.tick < tick && modules.all(|module| module.ctime.tick < tick)
    }

    /// All steps of an asking consumer that the library does in one call.
    fn ask(&mut self, index: usize, kind: Kind, done: usize) -> Outcome {
        let list = match kind {
            Kind::StampOnly => self.plan.stamp_only.clone(),
            Kind::Folding => self.plan.fold.clone(),
        };
        let first = list[done];
        let is_like_first = |step: &&Do| {
            matches!(
                (first, **step),
                (Do::See(_), Do::See(_))
                    | (Do::Read(_), Do::Read(_))
                    | (Do::Again(_), Do::Again(_))
            )
        };
        let count = list[done..].iter().take_while(is_like_first).count().max(1);
        let changes = self.world.changes;
        let before = self.world.clone();
        for _ in 0..count {
            if !self.step(Action::Consumer(index)) {
                return Ok(()); // It waits.
            }
            if !matches!(self.world.consumers[index].at, At::Asking(_)) {
                break;
            }
        }
        self.note(("ask", index, first));
        let asker = &mut self.askers[index];
        match first {
            Do::See(_) => asker.look(&self.real),
            Do::Wait(_) => {}
            Do::Read(_) => asker.read(&self.real),
            Do::Probe(module) => asker.probe(&self.real, module, changes),
            Do::Again(_) => return self.end(index, kind, before),
        }
        Ok(())
    }

    fn end(&mut self, index: usize, kind: Kind, before: World) -> Outcome {
        let is_kept = self.askers[index].end(&self.real, kind, before.changes);
        let at = self.world.consumers[index].at;
        self.note(("end", index, at, is_kept));
        match (at, is_kept) {
            (At::NotKept, true) => return Err("the library keeps a disturbed answer".to_owned()),
            (At::NotKept, false) => drop(SEEN.not_kept.fetch_add(1, Relaxed)),
            (_, false) => {
                SEEN.stricter.fetch_add(1, Relaxed);
                self.world = before;
                self.step(Action::ConsumerKilled(index));
            }
            (_, true) => {
                let stored = self.world.consumers[index]
                    .stored
                    .zip(self.askers[index].stored.clone());
                let (model, library) = stored.ok_or("an answer was not stored")?;
                if kind == Kind::Folding && model.value != library.value {
                    return Err(format!("{model:?} is not {library:?}"));
                }
            }
        }
        Promise::NothingStaleIsFresh.held();
        Ok(())
    }
}
