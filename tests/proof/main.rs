//! Models of touches and of updates. stateright explores all their states. `make check-proof` runs
//! them.
//!
//! A hole is a model that lacks one rule. The checker must find that it breaks a promise.

mod protocol;
mod update;

use libtest_mimic::Arguments;

fn main() {
    let mut arguments = Arguments::from_args();
    // Each exploration has two threads of its own.
    arguments.test_threads.get_or_insert(1);
    let protocol = protocol::tests()
        .into_iter()
        .map(|test| test.of("protocol"));
    let update = update::tests().into_iter().map(|test| test.of("update"));
    let conclusion = support::test::run(&arguments, protocol.chain(update).collect());
    if protocol::states() > 0 {
        println!("{} states in all proofs of touches", protocol::states());
    }
    conclusion.exit();
}
