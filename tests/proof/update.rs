//! A model of updates. stateright explores every order in which the steps of updates, touches,
//! changes, consumers, kills and power losses can happen.
//!
//! An update looks at the modules. It touches the stamp if the kept witness says that they were
//! others at the last touch. A trigger's or a person's touch keeps what it saw, too. Each looks
//! before it takes its turn, and again in its turn if somebody touched meanwhile. A touch removes
//! the kept witness, and then keeps what it saw. The consumer knows the stamp alone. One that folds
//! in the modules needs no update.
//!
//! # Promises
//!
//! - [`STALE`] After the last change an update begins and ends. Then an answer that was probed from
//!   anything else than there is now is never served.
//! - [`TWICE`] Updates touch once for a change, however many run at once. This is only of updates
//!   that are not under way when a change is made, not killed, and not cut off by a power loss.
//!
//! A hole breaks one rule, or shows a limit. The checker has to find the state in which the promise
//! does not hold.
//!
//! # Bounds
//!
//! Two updates and one other touch run at once. Each plan has a few changes, kills, power losses
//! and touches, with at most [`MOST_TOUCHES`] touches by all actors.
//!
//! A change is durable at once, because an image is. The files of a touch become durable in the
//! order in which they were written, as in a journal. No two touches leave one time: `protocol.rs`
//! shows that.

use stateright::{Checker, HasDiscoveries, Model, Property};
use support::named;
use support::test::{self, Needs, Test};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    no_order_of_steps_kills_and_power_losses_serves_an_old_answer_after_an_update,
    updates_at_once_touch_once_for_a_change,
    updates_that_do_not_look_again_in_their_turn_touch_twice,
    what_is_kept_before_the_touch_is_not_to_be_believed,
    what_is_looked_at_after_the_touch_is_not_to_be_believed,
    what_came_and_went_again_between_two_updates_is_not_seen,
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::minutes(), SCENARIOS).collect()
}

pub const STALE: &str = "an old answer is served after an update";
const TWICE: &str = "two updates touch for one change";

const MOST_TOUCHES: u8 = 4;

/// The rules, and the bounds of one exploration.
#[derive(Clone)]
pub struct Plan {
    pub steps: [Step; 4],
    /// Whether an actor that got its turn looks again if somebody touched since it looked.
    looks_in_turn: bool,
    /// Whether a change may bring back an earlier content.
    may_come_back: bool,
    /// Whether changes are made only while no actor is under way.
    changes_at_rest: bool,
    changes: u8,
    kills: u8,
    pub losses: u8,
    /// Touches that are no updates.
    touches: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    Look,
    /// Takes the turn. An update ends here if it is not needed.
    Turn,
    Touch,
    Keep,
}

use Step::{Keep, Look, Touch, Turn};

pub fn plan() -> Plan {
    Plan {
        steps: [Look, Turn, Touch, Keep],
        looks_in_turn: true,
        may_come_back: false,
        changes_at_rest: false,
        changes: 2,
        kills: 1,
        losses: 1,
        touches: 1,
    }
}

/// The actors: two updates, and another touch.
pub const UPDATES: usize = 2;
const ACTORS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Actor {
    /// The number of steps that are done.
    pub done: u8,
    /// The modules that it saw, and the files that it saw before them.
    seen: u8,
    mark: Files,
    /// Ghost: the number of changes before it began.
    since: u8,
}

/// The files in the stamp's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Files {
    /// The number of the touch that left it; 0 if there is no stamp.
    stamp: u8,
    /// The modules in the kept witness; 0 if there is no witness.
    kept: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    pub content: u8,
    pub files: Files,
    /// The files that a power loss leaves.
    pub durable: Files,
    turn: Option<usize>,
    pub actors: [Actor; ACTORS],
    /// The stamp that the consumer saw, and then the modules.
    pub asking: (Option<u8>, Option<u8>),
    /// The stamp that it saw, and the content that it probed.
    answer: Option<(u8, u8)>,
    /// The number of changes so far; below are those of the other events.
    pub changes: u8,
    kills: u8,
    losses: u8,
    touches: u8,
    pub times: u8,
    /// Ghost: an update that began after the last change has ended.
    is_told: bool,
    /// Ghost: how often updates touched since the last change.
    update_touches: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Act {
    Change(u8),
    Step(usize),
    Kill(usize),
    LosePower,
    WriteBack,
    SeeStamp,
    Probe,
    Store,
}

impl Plan {
    /// The next step of an actor.
    fn step(&self, world: &mut World, number: usize) {
        let mut actor = world.actors[number];
        let is_update = number < UPDATES;
        let mut is_over = false;
        match self.steps[usize::from(actor.done)] {
            Look => {
                actor.seen = world.content;
                actor.mark = world.files;
                is_over = is_update && world.is_kept(actor.seen);
            }
            Turn => {
                world.turn = Some(number);
                if self.looks_in_turn && actor.mark != world.files {
                    actor.seen = world.content;
                    actor.since = world.changes;
                    is_over = is_update && world.is_kept(actor.seen);
                }
            }
            Touch => {
                world.times += 1;
                world.files = Files {
                    stamp: world.times,
                    kept: 0,
                };
                world.update_touches += u8::from(is_update);
            }
            Keep => world.files.kept = actor.seen,
        }
        actor.done += 1;
        if usize::from(actor.done) == self.steps.len() || is_over {
            if actor.done > 1 {
                world.durable = world.files; // It syncs.
            }
            world.is_told |= is_update && actor.since == world.changes;
            world.release(number);
            actor = Actor::default();
        }
        world.actors[number] = actor;
    }
}

impl World {
    fn release(&mut self, number: usize) {
        if self.turn == Some(number) {
            self.turn = None;
        }
    }

    fn is_kept(&self, seen: u8) -> bool {
        self.files.kept == seen && self.files.stamp > 0
    }

    /// The content that the consumer's answer was probed from, if the answer is served now.
    pub fn is_served(&self) -> Option<u8> {
        let (stamp, value) = self.answer?;
        (stamp == self.files.stamp).then_some(value)
    }
}

impl Model for Plan {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            content: 1,
            files: Files::default(),
            durable: Files::default(),
            turn: None,
            actors: [Actor::default(); ACTORS],
            asking: (None, None),
            answer: None,
            changes: 0,
            kills: 0,
            losses: 0,
            touches: 0,
            times: 0,
            is_told: false,
            update_touches: 0,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        let is_at_rest = world.actors.iter().all(|actor| actor.done == 0);
        if world.changes < self.changes && (is_at_rest || !self.changes_at_rest) {
            actions.push(Act::Change(world.changes + 2));
            if self.may_come_back && world.content != 1 {
                actions.push(Act::Change(1));
            }
        }
        for (number, actor) in world.actors.iter().enumerate() {
            let may_begin = number < UPDATES || world.touches < self.touches;
            let waits = self.steps[usize::from(actor.done)] == Turn && world.turn.is_some();
            if (actor.done > 0 || may_begin) && !waits {
                actions.push(Act::Step(number));
            }
            if actor.done > 0 && world.kills < self.kills {
                actions.push(Act::Kill(number));
            }
        }
        if world.losses < self.losses {
            actions.push(Act::LosePower);
        }
        if world.durable != world.files && world.losses < self.losses {
            actions.push(Act::WriteBack);
        }
        actions.push(match world.asking {
            (None, _) => Act::SeeStamp,
            (Some(_), None) => Act::Probe,
            (Some(_), Some(_)) => Act::Store,
        });
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let mut world = *last;
        match act {
            Act::Change(content) => {
                world.content = content;
                world.changes += 1;
                world.is_told = false;
                world.update_touches = 0;
            }
            Act::Step(number) => {
                if world.actors[number].done == 0 {
                    world.actors[number].since = world.changes;
                    world.touches += u8::from(number >= UPDATES);
                }
                self.step(&mut world, number);
            }
            Act::Kill(number) => {
                world.kills += 1;
                world.release(number);
                world.actors[number] = Actor::default();
            }
            Act::LosePower => {
                world.losses += 1;
                world.files = world.durable;
                world.turn = None;
                world.actors = [Actor::default(); ACTORS];
                world.asking = (None, None);
                world.is_told = false;
            }
            Act::WriteBack => world.durable = world.files,
            Act::SeeStamp => world.asking.0 = Some(world.files.stamp),
            Act::Probe => world.asking.1 = Some(world.content),
            Act::Store => {
                if let (Some(stamp), Some(value)) = world.asking {
                    // The look after the probe.
                    if stamp == world.files.stamp {
                        world.answer = Some((stamp, value));
                    }
                }
                world.asking = (None, None);
            }
        }
        if world.losses == self.losses {
            world.durable = world.files; // The durable files no longer matter.
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Plan>> {
        vec![
            Property::always(STALE, |_, world: &World| {
                let is_old = |value| value != world.content;
                !(world.is_told && world.is_served().is_some_and(is_old))
            }),
            Property::always(TWICE, |plan, world: &World| {
                !plan.changes_at_rest || world.update_touches <= 1
            }),
        ]
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.times <= MOST_TOUCHES
    }
}

/// Explores all states, or until a promise is broken. Returns the broken ones.
fn broken(plan: Plan) -> Vec<&'static str> {
    let checker = plan.checker().finish_when(HasDiscoveries::Any);
    let checker = checker.spawn_bfs().join();
    checker.discoveries().into_keys().collect()
}

/// Two updates alone.
fn updates() -> Plan {
    Plan {
        changes_at_rest: true,
        kills: 0,
        losses: 0,
        touches: 0,
        ..plan()
    }
}

fn no_order_of_steps_kills_and_power_losses_serves_an_old_answer_after_an_update() {
    assert_eq!(
        broken(Plan {
            losses: 0,
            ..plan()
        }),
        [""; 0]
    );
    assert_eq!(broken(Plan { kills: 0, ..plan() }), [""; 0]);
}

fn updates_at_once_touch_once_for_a_change() {
    assert_eq!(broken(updates()), [""; 0]);
}

/// A plan that lacks a rule, and the promise that does not hold then.
pub struct Hole {
    pub plan: Plan,
    pub promise: &'static str,
}

pub fn no_second_look() -> Hole {
    let looks_in_turn = false;
    let plan = Plan {
        looks_in_turn,
        ..updates()
    };
    let promise = TWICE;
    Hole { plan, promise }
}

pub fn kept_before_the_touch() -> Hole {
    let steps = [Look, Turn, Keep, Touch];
    let plan = Plan { steps, ..plan() };
    let promise = STALE;
    Hole { plan, promise }
}

pub fn looked_at_after_the_touch() -> Hole {
    let steps = [Turn, Touch, Look, Keep];
    let plan = Plan { steps, ..plan() };
    let promise = STALE;
    Hole { plan, promise }
}

impl Hole {
    #[track_caller]
    fn must_be_found(self) {
        assert_eq!(broken(self.plan), [self.promise]);
    }
}

fn updates_that_do_not_look_again_in_their_turn_touch_twice() {
    no_second_look().must_be_found();
}

fn what_is_kept_before_the_touch_is_not_to_be_believed() {
    kept_before_the_touch().must_be_found();
}

fn what_is_looked_at_after_the_touch_is_not_to_be_believed() {
    looked_at_after_the_touch().must_be_found();
}

/// A limit, which lib.rs and docs/images.md tell: only a check that folds in the modules sees it.
fn what_came_and_went_again_between_two_updates_is_not_seen() {
    let may_come_back = true;
    assert_eq!(
        broken(Plan {
            may_come_back,
            ..plan()
        }),
        [STALE]
    );
}
