//! A hostile user swaps any step of any path that root walks, between any two system calls.
//!
//! One directory of the path belongs to that user, and all else to root. strace(1) stops root's
//! program right after a chosen call. Then the user puts something else in the place of the step
//! below their directory, for good or until the next call.
//!
//! A guarded tree has all that root's program could change or serve. It must stay as it is, to the
//! last ctime.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use support::libvirt::{SYSTEM, USER as USER_CACHE, WATCHED, X86, file_name};
use support::mounted::Mounted;
use support::named;
use support::tally::{Promise, cases};
use support::test::{self, Needs, Test};

use super::ground::{Ground, Programs, Swap, View};
use super::guarded::{Ran, assert_unchanged, listing, own_calls, stopped_at};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["chroot", "cp", "ldd", "mount", "strace"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    roots_touch_of_a_tree_never_writes_outside,
    roots_triggers_and_updates_of_a_tree_never_write_outside,
    roots_refresh_of_a_tree_never_writes_outside,
    roots_evict_in_a_tree_never_removes_outside,
    roots_answers_never_come_from_elsewhere,
    a_touch_of_the_systems_stamp_never_writes_outside,
    rpms_program_never_writes_outside,
    a_refresh_of_the_system_never_writes_outside,
    an_evict_in_another_users_home_never_removes_outside,
    answers_in_another_users_home_never_come_from_elsewhere,
];

/// A program of root's, and the steps that the hostile user swaps.
struct Attack<'a> {
    view: View,
    steps: &'a [&'a [&'a str]],
    prepare: fn(&Ground),
    command: &'a dyn Fn(&Ground) -> Command,
    judge: Judge,
}

/// Judges a run. The text tells which run it was.
type Judge = fn(&Ran, &str);

const STAMP: &[&str] = &[
    "var",
    "var/lib",
    "var/lib/modstamp",
    "var/lib/modstamp/qemu.stamp",
    "var/lib/modstamp/.qemu.lock",
    "var/lib/modstamp/qemu.witness",
    "var/lib/modstamp/qemu.libvirt",
    "var/lib/modstamp/qemu.log",
];

const MODULES: &[&str] = &[
    "usr",
    "usr/lib",
    "usr/lib/x86_64-linux-gnu",
    WATCHED,
    "usr/bin",
    "usr/bin/qemu-system-x86_64",
];

const SYSTEM_CACHE: &[&str] = &[
    "var/cache",
    "var/cache/libvirt",
    "var/cache/libvirt/qemu",
    SYSTEM,
];

const HOME_CACHE: &[&str] = &[
    "home",
    "home/me",
    "home/me/.cache",
    "home/me/.cache/libvirt",
    "home/me/.cache/libvirt/qemu",
    "home/me/.cache/libvirt/qemu/cache",
    USER_CACHE,
];

const ANSWERS: &[&str] = &[
    "home",
    "home/me",
    "home/me/.cache",
    "home/me/.cache/modstamp",
];

const PROFILE: &[&str] = &[
    "etc",
    "etc/modstamp",
    "etc/modstamp/profiles.d",
    "etc/modstamp/profiles.d/qemu.toml",
];

/// The way to the tree that `--root` names.
const TOP: &[&str] = &[""];

fn nothing(_: &Ground) {}

/// Whatever a program could not do, it says.
fn says_its_failures(ran: &Ran, context: &str) {
    let is_told = ran.status.success() || ran.err.contains("modstamp: ");
    assert!(
        is_told && ran.status.code() == Some(i32::from(!ran.status.success())),
        "{context}"
    );
}

fn completes(ran: &Ran, context: &str) {
    assert_eq!(ran.status.code(), Some(0), "{context}");
    Promise::TransactionCompletes.held();
}

fn asks(ran: &Ran, context: &str) {
    assert_eq!(ran.out, "asked", "{context}");
    Promise::OwnAnswersOnly.held();
}

impl Attack<'_> {
    /// Tries a link in the place of each step before the start. Then tries many swaps, spread evenly
    /// over all that there are: right before and right after each call with the step's name.
    fn attempt(&self) {
        let disk = Mounted::tmpfs("mode=755");
        let programs = Programs::below(disk.path());
        let calls = {
            let ground = self.ground(disk.path(), &programs);
            own_calls(&(self.command)(&ground))
        };
        let steps = self.steps.concat();
        let attempt = |case| self.attempt_one(disk.path(), &programs, case);
        for (step, swap) in steps
            .iter()
            .zip([Swap::LinkUp, Swap::LinkAway].iter().cycle())
        {
            attempt((step, *swap, true, 0));
        }
        let mut all = Vec::new();
        for step in steps {
            for number in numbers_around(step, &calls) {
                let kinds = Swap::ALL.into_iter().zip(std::iter::repeat(number));
                all.extend(
                    kinds
                        .clone()
                        .map(|(swap, number)| (step, swap, true, number)),
                );
                all.extend(kinds.map(|(swap, number)| (step, swap, false, number)));
            }
        }
        let stride = coprime_near(all.len() * 618 / 1000, all.len());
        for case in 0..cases(16, 250).min(all.len()) {
            attempt(all[case * stride % all.len()]);
        }
    }

    fn ground(&self, top: &Path, programs: &Programs) -> Ground {
        let ground = Ground::new(top, self.view, programs);
        (self.prepare)(&ground);
        ground
    }

    fn attempt_one(
        &self,
        top: &Path,
        programs: &Programs,
        (step, swap, stays, number): (&str, Swap, bool, usize),
    ) {
        let ground = self.ground(top, programs);
        ground.give_parent_of(step);
        swap.prepare(&ground, step);
        let guarded = ground.outside("");
        let before = listing(&guarded);
        let command = (self.command)(&ground);
        let ran = if number == 0 && stays {
            swap.swap(&ground, step);
            Ran::of(command)
        } else {
            stopped_at(&command, number, |stop| {
                if stop == 1 || stop == 2 && !stays {
                    swap.swap(&ground, step);
                }
            })
        };
        let until = if stays {
            "for good"
        } else {
            "until the next call"
        };
        let context = format!("“{step}” by {swap:?} after call {number} {until}: {ran:?}");
        assert_unchanged(&before, &guarded, &context);
        assert!(!ran.err.contains("panicked"), "{context}");
        (self.judge)(&ran, &context);
        Promise::NoWriteOutside.held();
    }
}

/// The numbers of the calls right before and right at each that names a step.
fn numbers_around(step: &str, calls: &[(usize, String)]) -> BTreeSet<usize> {
    let name = step.rsplit('/').next().filter(|name| !name.is_empty());
    let name = name.unwrap_or("root");
    let names = calls.iter().filter(|(_, call)| call.contains(name));
    names
        .flat_map(|(number, _)| [number.saturating_sub(1), *number])
        .collect()
}

/// A number near another one that has no divisor in common with `all`.
fn coprime_near(number: usize, all: usize) -> usize {
    fn divisor(a: usize, b: usize) -> usize {
        if b == 0 { a } else { divisor(b, a % b) }
    }
    (number.max(1)..).find(|it| divisor(*it, all) == 1).unwrap()
}

fn modstamp(arguments: &[&str]) -> impl Fn(&Ground) -> Command {
    move |ground| ground.root("modstamp", arguments)
}

fn roots_touch_of_a_tree_never_writes_outside() {
    for prepare in [nothing, without_stamp] {
        Attack {
            view: View::Named,
            steps: &[TOP, STAMP, MODULES, PROFILE],
            prepare,
            command: &modstamp(&["touch"]),
            judge: says_its_failures,
        }
        .attempt();
    }
}

/// Leaves all directories to be made anew.
fn without_stamp(ground: &Ground) {
    std::fs::remove_dir_all(ground.host.path("var")).unwrap();
}

fn roots_triggers_and_updates_of_a_tree_never_write_outside() {
    let arguments: [(&[&str], Judge); 2] = [
        (&["trigger", "dpkg"], completes),
        (&["update"], says_its_failures),
    ];
    for (arguments, judge) in arguments {
        Attack {
            view: View::Named,
            steps: &[TOP, STAMP, MODULES, SYSTEM_CACHE, PROFILE],
            prepare: nothing,
            command: &modstamp(arguments),
            judge,
        }
        .attempt();
    }
}

fn roots_refresh_of_a_tree_never_writes_outside() {
    for prepare in [nothing, without_directory] {
        Attack {
            view: View::Named,
            steps: &[TOP, STAMP, MODULES, SYSTEM_CACHE, PROFILE],
            prepare,
            command: &modstamp(&["libvirt", "refresh"]),
            judge: says_its_failures,
        }
        .attempt();
    }
}

/// Leaves a refresh only the programs.
fn without_directory(ground: &Ground) {
    std::fs::remove_dir_all(ground.host.path(WATCHED)).unwrap();
}

fn roots_evict_in_a_tree_never_removes_outside() {
    let answer = format!("{SYSTEM}/{}", file_name(X86));
    Attack {
        view: View::Named,
        steps: &[TOP, SYSTEM_CACHE, HOME_CACHE, &[&answer]],
        prepare: nothing,
        command: &modstamp(&["libvirt", "evict", "--all"]),
        judge: says_its_failures,
    }
    .attempt();
}

fn answers_below_home(ground: &Ground) -> Command {
    ground.run(&ground.step("home/me/.cache/modstamp"))
}

fn roots_answers_never_come_from_elsewhere() {
    Attack {
        view: View::Named,
        steps: &[ANSWERS],
        prepare: Ground::keep_private_answer,
        command: &answers_below_home,
        judge: asks,
    }
    .attempt();
}

fn a_touch_of_the_systems_stamp_never_writes_outside() {
    for prepare in [nothing, without_stamp] {
        Attack {
            view: View::System,
            steps: &[STAMP, MODULES, PROFILE],
            prepare,
            command: &modstamp(&["touch"]),
            judge: says_its_failures,
        }
        .attempt();
    }
}

fn rpms_program_never_writes_outside() {
    for prepare in [nothing, without_stamp] {
        Attack {
            view: View::System,
            steps: &[STAMP, PROFILE],
            prepare,
            command: &|ground| ground.root("rpm-trigger", &["/body", "1"]),
            judge: completes,
        }
        .attempt();
    }
}

fn a_refresh_of_the_system_never_writes_outside() {
    Attack {
        view: View::System,
        steps: &[STAMP, MODULES, SYSTEM_CACHE, PROFILE],
        prepare: without_directory,
        command: &modstamp(&["libvirt", "refresh"]),
        judge: says_its_failures,
    }
    .attempt();
}

fn an_evict_in_another_users_home_never_removes_outside() {
    Attack {
        view: View::System,
        steps: &[SYSTEM_CACHE, HOME_CACHE],
        prepare: nothing,
        command: &modstamp(&["libvirt", "evict", "--all"]),
        judge: says_its_failures,
    }
    .attempt();
}

fn answers_in_another_users_home_never_come_from_elsewhere() {
    let by_default = |ground: &Ground| {
        let arguments = ["run", "--profile", "qemu", "--", "/programs/cat", "/word"];
        ground.root("modstamp", &arguments)
    };
    Attack {
        view: View::System,
        steps: &[ANSWERS],
        prepare: Ground::keep_private_answer,
        command: &by_default,
        judge: asks,
    }
    .attempt();
}
