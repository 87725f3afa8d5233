//! Every verb is killed at every system call.

use support::named;
use support::tally::cases;
use support::test::{self, Test};

use crate::campaign;
use crate::errors::errors;
use crate::injection::Fault;

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![a_program_may_be_killed_at_every_system_call,];

pub fn tests() -> Vec<Test> {
    test::tests(&campaign::needs(), SCENARIOS).collect()
}

fn a_program_may_be_killed_at_every_system_call() {
    campaign::run(|points, random| {
        let points = points
            .iter()
            .filter(|point| !errors(point).is_empty())
            .cloned()
            .collect();
        let points = random.sample(points, cases(20, usize::MAX));
        points
            .into_iter()
            .map(|point| vec![Fault::Killed(point)])
            .collect()
    });
}
