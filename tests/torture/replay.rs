//! The traces of the models, replayed on the real library: each step is a real call on real files.
//!
//! The models of `tests/proof` import nothing from the crate. These tests tie them to it.
//!
//! - [`holes`] replays every shortest counterexample. Each breaks a promise in a model that lacks a
//!   rule. The library has that rule, so its verdict has to be right.
//! - [`walks`] replays random walks through the model of the protocol as it is. Each verdict has to
//!   be the model's.
//! - [`updates`] replays the holes and random walks of the model of updates.
//!
//! [`real`] does a model's actions, and [`asker`] is a consumer. A tick of the model is a second or
//! two on a file system that keeps whole seconds. Many walks and traces wait side by side.

#[path = "../proof/protocol.rs"]
#[allow(dead_code)] // Only the program `proof` runs the proofs themselves.
mod protocol;
#[path = "../proof/update.rs"]
#[allow(dead_code)]
mod update;

mod asker;
mod holes;
mod real;
mod updates;
mod walks;

use support::test::{Needs, Test, test};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["mount", "mkfs.ext2", "strace"]);
    vec![
        test(
            "the_library_is_right_where_a_model_without_a_rule_is_wrong",
            &needs,
            holes::all,
        ),
        test(
            "a_random_walk_has_the_verdicts_of_the_model",
            &needs,
            walks::timed,
        ),
        test(
            "a_random_walk_of_touches_has_the_verdicts_of_the_model",
            &needs,
            walks::untimed,
        ),
        test(
            "updates_are_right_where_a_model_without_a_rule_is_wrong",
            &needs,
            updates::holes,
        ),
        test(
            "a_random_walk_of_updates_touches_and_serves_as_the_model_does",
            &needs,
            updates::walk,
        ),
    ]
}
