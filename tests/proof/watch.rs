//! A model of a watch. stateright explores every order in which its steps and changes can happen.
//!
//! A file lies behind a link, which leads to one of two files. A host input is a value in /proc. A
//! consumer checks two witnesses by the watch, in any order. The kernel puts an event into a queue
//! for each change of a watched path. The kernel may lose events, and tells that it did. It has no
//! event for the host input.
//!
//! # Promises
//!
//! - [`STALE`] If a check says fresh, then each input was as in the witness at some moment of the
//!   check.
//! - [`NEEDLESS`] If a check says stale, then some input was different at some moment of the check.
//! - [`ASLEEP`] If no check is under way and the queue is empty, then each remembered verdict is
//!   right about the file. So a daemon may sleep until the watch's descriptor wakes it.
//!
//! A hole breaks one rule. The checker has to find the state in which the promise does not hold.
//!
//! # Bounds
//!
//! Each plan has a few changes. Checks go on for ever. Time is not modelled: after a minute without
//! a look, a verdict ends. A mount is an event like any other.

use stateright::{Checker, Model, Property};
use support::named;
use support::test::{self, Needs, Test};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    no_order_of_steps_and_changes_makes_a_watch_serve_an_old_verdict,
    a_watch_that_is_set_after_its_only_look_misses_a_change,
    a_watch_that_ignores_lost_events_misses_a_change,
    a_watch_that_keeps_its_verdicts_after_an_event_misses_a_change,
    a_watch_that_does_not_read_the_host_again_misses_a_change,
    a_watch_that_judges_two_witnesses_by_two_hosts_misses_a_change,
    a_watch_of_the_file_behind_a_link_alone_misses_a_change,
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::minutes(), SCENARIOS).collect()
}

const STALE: &str = "a check says fresh, and no moment was like its witness";
const NEEDLESS: &str = "a check says stale, and every moment was like its witness";
const ASLEEP: &str = "a remembered verdict is wrong, and nothing wakes the daemon";

/// The contents that two answers were probed from: the file's, and the host input's.
const WITNESSES: [(u8, u8); 2] = [(0, 0), (0, 1)];

/// The rules, and the bounds of one exploration.
#[derive(Clone)]
struct Plan {
    /// Looks again after a look that found something new to watch.
    looks_again: bool,
    /// Takes lost events for a change.
    hears_losses: bool,
    /// Forgets all verdicts after an event.
    forgets: bool,
    /// Reads the host input at each check.
    reads_host: bool,
    /// Forgets verdicts that another value of the host input gave.
    compares_hosts: bool,
    /// Watches the link, too.
    watches_link: bool,
    changes: u8,
}

fn plan() -> Plan {
    Plan {
        looks_again: true,
        hears_losses: true,
        forgets: true,
        reads_host: true,
        compares_hosts: true,
        watches_link: true,
        changes: 4,
    }
}

/// The next step of the check that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Poll,
    ReadHost,
    LookAtLink,
    LookAtFile { behind: u8 },
    LookAtHost,
    WatchLink,
    WatchFile,
    Remember,
}

use Step::{LookAtFile, LookAtHost, LookAtLink, Poll, ReadHost, Remember, WatchFile, WatchLink};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Check {
    witness: usize,
    step: Step,
    /// The contents that the look saw: the file's, and the host input's.
    saw: (u8, u8),
    /// Ghosts, each a set of bits: files that the link led to, and contents at any moment.
    led_to: u8,
    files: u8,
    hosts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    /// The file that the link leads to, the content of each, and the host input.
    link: u8,
    files: [u8; 2],
    host: u8,
    changes: u8,
    /// Whether the link is watched, and whether each file is.
    watched: (bool, [bool; 2]),
    /// The queue.
    has_event: bool,
    has_lost: bool,
    /// The watch's memory: a path that is watched, the verdicts, and the host input of their time.
    is_noted: bool,
    verdicts: [Option<bool>; 2],
    host_then: u8,
    check: Option<Check>,
    /// Ghost: a promise of a check that just ended is broken.
    is_stale: bool,
    is_needless: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    MoveLink { is_lost: bool },
    Write { file: usize, is_lost: bool },
    ChangeHost,
    Begin(usize),
    Step,
}

impl World {
    fn tell(&mut self, is_watched: bool, is_lost: bool) {
        self.has_event |= is_watched && !is_lost;
        self.has_lost |= is_watched && is_lost;
    }

    /// Adds the contents of this moment to those that the check could see.
    fn mark(&mut self) {
        let (link, files, host) = (self.link, self.files, self.host);
        if let Some(check) = &mut self.check {
            check.led_to |= 1 << link;
            for (number, content) in files.iter().enumerate() {
                if check.led_to & 1 << number != 0 {
                    check.files |= 1 << content;
                }
            }
            check.hosts |= 1 << host;
        }
    }

    fn end(&mut self, check: Check, is_fresh: bool) {
        let (file, host) = WITNESSES[check.witness];
        let was_like_it = check.files & 1 << file != 0 && check.hosts & 1 << host != 0;
        let was_always = check.files == 1 << file && check.hosts == 1 << host;
        self.is_stale |= is_fresh && !was_like_it;
        self.is_needless |= !is_fresh && was_always;
        self.check = None;
    }

    /// Begins anew, without any verdict.
    fn begin(&mut self, plan: &Plan) {
        if plan.forgets {
            self.verdicts = [None; 2];
        }
        // Events of watches that ended are ignored.
        (self.watched, self.is_noted) = ((false, [false; 2]), false);
        self.has_event = false;
    }
}

impl Plan {
    fn step(&self, world: &mut World, mut check: Check) {
        let is_quiet = |world: &mut World| {
            let has_event = std::mem::take(&mut world.has_event);
            let has_lost = std::mem::take(&mut world.has_lost);
            !(has_event || has_lost && self.hears_losses)
        };
        check.step = match check.step {
            Poll if is_quiet(world) => ReadHost,
            Poll => {
                world.begin(self);
                LookAtLink
            }
            ReadHost if self.reads_host && world.host != world.host_then => {
                world.begin(self);
                LookAtLink
            }
            ReadHost => match world.verdicts[check.witness] {
                Some(is_fresh) => return world.end(check, is_fresh),
                None => LookAtLink,
            },
            LookAtLink => LookAtFile { behind: world.link },
            LookAtFile { behind } => {
                check.saw.0 = world.files[usize::from(behind)];
                LookAtHost
            }
            LookAtHost => {
                check.saw.1 = world.host;
                match world.is_noted {
                    true => Remember,
                    false => WatchLink,
                }
            }
            WatchLink => {
                world.watched.0 = self.watches_link;
                WatchFile
            }
            WatchFile => {
                world.watched.1[usize::from(world.link)] = true;
                world.is_noted = true;
                match self.looks_again {
                    true => LookAtLink,
                    false => Remember,
                }
            }
            Remember => {
                let is_fresh = check.saw == WITNESSES[check.witness];
                if check.saw.1 != world.host_then {
                    if self.compares_hosts {
                        world.verdicts = [None; 2];
                    }
                    world.host_then = check.saw.1;
                }
                world.verdicts[check.witness] = Some(is_fresh);
                return world.end(check, is_fresh);
            }
        };
        // The ghosts of the check are in the world since its last step.
        world.check = Some(check);
    }
}

impl Model for Plan {
    type State = World;
    type Action = Act;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            link: 0,
            files: [0, 1],
            host: 0,
            changes: 0,
            watched: (false, [false; 2]),
            has_event: false,
            has_lost: false,
            is_noted: false,
            verdicts: [None; 2],
            host_then: 0,
            check: None,
            is_stale: false,
            is_needless: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Act>) {
        if world.changes < self.changes {
            for is_lost in [false, true] {
                actions.push(Act::MoveLink { is_lost });
                actions.extend([0, 1].map(|file| Act::Write { file, is_lost }));
            }
            actions.push(Act::ChangeHost);
        }
        match world.check {
            Some(_) => actions.push(Act::Step),
            None => actions.extend([Act::Begin(0), Act::Begin(1)]),
        }
    }

    fn next_state(&self, last: &World, act: Act) -> Option<World> {
        let mut world = *last;
        match act {
            Act::MoveLink { is_lost } => {
                world.link ^= 1;
                world.tell(world.watched.0, is_lost);
            }
            Act::Write { file, is_lost } => {
                world.files[file] ^= 1;
                world.tell(world.watched.1[file], is_lost);
            }
            Act::ChangeHost => world.host ^= 1,
            Act::Begin(witness) => {
                world.check = Some(Check {
                    witness,
                    step: Poll,
                    saw: (0, 0),
                    led_to: 0,
                    files: 0,
                    hosts: 0,
                });
            }
            Act::Step => {
                if let Some(check) = world.check {
                    self.step(&mut world, check);
                }
            }
        }
        let is_change = !matches!(act, Act::Begin(_) | Act::Step);
        world.changes += u8::from(is_change);
        world.mark();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Plan>> {
        vec![
            Property::always(STALE, |_, world: &World| !world.is_stale),
            Property::always(NEEDLESS, |_, world: &World| !world.is_needless),
            Property::always(ASLEEP, |_, world: &World| {
                let may_sleep = world.check.is_none() && !world.has_event && !world.has_lost;
                let content = world.files[usize::from(world.link)];
                let is_right = |(witness, verdict): (&(u8, u8), &Option<bool>)| {
                    let expected = (content, world.host_then) == *witness;
                    verdict.is_none_or(|is_fresh| is_fresh == expected)
                };
                !may_sleep || WITNESSES.iter().zip(&world.verdicts).all(is_right)
            }),
            Property::sometimes(SERVED, |_, world: &World| {
                let is_kept = |check: Check| {
                    check.step == ReadHost && world.verdicts[check.witness] == Some(true)
                };
                world.check.is_some_and(is_kept)
            }),
        ]
    }
}

/// Not a promise, but a state that must exist: a watch that never remembers keeps all promises.
const SERVED: &str = "a check finds a remembered verdict that says fresh";

/// Explores all states. Returns the found properties: promises that are broken, and [`SERVED`].
fn found(plan: Plan) -> Vec<&'static str> {
    let checker = plan.checker().spawn_bfs().join();
    checker.discoveries().into_keys().collect()
}

fn no_order_of_steps_and_changes_makes_a_watch_serve_an_old_verdict() {
    assert_eq!(found(plan()), [SERVED]);
}

/// The checker has to find a state of a plan that lacks a rule.
#[track_caller]
fn is_found(plan: Plan, promise: &str) {
    let found = found(plan);
    assert!(found.contains(&promise), "{found:?}");
}

fn a_watch_that_is_set_after_its_only_look_misses_a_change() {
    is_found(
        Plan {
            looks_again: false,
            ..plan()
        },
        STALE,
    );
}

fn a_watch_that_ignores_lost_events_misses_a_change() {
    is_found(
        Plan {
            hears_losses: false,
            ..plan()
        },
        STALE,
    );
}

fn a_watch_that_keeps_its_verdicts_after_an_event_misses_a_change() {
    is_found(
        Plan {
            forgets: false,
            ..plan()
        },
        STALE,
    );
}

fn a_watch_that_does_not_read_the_host_again_misses_a_change() {
    is_found(
        Plan {
            reads_host: false,
            ..plan()
        },
        STALE,
    );
}

fn a_watch_that_judges_two_witnesses_by_two_hosts_misses_a_change() {
    is_found(
        Plan {
            compares_hosts: false,
            ..plan()
        },
        STALE,
    );
}

fn a_watch_of_the_file_behind_a_link_alone_misses_a_change() {
    is_found(
        Plan {
            watches_link: false,
            ..plan()
        },
        STALE,
    );
}
