//! The shortest counterexample of each hole, replayed on the real library.
//!
//! The trace comes from a model that lacks a rule, and ends with a broken promise. Two consumers
//! follow it: one judges by the stamp alone, and one by the whole witness. Both use the library in
//! the order that its interface asks for. At the end neither may be fooled.

use std::collections::BTreeMap;
use std::thread;

use stateright::Model;
use support::tally::Promise;

use super::asker::Asker;
use super::protocol::{
    Action, At, BACK, Do, FOUND, Kind, NEEDLESS, Plan, SCENARIOS, Step, TouchStep, World,
};
use super::real::{Clock, Ending, Lab, Real};

/// The holes in which the stamp alone cannot tell. The whole witness does.
const STAMP_IS_BLIND: [&str; 6] = [
    // No trigger runs after the change.
    "only_filetriggerun_on_removal_is_found_to_be_a_hole",
    "no_touch_before_the_next_package_is_found_to_be_a_hole",
    // A power loss undoes the only touch.
    "no_synced_touch_and_a_power_loss_is_found_to_be_a_hole",
    // The limits that lib.rs tells.
    "a_power_loss_with_the_clock_behind_the_stamp_is_found_to_be_a_limit",
    "a_clock_set_back_to_the_very_tick_of_a_change_is_found_to_be_a_limit",
    "a_touch_by_hand_in_the_midst_of_a_touch_is_found_to_be_a_limit_of_whole_seconds",
];

/// A limit that lib.rs tells: something else is mounted over the modules during the probe alone.
const NOT_REPLAYED: &str = "a_mount_there_and_back_during_a_probe_is_found_to_be_a_limit";

/// A trace, with the hole that it is of.
struct Trace {
    name: &'static str,
    promise: &'static str,
    plan: Plan,
    actions: Vec<Action>,
}

pub fn all() {
    let traces = traces();
    let lab = Lab::new();
    let failed: Vec<String> = thread::scope(|scope| {
        let lab = &lab;
        let start = |(number, trace)| {
            let replay = move || replay(lab, number, trace);
            (trace, scope.spawn(replay))
        };
        let started: Vec<_> = traces.iter().enumerate().map(start).collect();
        let outcome = |(trace, started): (&Trace, thread::ScopedJoinHandle<'_, _>)| {
            let outcome: Result<(), String> = started.join().unwrap_or_else(|_| {
                Err("it panicked".to_owned()) // The panic's message is above.
            });
            let why = outcome.err()?;
            Some(format!(
                "{}: {}\n{:?}\n{why}",
                trace.name, trace.promise, trace.actions
            ))
        };
        started.into_iter().filter_map(outcome).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    traces
        .iter()
        .for_each(|trace| *count.entry(trace.name).or_default() += 1);
    println!("{} traces of {} holes", traces.len(), count.len());
}

/// Explores each model that lacks a rule.
fn traces() -> Vec<Trace> {
    let mut traces = Vec::new();
    for (name, scenario) in SCENARIOS {
        if !name.contains("_found_to_") || *name == NOT_REPLAYED {
            continue;
        }
        scenario();
        let found = std::mem::take(&mut *FOUND.lock().unwrap());
        assert!(!found.is_empty(), "{name} has no trace");
        traces.extend(found.into_iter().map(|(promise, plan, actions)| Trace {
            name,
            promise,
            plan,
            actions,
        }));
    }
    traces
}

/// A consumer by the stamp alone, and one by the whole witness.
const KINDS: [Kind; 2] = [Kind::StampOnly, Kind::Folding];

struct Replay<'a> {
    trace: &'a Trace,
    world: World,
    real: Real,
    askers: [Asker; 2],
    touches: usize,
}

fn replay(lab: &Lab, number: usize, trace: &Trace) -> Result<(), String> {
    // The last state tells which of the first ones the trace began in.
    let is_whole = |world: &World| {
        let next = |world: World, action: &Action| trace.plan.next_state(&world, *action);
        let end = trace.actions.iter().try_fold(world.clone(), next);
        end.is_some_and(|end| is_broken(&trace.plan, trace.promise, &end))
    };
    let starts = trace.plan.init_states();
    let start = starts
        .into_iter()
        .find(is_whole)
        .ok_or("the trace has no start")?;
    let tick = if trace.plan.whole_seconds { 1 } else { 2 };
    let mut real = Real::new(lab, number, trace.plan.whole_seconds, Clock::Real { tick });
    real.begin();
    real.clock.tick();
    let mut replay = Replay {
        trace,
        world: start,
        real,
        askers: Default::default(),
        touches: 0,
    };
    for action in &trace.actions {
        replay.act(*action);
    }
    replay.judge()
}

fn is_broken(plan: &Plan, promise: &str, world: &World) -> bool {
    let properties = plan.properties();
    let mut promises = properties
        .iter()
        .filter(|property| property.name == promise);
    promises.any(|property| !(property.condition)(plan, world))
}

impl Replay<'_> {
    fn act(&mut self, action: Action) {
        let before = self.world.clone();
        let next = self.trace.plan.next_state(&before, action);
        self.world = next.expect("a trace has possible actions only");
        self.real.imitate(action, &before);
        match action {
            Action::Tick
            | Action::Change(..)
            | Action::Redeploy(_)
            | Action::HandTouch
            | Action::RemoveStamp => {}
            Action::PowerLoss(_) | Action::ConsumerKilled(_) => {
                self.askers.iter_mut().for_each(Asker::stop);
            }
            Action::Consumer(index) => self.consumer(&before, index),
            Action::Manager => self.manager(&before),
            Action::Person => {
                let done = before.person.map_or(0, |touch| touch.done);
                self.touch_step(done, Ending::Synced);
            }
            Action::PersonKilled => self.kill(before.person.map_or(0, |touch| touch.done)),
            Action::TriggerKilled | Action::ManagerKilled => {
                self.kill(before.trigger.map_or(0, |touch| touch.done));
            }
            Action::StepBack(_) => {} // Touches by hand leave the model's times from now on.
            Action::Mount | Action::Unmount => unreachable!("{NOT_REPLAYED}"),
        }
    }

    fn manager(&mut self, before: &World) {
        let ending = match self.trace.plan.manager[usize::from(before.manager_at)] {
            Step::Lay(module, content) => return self.real.lay(module, content),
            Step::Next | Step::End => return,
            Step::Touch => Ending::NotSynced,
            Step::SyncTouch => Ending::Synced,
        };
        self.touch_step(before.trigger.map_or(0, |touch| touch.done), ending);
    }

    /// The library touches in one call, when the model puts the new stamp in place.
    fn touch_step(&mut self, done: u8, ending: Ending) {
        if self.trace.plan.touch[usize::from(done)] == TouchStep::Exchange {
            self.real.touch(ending);
            self.touches += 1;
        }
    }

    /// Kills a touch that is about to put the new stamp in place.
    fn kill(&mut self, done: u8) {
        let done = &self.trace.plan.touch[..usize::from(done)];
        if done.contains(&TouchStep::Remember) && !done.contains(&TouchStep::Exchange) {
            self.real.touch(Ending::Killed);
        }
    }

    /// Does as much as the model's consumer does, but in the library's order.
    fn consumer(&mut self, before: &World, index: usize) {
        let consumer = before.consumers[index];
        let done = match consumer.at {
            At::Asking(done) => usize::from(done),
            At::Stale(_) => 0,
            At::Checking(_) => return,
            At::Idle | At::Fresh(_) | At::NotKept if consumer.stored.is_some() => return,
            At::Idle | At::Fresh(_) | At::NotKept => 0,
        };
        let list = match consumer.kind {
            Kind::StampOnly => &self.trace.plan.stamp_only,
            Kind::Folding => &self.trace.plan.fold,
        };
        let is_over = done + 1 == list.len();
        for (asker, kind) in self.askers.iter_mut().zip(KINDS) {
            match list[done] {
                Do::See(_) => asker.look(&self.real),
                Do::Wait(_) => {}
                Do::Read(_) => asker.read(&self.real),
                Do::Probe(module) => asker.probe(&self.real, module, before.changes),
                Do::Again(_) => {}
            }
            if is_over {
                asker.end(&self.real, kind, before.changes);
            }
        }
    }

    /// Judges the answers that the consumers have by now.
    fn judge(&self) -> Result<(), String> {
        let Trace { name, promise, .. } = self.trace;
        if *promise == BACK {
            // Each touch was found to leave a later time.
            return match self.touches {
                0 | 1 => Err("nothing was touched twice".to_owned()),
                _ => Ok(()),
            };
        }
        let now = [0, 1].map(|module| self.real.content(module));
        for (asker, kind) in self.askers.iter().zip(KINDS) {
            if kind == Kind::StampOnly && STAMP_IS_BLIND.contains(name) {
                continue;
            }
            let Some(verdict) = asker.check(&self.real, kind) else {
                continue; // It was not kept.
            };
            let stored = asker.stored.as_ref();
            let is_true = stored.is_some_and(|stored| match kind {
                Kind::StampOnly => stored.as_of >= self.world.covered,
                Kind::Folding => stored.value == now,
            });
            let is_needless = *promise == NEEDLESS && !verdict.is_fresh();
            if verdict.is_fresh() && !is_true || is_needless {
                return Err(format!("{kind:?}: {verdict:?} on {stored:?}; now {now:?}"));
            }
            Promise::NothingStaleIsFresh.held();
        }
        Ok(())
    }
}
