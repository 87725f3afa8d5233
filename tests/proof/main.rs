//! Models of touches, of updates and of a watch. stateright explores all their states. `make
//! check-proof` runs them.
//!
//! A hole is a model that lacks one rule. The checker must find that it breaks a promise.

mod protocol;
mod update;
mod watch;

use libtest_mimic::Arguments;

fn main() {
    let mut arguments = Arguments::from_args();
    // Each exploration has two threads of its own.
    arguments.test_threads.get_or_insert(1);
    let protocol = protocol::tests()
        .into_iter()
        .map(|test| test.of("protocol"));
    let update = update::tests().into_iter().map(|test| test.of("update"));
    let watch = watch::tests().into_iter().map(|test| test.of("watch"));
    let all = protocol.chain(update).chain(watch).collect();
    let conclusion = support::test::run(&arguments, all);
    if protocol::states() > 0 {
        println!("{} states in all proofs of touches", protocol::states());
    }
    conclusion.exit();
}
