//! Every system call of every verb fails once, and two at once.

use support::named;
use support::tally::cases;
use support::test::{self, Test};

use crate::campaign::{self, Random};
use crate::errors::errors;
use crate::injection::{Fault, Point};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    every_system_call_may_fail_once,
    two_system_calls_may_fail_at_once,
];

pub fn tests() -> Vec<Test> {
    test::tests(&campaign::needs(), SCENARIOS).collect()
}

fn every_system_call_may_fail_once() {
    campaign::run(|points, random| {
        let faults = single_errors(points);
        let faults = random.sample(faults, cases(40, usize::MAX));
        faults.into_iter().map(|fault| vec![fault]).collect()
    });
}

/// Each plausible error of each call.
fn single_errors(points: &[Point]) -> Vec<Fault> {
    let of = |point: &Point| {
        let errors = errors(point).into_iter();
        let fault = |error| Fault::Fails(point.clone(), error);
        errors.map(fault).collect::<Vec<_>>()
    };
    points.iter().flat_map(of).collect()
}

/// Two calls of different names fail, or one from some moment on.
fn two_system_calls_may_fail_at_once() {
    campaign::run(|points, random| {
        let may_fail = |point: &&Point| !errors(point).is_empty();
        let points: Vec<Point> = points.iter().filter(may_fail).cloned().collect();
        (0..cases(10, 150)).map(|_| two(&points, random)).collect()
    });
}

fn two(points: &[Point], random: &mut Random) -> Vec<Fault> {
    let point = random.pick(points).clone();
    let error = *random.pick(&errors(&point));
    let others: Vec<&Point> = points
        .iter()
        .filter(|other| other.name != point.name)
        .collect();
    let lasts = !matches!(error, "EINTR" | "EAGAIN"); // A caller may try for ever.
    let is_single = *random.pick(&[true, false]);
    match is_single && lasts || others.is_empty() {
        true => vec![Fault::FailsFrom(point, error)],
        false => {
            let other = (*random.pick(&others)).clone();
            let also = *random.pick(&errors(&other));
            vec![Fault::Fails(point, error), Fault::Fails(other, also)]
        }
    }
}
