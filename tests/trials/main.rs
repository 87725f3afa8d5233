//! Tests with cases that are made at run time, and tests that need a tool.
//!
//! `make check` runs those that need nothing. `make check-all` runs the others.

mod changes;
mod manual;
mod release;
mod sequences;

use libtest_mimic::Arguments;
use support::test::Needs;

fn main() {
    let mut arguments = Arguments::from_args();
    if Needs::root_and(&[]).are_met() {
        support::enter_own_mount_namespace();
    }
    // Most of the time they wait until something has settled.
    arguments.test_threads.get_or_insert(64);
    let tests = [
        ("sequences", sequences::tests()),
        ("changes", changes::tests(&arguments)),
        ("manual", manual::tests()),
        ("release", release::tests()),
    ];
    let named = |(module, tests)| {
        Vec::into_iter(tests).map(move |test: support::test::Test| test.of(module))
    };
    let tests = tests.into_iter().flat_map(named).collect();
    support::test::run(&arguments, tests).exit();
}
