//! A model of the protocol. stateright explores every order in which its actors' steps can happen.
//!
//! # Actors
//!
//! - A package manager, whose triggers touch the stamp.
//! - A person who runs `modstamp touch`.
//! - A hand that changes modules without any trigger.
//! - The clock.
//! - Consumers. They check what they stored, and probe again when it is stale. A consumer either
//!   knows the stamp alone, or folds in the two modules and their directory, too.
//!
//! The steps of each are a list below ([`Step`], [`TouchStep`], [`Do`]). Each actor can be killed
//! between any two steps, and the power can fail.
//!
//! # Promises
//!
//! - [`OLDER`] A change is made. Then a trigger that began after the change ends, or the package
//!   manager goes on to the next package. No check that begins later says fresh for an answer whose
//!   probe began before the change.
//! - [`WRONG`] A consumer that folds says fresh only if each module is still what the answer was
//!   probed from when the check looks at it, trigger or not.
//! - [`NEEDLESS`] Unless some content or the stamp changed since the observation began, no check
//!   says stale.
//! - [`BACK`] Each touch leaves a time that is later than all that were left before. This is only of
//!   touches that wait for the lock.
//! - [`LAST`] Once no touch is under way, the stamp has the latest of the times that touches left.
//!   The promise ends if somebody kills a touch, or changes the stamp by other means.
//!
//! A trial that is named after a promise explores all states of its plans. A hole breaks one rule
//! of the protocol, or shows a limit of it: the checker has to find a state in which the promise
//! does not hold.
//!
//! # Bounds
//!
//! Each plan has a few changes, touches, redeploys, steps of the clock back, power losses and
//! ticks. Nothing else is bounded: consumers check and probe without end, and whatever can be
//! killed can be killed each time. A hole that needs more of these at once than a plan has is not
//! found. The holes below need at most three changes and three ticks.
//!
//! A module's content is 1 or 2, or 0 if it is absent. That is enough: to be fooled takes a value,
//! another, and the first again. Consumers only read. So none notices another, unless they share a
//! cache. Most plans have one at a time. stateright tells states apart by 64 bits.
//!
//! A time is a tick, and how often the clock was set back: the same tick then has other
//! nanoseconds. In plans with `whole_seconds` a time is the tick alone. A touch without the lock
//! adds a number of its own, which is the actor's here. Two such touches that reckon from
//! different times never choose the same one in the model. Chance makes that so in truth. What the
//! lock file remembers is compared and stored in one step.
//!
//! The model leaves out file systems that do not keep ctimes, variables, and failing system calls.
//! Programs and further files are modules without a directory.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use stateright::{Checker, HasDiscoveries, Model, Property};
use support::named;
use support::test::{self, Needs, Test};

use Do::*;
use Input::*;
use Step::*;
use TouchStep::*;

/// The two modules.
pub(super) const A: usize = 0;
pub(super) const B: usize = 1;

/// A step of a package manager.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Puts a module with this content in its place by rename; 0 removes it.
    Lay(usize, u8),
    Touch,
    SyncTouch,
    /// rpm goes on to the next package, which may take long.
    Next,
    /// The transaction is over.
    End,
}

/// Installs, then removes. Its triggers are %filetriggerin, %transfiletriggerin, %filetriggerun,
/// %filetriggerpostun and %transfiletriggerpostun.
pub(super) const RPM: &[Step] = &[
    Lay(A, 2),
    Lay(B, 2),
    Touch,
    Next,
    SyncTouch,
    End,
    Touch,
    Lay(A, 0),
    Lay(B, 0),
    Touch,
    Next,
    SyncTouch,
    End,
];

/// Two packages in one run, then a third; triggers are deferred to the end of a run.
pub(super) const DPKG: &[Step] = &[
    Lay(A, 2),
    Lay(B, 2),
    Lay(A, 0),
    SyncTouch,
    End,
    Lay(B, 0),
    SyncTouch,
    End,
];

/// A step of a touch. It has the lock until all but the syncing is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TouchStep {
    /// Takes the lock, and reckons the new time from the clock, the stamp and the lock file.
    Lock,
    /// Takes the lock, or goes on without it at any time if another touch holds it. Reckons.
    LockOrGoOn,
    /// Reckons without the lock.
    Reckon,
    Remember,
    /// Exchanges the stamp for the new one. Reckons again if the stamp that came out is not earlier.
    Exchange,
    /// Exchanges, and does not look at the stamp that came out.
    BlindExchange,
    /// A touch that is not to be synced ends before this one.
    Sync,
}

const TOUCH: &[TouchStep] = &[Lock, Remember, Exchange, Sync];
const IMPATIENT: &[TouchStep] = &[LockOrGoOn, Remember, Exchange, Sync];

/// A step of a consumer that gets an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Do {
    /// Observes the stamp's mtime, or another input by stat(2).
    See(Input),
    /// Waits until no change can get a time that was seen.
    Wait(For),
    /// Observes the content of a module.
    Read(usize),
    Probe(usize),
    /// Looks again. The answer is not kept if anything at all is different.
    Again(Input),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Input {
    Stamp,
    Directory,
    Module(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum For {
    /// Until the clock shows another tick than the stamp.
    StampsTick,
    /// Until the clock has passed the stamp.
    Stamp,
    /// Until the clock has passed whatever was seen.
    All,
}

/// The first look at the directory comes before its names, and the last one after them. So a name
/// that came or went in between shows.
const FOLD: &[Do] = &[
    See(Stamp),
    See(Directory),
    See(Module(A)),
    See(Module(B)),
    Wait(For::All),
    Read(A),
    Read(B),
    Probe(A),
    Probe(B),
    Again(Stamp),
    Again(Module(A)),
    Again(Module(B)),
    Again(Directory),
];

const STAMP_ONLY: &[Do] = &[
    See(Stamp),
    Wait(For::Stamp),
    Probe(A),
    Probe(B),
    Again(Stamp),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    StampOnly,
    Folding,
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Often {
    /// Touches by a person's `modstamp touch`.
    pub(super) touches: u8,
    /// Changes of content by hand, in place if there is something.
    pub(super) changes: u8,
    /// The same content with another inode.
    pub(super) redeploys: u8,
    /// A plain touch(1) of the stamp.
    pub(super) hand_touches: u8,
    pub(super) stamp_removals: u8,
    /// Another file system, mounted over the module directory and unmounted.
    pub(super) mounts: u8,
    pub(super) steps_back: u8,
    pub(super) power_losses: u8,
}

/// The rules of the protocol and the bounds of one exploration.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) manager: &'static [Step],
    pub(super) touch: &'static [TouchStep],
    pub(super) fold: Vec<Do>,
    pub(super) stamp_only: Vec<Do>,
    /// The consumers that exist at once. Each entry is explored.
    pub(super) consumers: &'static [&'static [Kind]],
    /// The consumers share one cache.
    pub(super) share: bool,
    pub(super) often: Often,
    pub(super) kills: bool,
    pub(super) ticks: u8,
    /// Times are whole ticks. Otherwise the same tick has other nanoseconds after a step back of
    /// the clock.
    pub(super) whole_seconds: bool,
    /// An equal stat is evidence only if the ctime had passed when it was observed.
    pub(super) racy_is_no_evidence: bool,
    /// A touch without the lock adds a number of its own.
    pub(super) own_numbers: bool,
    /// A time is different only if it is later.
    pub(super) newer: bool,
    /// If the stat differs, the content decides.
    pub(super) content_decides: bool,
}

pub(super) const EITHER: &[&[Kind]] = &[&[Kind::StampOnly], &[Kind::Folding]];

/// The protocol as it is, in a world in which nothing happens.
pub(super) fn plan() -> Plan {
    Plan {
        manager: &[],
        touch: TOUCH,
        fold: FOLD.to_vec(),
        stamp_only: STAMP_ONLY.to_vec(),
        consumers: EITHER,
        share: false,
        often: Often::default(),
        kills: false,
        ticks: 3,
        whole_seconds: false,
        racy_is_no_evidence: true,
        own_numbers: true,
        newer: false,
        content_decides: true,
    }
}

/// A plan with some of it changed.
macro_rules! with {
    ($plan:expr, $($($name:ident).+: $value:expr),*) => {{
        let mut plan = $plan.clone();
        $(plan.$($name).+ = $value;)*
        plan
    }};
}

macro_rules! plan {
    ($($changed:tt)*) => { with!(plan(), $($changed)*) };
}

/// A time as a file keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Time {
    pub(super) tick: u8,
    /// The nanoseconds by which a touch went beyond the tick.
    pub(super) nanoseconds: u8,
    /// The own number of a touch without the lock.
    pub(super) number: u8,
    /// How often the clock had been set back.
    pub(super) era: u8,
}

impl Time {
    fn is_later_than(self, other: Time) -> bool {
        let order = |time: Time| (time.tick, time.nanoseconds, time.number);
        order(self) > order(other)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct File {
    /// 0 if it is absent.
    pub(super) content: u8,
    pub(super) ctime: Time,
}

impl File {
    /// `None` if it is absent.
    fn stat(self) -> Option<Time> {
        (self.content > 0).then_some(self.ctime)
    }
}

/// A module directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Tree {
    pub(super) ctime: Time,
    pub(super) modules: [File; 2],
}

/// A touch that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Touching {
    pub(super) done: u8,
    pub(super) time: Time,
    pub(super) is_locked: bool,
    /// Ghost: how many changes had been made when it began.
    pub(super) covers: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Witness {
    pub(super) stamp: Option<Time>,
    pub(super) stat: [Option<Time>; 2],
    pub(super) is_evidence: [bool; 2],
    pub(super) content: [u8; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Answer {
    pub(super) witness: Witness,
    /// The content that each module was probed from.
    pub(super) value: [u8; 2],
    /// Ghost: how many changes had been made when its probe began.
    pub(super) as_of: u8,
    /// Ghost: whether some content or the stamp changed since its observation began.
    pub(super) touched: bool,
}

/// The state of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    Idle,
    /// The consumer found the stamp the same, and looked at some modules.
    Checking(Check),
    Fresh(Check),
    Stale(Needless),
    /// The consumer has done this number of steps of its list.
    Asking(u8),
    NotKept,
}

/// Ghost: whether nothing changed.
pub(super) type Needless = bool;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Check {
    /// 0 and 1 are the modules' stats, 2 and 3 their contents.
    pub(super) step: u8,
    /// Whether stat alone has shown that a module is the same.
    pub(super) is_same: [bool; 2],
    /// Ghosts: whether the answer is older than a change whose trigger has run, and whether it was
    /// probed from another content of a module than the check saw, or than there is.
    pub(super) older: bool,
    pub(super) wrong: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Consumer {
    pub(super) kind: Kind,
    pub(super) at: At,
    /// The answer that it is getting, as far as it is.
    pub(super) new: Answer,
    pub(super) directory: Option<Time>,
    pub(super) stored: Option<Answer>,
}

impl Consumer {
    fn new(kind: Kind, stored: Option<Answer>) -> Consumer {
        let (at, new, directory) = (At::Idle, Answer::default(), None);
        Consumer {
            kind,
            at,
            new,
            directory,
            stored,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct World {
    pub(super) clock: Time,
    pub(super) tree: Tree,
    /// The module directory below another file system's mount.
    pub(super) hidden: Option<Tree>,
    pub(super) stamp: Option<Time>,
    /// The latest time, as the lock file remembers it.
    pub(super) latest: Option<Time>,
    /// The stamp that is left when the power fails.
    pub(super) durable: Option<Time>,
    pub(super) manager_at: u8,
    pub(super) trigger: Option<Touching>,
    pub(super) person: Option<Touching>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) shared: Option<Answer>,
    pub(super) left: Often,
    /// Ghosts: how many changes were made, and how many of them have had their trigger.
    pub(super) changes: u8,
    pub(super) covered: u8,
    /// Ghosts: the transaction's last change, and whether a trigger of it was killed.
    pub(super) own: u8,
    pub(super) killed: bool,
    /// Ghosts: the latest time that a touch left, and whether one left another that is not later.
    pub(super) highest: Option<Time>,
    pub(super) went_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Action {
    Tick,
    StepBack(u8),
    Manager,
    ManagerKilled,
    TriggerKilled,
    Person,
    PersonKilled,
    Change(usize, u8),
    Redeploy(usize),
    HandTouch,
    RemoveStamp,
    Mount,
    Unmount,
    Consumer(usize),
    ConsumerKilled(usize),
    PowerLoss(Unsynced),
}

/// The fate of a touch that was not synced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unsynced {
    Lost,
    Kept,
}

impl World {
    fn set(&mut self, module: usize, content: u8, by_rename: bool) {
        let old = self.tree.modules[module].content;
        if by_rename || old == 0 || content == 0 {
            self.tree.ctime = self.clock;
        }
        let mut ctime = self.clock;
        if content == 0 {
            ctime = Time::default();
        }
        self.tree.modules[module] = File { content, ctime };
        if old != content {
            self.changes += 1;
            self.touched();
        }
    }

    fn set_stamp(&mut self, stamp: Option<Time>) {
        self.stamp = stamp;
        self.touched();
    }

    fn touched(&mut self) {
        for consumer in &mut self.consumers {
            consumer.new.touched = matches!(consumer.at, At::Asking(_));
            if let Some(stored) = &mut consumer.stored {
                stored.touched = true;
            }
        }
        if let Some(shared) = &mut self.shared {
            shared.touched = true;
        }
    }

    fn is_past(&self, time: Time) -> bool {
        time.tick < self.clock.tick
    }

    /// Whether a change can still get this time.
    fn can_come(&self, time: Time) -> bool {
        time.era == self.clock.era && !self.is_past(time)
    }

    fn stop(&mut self, consumer: usize) {
        let Consumer { kind, stored, .. } = self.consumers[consumer];
        self.consumers[consumer] = Consumer::new(kind, stored);
    }
}

impl Plan {
    /// The next step of a touch; `Some(None)` if it was the last, `None` if it has to wait for the
    /// lock.
    fn touch(
        &self,
        world: &mut World,
        touch: Option<Touching>,
        number: u8,
        synced: bool,
    ) -> Option<Option<Touching>> {
        let mut touch = touch.unwrap_or(Touching {
            done: 0,
            time: world.clock,
            is_locked: false,
            covers: world.changes,
        });
        match self.touch[usize::from(touch.done)] {
            step @ (Lock | LockOrGoOn | Reckon) => {
                let is_held = |touch: &Touching| touch.is_locked;
                let is_free = ![world.trigger, world.person].iter().flatten().any(is_held);
                match step {
                    Lock if !is_free && !touch.is_locked => return None,
                    Reckon => {}
                    _ => touch.is_locked |= is_free,
                }
                let later = |a: Time, b: Time| if a.is_later_than(b) { a } else { b };
                let last = world.stamp.into_iter().chain(world.latest).reduce(later);
                // The least step. The kernel gives others the last tick, and the clock is past
                // that.
                let (tick, nanoseconds) = if self.whole_seconds { (1, 0) } else { (0, 1) };
                let mut now = world.clock;
                now.nanoseconds = nanoseconds;
                touch.time = last.map_or(now, |mut last| {
                    last.tick += tick;
                    last.nanoseconds += nanoseconds;
                    last.number = 0;
                    if last.is_later_than(now) { last } else { now }
                });
                if self.own_numbers && !touch.is_locked && !self.whole_seconds {
                    touch.time.number = number;
                }
            }
            Remember => {
                let is_later = |latest| touch.time.is_later_than(latest);
                if world.latest.is_none_or(is_later) {
                    world.latest = Some(touch.time);
                }
            }
            step @ (Exchange | BlindExchange) => {
                let is_later =
                    |than: Option<Time>| than.is_none_or(|it| touch.time.is_later_than(it));
                let goes_again = step == Exchange && !is_later(world.stamp);
                match is_later(world.highest) {
                    true => world.highest = Some(touch.time),
                    false => world.went_back = true,
                }
                world.set_stamp(Some(touch.time));
                if goes_again {
                    touch.done = 0;
                    return Some(Some(touch));
                }
            }
            Sync => world.durable = world.stamp,
        }
        touch.done += 1;
        match self.touch.get(usize::from(touch.done)) {
            Some(Sync) if synced => {
                touch.is_locked = false;
                return Some(Some(touch));
            }
            Some(Sync) | None => {}
            Some(_) => return Some(Some(touch)),
        }
        // If the power can fail, a trigger has run only once it is synced.
        if synced || self.often.power_losses == 0 {
            world.covered = world.covered.max(touch.covers);
        }
        Some(None)
    }

    fn manager(&self, world: &mut World) -> Option<()> {
        match self.manager[usize::from(world.manager_at)] {
            Lay(module, content) => {
                world.set(module, content, true);
                world.own = world.changes;
            }
            step @ (Touch | SyncTouch) => {
                world.trigger = self.touch(world, world.trigger, 1, step == SyncTouch)?;
                if world.trigger.is_some() {
                    return Some(());
                }
            }
            step @ (Next | End) => {
                // If the power can fail, only the end of a transaction has to be on disk.
                if !world.killed && (step == End || self.often.power_losses == 0) {
                    world.covered = world.covered.max(world.own);
                }
                if step == End {
                    (world.own, world.killed) = (0, false);
                }
            }
        }
        world.manager_at += 1;
        Some(())
    }

    fn kill_manager(&self, world: &mut World) {
        world.trigger = None;
        (world.own, world.killed) = (0, false);
        let rest = self.manager.iter().skip(usize::from(world.manager_at));
        let lost = rest.clone().take_while(|step| **step != End).count();
        world.manager_at += rest.len().min(lost + 1) as u8;
    }

    fn is_same(&self, then: Option<Time>, now: Option<Time>) -> bool {
        match (self.newer, then, now) {
            (true, Some(then), Some(now)) => !now.is_later_than(then),
            _ => then == now,
        }
    }

    fn is_evidence(&self, world: &World, module: usize) -> bool {
        world.is_past(world.tree.modules[module].ctime) || !self.racy_is_no_evidence
    }

    fn consumer(&self, world: &mut World, index: usize) -> Option<()> {
        let mut consumer = world.consumers[index];
        match consumer.at {
            At::Idle | At::Fresh(_) | At::NotKept => {
                if self.share {
                    consumer.stored = world.shared;
                }
                match consumer.stored {
                    Some(stored) => self.begin_check(world, &mut consumer, stored),
                    None => self.ask(world, &mut consumer, 0)?,
                }
            }
            At::Checking(check) => {
                let stored = consumer.stored?;
                self.check(world, &mut consumer, stored, check);
            }
            At::Stale(_) => self.ask(world, &mut consumer, 0)?,
            At::Asking(done) => self.ask(world, &mut consumer, done)?,
        }
        if self.share && !matches!(consumer.at, At::Checking(_)) {
            consumer.stored = None;
        }
        world.consumers[index] = consumer;
        Some(())
    }

    fn begin_check(&self, world: &World, consumer: &mut Consumer, stored: Answer) {
        let check = Check {
            older: stored.as_of < world.covered,
            ..Check::default()
        };
        consumer.at = match consumer.kind {
            _ if !self.is_same(stored.witness.stamp, world.stamp) => At::Stale(!stored.touched),
            Kind::StampOnly => At::Fresh(check),
            Kind::Folding => At::Checking(check),
        };
    }

    /// Looks at all stats. Then looks at the contents of those modules that stat does not prove the
    /// same.
    fn check(&self, world: &mut World, consumer: &mut Consumer, stored: Answer, mut check: Check) {
        let then = stored.witness;
        let module = usize::from(check.step % 2);
        let now = world.tree.modules[module];
        let differs;
        if check.step < 2 {
            let is_evidence = self.is_evidence(world, module);
            consumer.new.witness.stat[module] = now.stat();
            consumer.new.witness.is_evidence[module] = is_evidence;
            let is_equal = self.is_same(then.stat[module], now.stat());
            check.is_same[module] =
                is_equal && (now.content == 0 || then.is_evidence[module] && is_evidence);
            differs = then.stat[module].is_some() != now.stat().is_some()
                || !check.is_same[module] && !self.content_decides;
        } else {
            differs = then.content[module] != now.content;
        }
        if check.step >= 2 || check.is_same[module] {
            check.wrong |= stored.value[module] != now.content;
        }
        let next = |step: &u8| *step < 2 || !check.is_same[usize::from(step % 2)];
        let next = (check.step + 1..4).find(next);
        let seen = consumer.new.witness;
        if differs {
            consumer.at = At::Stale(!stored.touched);
        } else if let Some(step) = next {
            consumer.at = At::Checking(Check { step, ..check });
            return;
        } else {
            if check.is_same != [true; 2] {
                // From now on this stat will do.
                let mut learned = stored;
                learned.witness.stat = seen.stat;
                learned.witness.is_evidence = seen.is_evidence;
                self.keep(world, consumer, learned);
            }
            consumer.at = At::Fresh(Check { step: 0, ..check });
        }
        consumer.new = Answer::default();
    }

    /// The next step of a consumer's list after `done` ones.
    fn ask(&self, world: &mut World, consumer: &mut Consumer, done: u8) -> Option<()> {
        let list = match consumer.kind {
            Kind::StampOnly => &self.stamp_only,
            Kind::Folding => &self.fold,
        };
        let first_probe = list.iter().position(|step| matches!(step, Probe(_)));
        if done == 0 {
            consumer.new = Answer::default();
            if first_probe == Some(0) {
                consumer.new.as_of = world.changes;
            }
        }
        let new = &mut consumer.new;
        let seen = &mut new.witness;
        let modules = world.tree.modules;
        let mut is_same = true;
        match list[usize::from(done)] {
            See(Stamp) => seen.stamp = world.stamp,
            See(Directory) => consumer.directory = Some(world.tree.ctime),
            See(Module(module)) => {
                seen.stat[module] = modules[module].stat();
                seen.is_evidence[module] = self.is_evidence(world, module);
            }
            Wait(what) => {
                let stamp = seen.stamp.filter(|stamp| world.can_come(*stamp));
                let others = seen.stat.into_iter().chain([consumer.directory]).flatten();
                let waits = match what {
                    For::StampsTick => stamp.is_some_and(|stamp| stamp.tick == world.clock.tick),
                    For::Stamp => stamp.is_some(),
                    For::All => {
                        stamp.is_some() || others.into_iter().any(|time| world.can_come(time))
                    }
                };
                (!waits).then_some(())?;
            }
            Read(module) => seen.content[module] = modules[module].content,
            // A consumer that knows the stamp alone is judged by it alone.
            Probe(_) if consumer.kind == Kind::StampOnly => {}
            Probe(module) => new.value[module] = modules[module].content,
            Again(Stamp) => is_same = seen.stamp == world.stamp,
            Again(Directory) => is_same = consumer.directory == Some(world.tree.ctime),
            Again(Module(module)) => is_same = seen.stat[module] == modules[module].stat(),
        }
        let done = usize::from(done) + 1;
        if is_same && done < list.len() {
            consumer.at = At::Asking(done as u8);
            if first_probe == Some(done) {
                consumer.new.as_of = world.changes;
            }
            return Some(());
        }
        if is_same {
            self.keep(world, consumer, consumer.new);
        }
        consumer.at = if is_same { At::Idle } else { At::NotKept };
        consumer.new = Answer::default();
        consumer.directory = None;
        Some(())
    }

    fn keep(&self, world: &mut World, consumer: &mut Consumer, mut answer: Answer) {
        let witness = &mut answer.witness;
        for module in [A, B] {
            if !witness.is_evidence[module] {
                // Only its presence is stored.
                witness.stat[module] = witness.stat[module].map(|_| Time::default());
            }
        }
        match self.share {
            true => world.shared = Some(answer),
            false => consumer.stored = Some(answer),
        }
    }

    fn act(&self, world: &mut World, action: Action) -> Option<()> {
        match action {
            Action::Tick => world.clock.tick += 1,
            Action::StepBack(tick) => {
                world.left.steps_back -= 1;
                world.clock.tick = tick;
                world.clock.era += u8::from(!self.whole_seconds);
            }
            Action::Manager => self.manager(world)?,
            Action::ManagerKilled => self.kill_manager(world),
            Action::TriggerKilled => {
                world.trigger = None;
                world.killed = true;
                world.manager_at += 1;
            }
            Action::Person => {
                let begins = world.person.is_none();
                world.person = self.touch(world, world.person, 2, true)?;
                world.left.touches -= u8::from(begins);
            }
            Action::PersonKilled => world.person = None,
            Action::Change(module, content) => {
                world.left.changes -= 1;
                world.set(module, content, false);
            }
            Action::Redeploy(module) => {
                world.left.redeploys -= 1;
                world.set(module, world.tree.modules[module].content, true);
            }
            Action::HandTouch => {
                world.left.hand_touches -= 1;
                world.set_stamp(Some(world.clock));
                world.covered = world.changes;
            }
            Action::RemoveStamp => {
                world.left.stamp_removals -= 1;
                world.set_stamp(None);
            }
            Action::Mount => {
                world.left.mounts -= 1;
                world.hidden = Some(world.tree);
                // Another device has other identities, so its times are of an era of their own.
                world.tree.ctime.era = u8::MAX;
                world.tree.modules = [File {
                    content: 2,
                    ctime: world.tree.ctime,
                }; 2];
                world.changes += 1;
                world.touched();
            }
            Action::Unmount => {
                world.tree = world.hidden.take()?;
                world.changes += 1;
                world.touched();
            }
            Action::Consumer(index) => self.consumer(world, index)?,
            Action::ConsumerKilled(index) => world.stop(index),
            Action::PowerLoss(unsynced) => {
                world.left.power_losses -= 1;
                self.kill_manager(world);
                world.person = None;
                (0..world.consumers.len()).for_each(|index| world.stop(index));
                if unsynced == Unsynced::Lost {
                    world.latest = None;
                    world.highest = world.durable;
                    if world.stamp != world.durable {
                        world.set_stamp(world.durable);
                    }
                }
            }
        }
        Some(())
    }
}

impl Model for Plan {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        // There are one module, one free name, and a touch, all older than a tick.
        let past = Some(Time::default());
        let mut start = World {
            stamp: past,
            latest: past,
            durable: past,
            highest: past,
            ..World::default()
        };
        start.clock.tick = 1;
        start.tree.modules[A].content = 1;
        start.left = self.often;
        let world = |kinds: &&[Kind]| World {
            consumers: kinds
                .iter()
                .map(|kind| Consumer::new(*kind, None))
                .collect(),
            ..start.clone()
        };
        self.consumers.iter().map(world).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        for (index, consumer) in world.consumers.iter().enumerate() {
            actions.push(Action::Consumer(index));
            if self.kills && matches!(consumer.at, At::Checking(_) | At::Asking(_)) {
                actions.push(Action::ConsumerKilled(index));
            }
        }
        let mut may = |is_possible: bool, action| {
            if is_possible {
                actions.push(action);
            }
        };
        let is_running = usize::from(world.manager_at) < self.manager.len();
        may(is_running, Action::Manager);
        may(self.kills && is_running, Action::ManagerKilled);
        may(self.kills && world.trigger.is_some(), Action::TriggerKilled);
        may(left.touches > 0 || world.person.is_some(), Action::Person);
        may(self.kills && world.person.is_some(), Action::PersonKilled);
        for module in [A, B] {
            let now = world.tree.modules[module].content;
            for content in (0..3).filter(|content| *content != now) {
                may(left.changes > 0, Action::Change(module, content));
            }
            may(left.redeploys > 0 && now > 0, Action::Redeploy(module));
        }
        may(left.hand_touches > 0, Action::HandTouch);
        may(
            left.stamp_removals > 0 && world.stamp.is_some(),
            Action::RemoveStamp,
        );
        may(left.mounts > 0 && world.hidden.is_none(), Action::Mount);
        may(world.hidden.is_some(), Action::Unmount);
        for unsynced in [Unsynced::Lost, Unsynced::Kept] {
            may(left.power_losses > 0, Action::PowerLoss(unsynced));
        }
        may(world.clock.tick < self.ticks, Action::Tick);
        for tick in 0..world.clock.tick {
            may(left.steps_back > 0, Action::StepBack(tick));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.act(&mut next, action)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Plan>> {
        fn any(world: &World, is: fn(At) -> bool) -> bool {
            world.consumers.iter().any(|consumer| is(consumer.at))
        }
        fn fresh(world: &World, is: fn(Check) -> bool) -> bool {
            world
                .consumers
                .iter()
                .any(|consumer| matches!(consumer.at, At::Fresh(check) if is(check)))
        }
        vec![
            Property::always(OLDER, |_, world| !fresh(world, |check| check.older)),
            Property::always(WRONG, |_, world| !fresh(world, |check| check.wrong)),
            Property::always(NEEDLESS, |_, world| !any(world, |at| at == At::Stale(true))),
            Property::always(BACK, |plan: &Plan, world: &World| {
                plan.touch[0] == LockOrGoOn || !world.went_back
            }),
            Property::always(LAST, |plan: &Plan, world: &World| {
                let is_at_rest = world.trigger.is_none() && world.person.is_none();
                let others = [plan.often.hand_touches, plan.often.stamp_removals];
                let is_ours = !plan.kills && others == [0; 2] && plan.often.power_losses == 0;
                !(is_at_rest && is_ours) || world.stamp == world.highest
            }),
            Property::sometimes(FRESH, |_, world| fresh(world, |_| true)),
            Property::sometimes(STALE, |_, world| any(world, |at| at == At::Stale(false))),
            Property::sometimes(NOT_KEPT, |_, world| any(world, |at| at == At::NotKept)),
            Property::sometimes(LOOKED, |_, world| {
                fresh(world, |check| check.is_same != [true; 2])
            }),
            Property::sometimes(AHEAD, |_, world: &World| {
                world.highest.is_some_and(|highest| {
                    highest.tick > world.clock.tick || highest.nanoseconds > 1
                })
            }),
        ]
    }
}

// The promises.
pub(super) const OLDER: &str = "an answer older than a change whose trigger has run is fresh";
pub(super) const WRONG: &str = "an answer that is not true is fresh";
pub(super) const NEEDLESS: &str = "an answer is stale, and nothing changed";
pub(super) const BACK: &str = "a touch leaves a time that is not later";
pub(super) const LAST: &str = "the last touch has ended, and the stamp had a later time";

// The sights. Without them a promise might hold only because nothing happens.
const FRESH: &str = "a check says fresh";
const LOOKED: &str = "a check says fresh after a look at a content";
const STALE: &str = "a check says stale";
const NOT_KEPT: &str = "a change during a probe is noticed";
const SEEN: &[&str] = &[FRESH, STALE, NOT_KEPT];
const AHEAD: &str = "a touch goes past the clock's time";

pub(super) const FOLDING: &[&[Kind]] = &[&[Kind::Folding]];
pub(super) const STAMP: &[&[Kind]] = &[&[Kind::StampOnly]];
pub(super) const BOTH: &[&[Kind]] = &[&[Kind::StampOnly, Kind::Folding]];
const TWO_FOLDING: &[&[Kind]] = &[&[Kind::Folding; 2]];
const NOBODY: &[&[Kind]] = &[&[]];

/// One module's installation by rpm, and its removal by dpkg. These have each kind of touch, and
/// both orders of change and touch.
pub(super) const IN_AND_OUT: &[Step] =
    &[Lay(A, 2), Touch, SyncTouch, End, Lay(A, 0), SyncTouch, End];
const IN: &[Step] = &[Lay(A, 2), SyncTouch, End];

/// The number of different states that all proofs looked at.
static STATES: AtomicUsize = AtomicUsize::new(0);

/// Explores all states of a plan: none breaks a promise, and all of `sights` are seen.
fn proof(sights: &[&str], plan: Plan) {
    let checker = plan.checker().threads(2).spawn_bfs().join();
    STATES.fetch_add(checker.unique_state_count(), Ordering::Relaxed);
    assert!(checker.is_done());
    let mut found = checker.discoveries();
    for promise in [OLDER, WRONG, NEEDLESS, BACK, LAST] {
        let path = found.remove(promise).map(|path| path.into_actions());
        assert!(path.is_none(), "{promise}: {path:?}");
    }
    for sight in sights {
        assert!(found.contains_key(sight), "{sight}: never seen");
    }
}

/// The holes that were found: the broken promise, the plan, and the shortest way to it.
pub(super) static FOUND: Mutex<Vec<(&str, Plan, Vec<Action>)>> = Mutex::new(Vec::new());

/// Explores a plan, which must break `promise`. So the model notices if the rule that the plan
/// lacks is broken.
fn hole(promise: &'static str, plan: Plan) {
    let wanted = HasDiscoveries::AnyOf(BTreeSet::from([promise]));
    let checker = plan
        .clone()
        .checker()
        .finish_when(wanted)
        .spawn_bfs()
        .join();
    let Some(path) = checker.discovery(promise) else {
        panic!(
            "no order of steps breaks the promise, although this plan lacks a rule for it: {promise}"
        );
    };
    FOUND
        .lock()
        .unwrap()
        .push((promise, plan, path.into_actions()));
}

fn without(list: &[Do], is_left_out: fn(&Do) -> bool) -> Vec<Do> {
    list.iter()
        .copied()
        .filter(|step| !is_left_out(step))
        .collect()
}

fn rpm_order_never_serves_an_older_answer() {
    proof(SEEN, plan!(manager: RPM));
    proof(SEEN, plan!(manager: IN_AND_OUT, often.changes: 1, ticks: 2));
}

fn dpkg_order_never_serves_an_older_answer() {
    proof(SEEN, plan!(manager: DPKG, ticks: 4));
}

fn a_hand_without_triggers_never_fools_a_consumer_that_folds() {
    let sights = &[FRESH, LOOKED, STALE, NOT_KEPT];
    proof(
        sights,
        plan!(consumers: FOLDING, often.changes: 3, often.redeploys: 1),
    );
}

fn a_touch_by_hand_counts_like_any_other() {
    let plan = plan!(consumers: STAMP, often.changes: 1, often.touches: 1, often.hand_touches: 1);
    proof(SEEN, with!(plan, often.hand_touches: 2));
    proof(SEEN, with!(plan, often.touches: 2, whole_seconds: true));
}

fn a_clock_that_steps_back_fools_nobody() {
    proof(SEEN, plan!(manager: IN, often.steps_back: 1));
    proof(
        SEEN,
        plan!(consumers: FOLDING, often.changes: 2, often.steps_back: 1),
    );
}

fn a_crash_at_any_step_fools_nobody() {
    proof(SEEN, plan!(manager: IN_AND_OUT, kills: true, ticks: 2));
    proof(
        SEEN,
        plan!(manager: IN, kills: true, often.touches: 1, ticks: 2),
    );
}

fn a_power_loss_fools_nobody_once_a_touch_is_synced() {
    proof(
        SEEN,
        plan!(manager: IN_AND_OUT, kills: true, often.power_losses: 1),
    );
}

fn a_touch_always_leaves_a_later_time() {
    let plan =
        plan!(consumers: NOBODY, manager: IN_AND_OUT, kills: true, ticks: 2, often.touches: 2);
    let plan = with!(plan, often.stamp_removals: 1, often.steps_back: 1);
    proof(&[AHEAD], plan.clone());
    proof(&[AHEAD], with!(plan, whole_seconds: true));
}

fn a_touch_that_goes_on_without_the_lock_fools_nobody_and_the_last_is_the_latest() {
    let plan = plan!(manager: IN, touch: IMPATIENT, often.touches: 1, ticks: 2);
    proof(SEEN, with!(plan, consumers: STAMP, kills: true));
    let plan = with!(plan, consumers: NOBODY, manager: IN_AND_OUT);
    proof(&[AHEAD], with!(plan, often.steps_back: 1));
    proof(&[AHEAD], with!(plan, whole_seconds: true));
}

fn two_consumers_fool_nobody() {
    proof(SEEN, plan!(consumers: BOTH, manager: IN, ticks: 2));
    // Two consumers of one cache overwrite each other's answers.
    let plan = plan!(consumers: TWO_FOLDING, share: true, ticks: 2);
    proof(SEEN, with!(plan, often.changes: 1, often.touches: 1));
}

/// That section stays: the first consumers asked for it.
fn filetriggerun_is_the_only_section_that_the_promise_does_not_need() {
    const WITHOUT_UN: &[Step] = &[Lay(A, 0), Touch, Next, SyncTouch, End];
    proof(SEEN, plan!(manager: WITHOUT_UN));
}

fn only_filetriggerun_on_removal_is_found_to_be_a_hole() {
    const REMOVAL: &[Step] = &[Touch, Lay(A, 0), End];
    hole(OLDER, plan!(consumers: STAMP, manager: REMOVAL));
}

fn no_touch_before_the_next_package_is_found_to_be_a_hole() {
    const WITHOUT_IN: &[Step] = &[Lay(A, 2), Next, SyncTouch, End];
    const WITHOUT_POSTUN: &[Step] = &[Touch, Lay(A, 0), Next, SyncTouch, End];
    hole(OLDER, plan!(consumers: STAMP, manager: WITHOUT_IN));
    hole(OLDER, plan!(consumers: STAMP, manager: WITHOUT_POSTUN));
}

fn newer_instead_of_different_is_found_to_be_a_hole() {
    let plan = plan!(newer: true, often.changes: 1, often.hand_touches: 1, often.steps_back: 1);
    hole(OLDER, with!(plan, consumers: STAMP));
    hole(WRONG, with!(plan, consumers: FOLDING));
}

fn observe_after_probe_is_found_to_be_a_hole() {
    let is_probe = |step: &Do| matches!(step, Probe(_));
    let late = |list| [&[Probe(A), Probe(B)], &*without(list, is_probe)].concat();
    let plan = plan!(manager: IN, fold: late(FOLD), stamp_only: late(STAMP_ONLY));
    hole(OLDER, with!(plan, consumers: STAMP));
    hole(WRONG, with!(plan, consumers: FOLDING));
}

fn without_the_wait_a_change_there_and_back_in_one_tick_is_found_to_be_a_hole() {
    let plan = plan!(consumers: FOLDING, often.changes: 3);
    hole(
        WRONG,
        with!(plan, fold: without(FOLD, |step| matches!(step, Wait(_)))),
    );
    // It is not enough to wait for the stamp.
    let for_stamp = |step: &Do| {
        if let Wait(_) = step {
            Wait(For::Stamp)
        } else {
            *step
        }
    };
    hole(
        WRONG,
        with!(plan, fold: FOLD.iter().map(for_stamp).collect()),
    );
}

fn without_the_wait_a_touch_by_hand_in_one_tick_is_found_to_be_a_hole() {
    let plan = plan!(consumers: STAMP, often.changes: 1, often.hand_touches: 2);
    hole(
        OLDER,
        with!(plan, stamp_only: without(STAMP_ONLY, |step| matches!(step, Wait(_)))),
    );
}

fn not_waiting_for_a_stamp_ahead_of_the_clock_is_found_to_be_a_hole() {
    let plan = plan!(consumers: STAMP, whole_seconds: true, often.touches: 2);
    let plan = with!(plan, often.changes: 1, often.hand_touches: 1);
    hole(
        OLDER,
        with!(plan, stamp_only: vec![See(Stamp), Wait(For::StampsTick), Probe(A)]),
    );
}

fn reading_the_contents_before_the_wait_is_found_to_be_a_hole() {
    // A check would do this if the contents that it read went into a new witness.
    let mut fold = without(FOLD, |step| matches!(step, Wait(_)));
    fold.insert(FOLD.len() - 7, Wait(For::All));
    hole(
        WRONG,
        plan!(consumers: FOLDING, often.changes: 3, fold: fold),
    );
}

fn without_looking_again_a_change_there_and_back_is_found_to_be_a_hole() {
    let fold = without(FOLD, |step| matches!(step, Again(_)));
    hole(
        WRONG,
        plan!(consumers: FOLDING, often.changes: 2, fold: fold),
    );
}

fn without_looking_again_at_the_directory_is_found_to_be_a_hole() {
    let mut fold = without(FOLD, |step| *step == Again(Directory));
    let plan = plan!(consumers: FOLDING, often.changes: 3);
    hole(WRONG, with!(plan, fold: fold.clone()));
    // A look before the names is not enough: a name that came in the tick of the first look may go
    // between the two.
    fold.insert(FOLD.len() - 3, Again(Directory));
    hole(WRONG, with!(plan, fold: fold));
}

fn a_stat_alone_is_found_to_cost_needless_probes() {
    let plan = plan!(consumers: FOLDING, often.redeploys: 1);
    hole(NEEDLESS, with!(plan, content_decides: false));
}

fn trusting_a_stat_in_the_tick_of_its_change_is_found_to_be_a_hole() {
    let plan = plan!(consumers: FOLDING, often.changes: 3);
    hole(WRONG, with!(plan, racy_is_no_evidence: false));
}

fn touching_without_the_lock_is_found_to_be_a_hole() {
    const UNLOCKED: &[TouchStep] = &[Reckon, Remember, Exchange, Sync];
    let plan = plan!(manager: IN_AND_OUT, touch: UNLOCKED, often.touches: 1, ticks: 2);
    hole(BACK, with!(plan, consumers: NOBODY));
}

fn going_on_without_a_number_of_its_own_is_found_to_be_a_hole() {
    const RPM_TWICE: &[Step] = &[Touch, Lay(A, 2), Touch, SyncTouch, End];
    let plan = plan!(manager: RPM_TWICE, touch: IMPATIENT, own_numbers: false);
    hole(OLDER, with!(plan, consumers: STAMP, often.touches: 2));
}

fn going_on_without_a_look_at_the_stamp_that_came_out_is_found_to_be_a_hole() {
    const BLIND: &[TouchStep] = &[LockOrGoOn, Remember, BlindExchange, Sync];
    let plan = plan!(manager: IN_AND_OUT, touch: BLIND, often.touches: 1, ticks: 2);
    hole(LAST, with!(plan, consumers: NOBODY));
}

fn forgetting_the_latest_time_is_found_to_be_a_hole() {
    let plan = plan!(consumers: NOBODY, often.touches: 2, often.stamp_removals: 1);
    hole(BACK, with!(plan, touch: &[Lock, Exchange, Sync]));
}

fn remembering_after_the_exchange_is_found_to_be_a_hole() {
    let plan = plan!(consumers: NOBODY, often.touches: 2, often.stamp_removals: 1, kills: true);
    hole(BACK, with!(plan, touch: &[Lock, Exchange, Remember, Sync]));
}

/// So a transaction needs a section at its end.
fn no_synced_touch_and_a_power_loss_is_found_to_be_a_hole() {
    const UNSYNCED: &[Step] = &[Lay(A, 2), Touch, End];
    hole(
        OLDER,
        plan!(consumers: STAMP, manager: UNSYNCED, often.power_losses: 1),
    );
}

fn a_power_loss_with_the_clock_behind_the_stamp_is_found_to_be_a_limit() {
    // The lost touch and the next one go one step beyond the same time.
    const LOST: &[Step] = &[SyncTouch, End, Touch, End, Lay(A, 2), SyncTouch, End];
    let plan = plan!(consumers: STAMP, manager: LOST);
    hole(
        OLDER,
        with!(plan, often.power_losses: 1, often.steps_back: 1),
    );
}

fn a_clock_set_back_to_the_very_tick_of_a_change_is_found_to_be_a_limit() {
    let plan = plan!(consumers: FOLDING, often.changes: 2, often.steps_back: 1);
    hole(WRONG, with!(plan, whole_seconds: true));
    // A touch by hand has the same limit.
    let plan = with!(plan, consumers: STAMP, often.changes: 1, often.hand_touches: 2);
    hole(OLDER, with!(plan, whole_seconds: true));
}

fn a_touch_by_hand_in_the_midst_of_a_touch_is_found_to_be_a_limit_of_whole_seconds() {
    let plan = plan!(consumers: STAMP, whole_seconds: true, often.touches: 1);
    hole(OLDER, with!(plan, often.changes: 1, often.hand_touches: 2));
}

fn a_mount_there_and_back_during_a_probe_is_found_to_be_a_limit() {
    hole(WRONG, plan!(consumers: FOLDING, often.mounts: 1));
}

pub(super) type Scenario = fn();

pub(super) const SCENARIOS: &[(&str, Scenario)] = named![
    rpm_order_never_serves_an_older_answer,
    dpkg_order_never_serves_an_older_answer,
    a_hand_without_triggers_never_fools_a_consumer_that_folds,
    a_touch_by_hand_counts_like_any_other,
    a_clock_that_steps_back_fools_nobody,
    a_crash_at_any_step_fools_nobody,
    a_power_loss_fools_nobody_once_a_touch_is_synced,
    a_touch_always_leaves_a_later_time,
    a_touch_that_goes_on_without_the_lock_fools_nobody_and_the_last_is_the_latest,
    two_consumers_fool_nobody,
    filetriggerun_is_the_only_section_that_the_promise_does_not_need,
    only_filetriggerun_on_removal_is_found_to_be_a_hole,
    no_touch_before_the_next_package_is_found_to_be_a_hole,
    newer_instead_of_different_is_found_to_be_a_hole,
    observe_after_probe_is_found_to_be_a_hole,
    without_the_wait_a_change_there_and_back_in_one_tick_is_found_to_be_a_hole,
    without_the_wait_a_touch_by_hand_in_one_tick_is_found_to_be_a_hole,
    not_waiting_for_a_stamp_ahead_of_the_clock_is_found_to_be_a_hole,
    reading_the_contents_before_the_wait_is_found_to_be_a_hole,
    without_looking_again_a_change_there_and_back_is_found_to_be_a_hole,
    without_looking_again_at_the_directory_is_found_to_be_a_hole,
    a_stat_alone_is_found_to_cost_needless_probes,
    trusting_a_stat_in_the_tick_of_its_change_is_found_to_be_a_hole,
    touching_without_the_lock_is_found_to_be_a_hole,
    going_on_without_a_number_of_its_own_is_found_to_be_a_hole,
    going_on_without_a_look_at_the_stamp_that_came_out_is_found_to_be_a_hole,
    forgetting_the_latest_time_is_found_to_be_a_hole,
    remembering_after_the_exchange_is_found_to_be_a_hole,
    no_synced_touch_and_a_power_loss_is_found_to_be_a_hole,
    a_power_loss_with_the_clock_behind_the_stamp_is_found_to_be_a_limit,
    a_clock_set_back_to_the_very_tick_of_a_change_is_found_to_be_a_limit,
    a_touch_by_hand_in_the_midst_of_a_touch_is_found_to_be_a_limit_of_whole_seconds,
    a_mount_there_and_back_during_a_probe_is_found_to_be_a_limit,
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::minutes(), SCENARIOS).collect()
}

/// The number of states that all proofs looked at.
pub fn states() -> usize {
    STATES.load(Ordering::Relaxed)
}
