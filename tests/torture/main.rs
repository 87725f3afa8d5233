//! Hostile worlds: whatever fails and whoever tries, the promises of SECURITY.md hold.
//!
//! `make check-all` runs a short form of each test, and `make torture` the long one. The last lines
//! tell how often each promise was tried.

mod campaign;
mod errors;
mod fails;
mod fuzz;
mod ground;
mod guarded;
mod hangs;
mod hostile;
mod injection;
mod judgement;
mod killed;
mod load;
mod looks;
mod oracle;
mod planted;
mod replay;
mod scene;

use libtest_mimic::Arguments;
use support::tally;
use support::test::{Needs, Test};

fn main() {
    let mut arguments = Arguments::from_args();
    if Needs::root_and(&[]).are_met() {
        support::enter_own_mount_namespace();
    }
    arguments.test_threads.get_or_insert(4);
    let tests = [
        ("fails", fails::tests()),
        ("killed", killed::tests()),
        ("hostile", hostile::tests()),
        ("planted", planted::tests()),
        ("load", load::tests()),
        ("hangs", hangs::tests()),
        ("fuzz", fuzz::tests()),
        ("replay", replay::tests()),
        ("looks", looks::tests()),
    ];
    let named = |(module, tests)| Vec::into_iter(tests).map(move |test: Test| test.of(module));
    let tests = tests.into_iter().flat_map(named).collect();
    let conclusion = support::test::run(&arguments, tests);
    if !arguments.list {
        tally::print();
    }
    conclusion.exit();
}
