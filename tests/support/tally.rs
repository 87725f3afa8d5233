//! Counts how often the tests tried each promise, and tells whether the long form runs.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

/// A promise of SECURITY.md that a hostile world tries to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    TransactionCompletes,
    StampKept,
    NothingStaleIsFresh,
    OwnAnswersOnly,
    NoWriteOutside,
    NoWait,
    ReadersChangeNothing,
    NoPanic,
    FailuresAreTold,
    NothingLeftOver,
}

impl Promise {
    const ALL: [Promise; 10] = [
        Promise::TransactionCompletes,
        Promise::StampKept,
        Promise::NothingStaleIsFresh,
        Promise::OwnAnswersOnly,
        Promise::NoWriteOutside,
        Promise::NoWait,
        Promise::ReadersChangeNothing,
        Promise::NoPanic,
        Promise::FailuresAreTold,
        Promise::NothingLeftOver,
    ];

    fn sentence(self) -> &'static str {
        match self {
            Promise::TransactionCompletes => "A package transaction completes.",
            Promise::StampKept => "The stamp is never lost or wound back.",
            Promise::NothingStaleIsFresh => "No stale answer is served as fresh.",
            Promise::OwnAnswersOnly => "Nobody is served what somebody else wrote.",
            Promise::NoWriteOutside => "Root never writes outside.",
            Promise::NoWait => "An unprivileged user makes nobody wait.",
            Promise::ReadersChangeNothing => "A verb that only looks changes nothing.",
            Promise::NoPanic => "No input and no failure ends a program with a panic.",
            Promise::FailuresAreTold => "A failure is told: attempt, path and remedy.",
            Promise::NothingLeftOver => "A failed or killed run leaves nothing over for good.",
        }
    }

    /// Notes one more case in which a test tried to break this promise, and failed to.
    pub fn held(self) {
        self.held_times(1);
    }

    /// Notes that many cases.
    pub fn held_times(self, cases: u64) {
        *CASES.lock().unwrap().entry(self).or_default() += cases;
    }
}

static CASES: Mutex<BTreeMap<Promise, u64>> = Mutex::new(BTreeMap::new());

/// Prints how often each promise was tried.
pub fn print() {
    let cases = CASES.lock().unwrap();
    println!("\nHow often the tests tried to break each promise:");
    for promise in Promise::ALL {
        let times = cases.get(&promise).copied().unwrap_or_default();
        println!("{times:>10}  {}", promise.sentence());
    }
}

/// The number of cases: `short` in `make check-all`, `long` in `make torture`.
pub fn cases<T>(short: T, long: T) -> T {
    match *IS_LONG {
        true => long,
        false => short,
    }
}

static IS_LONG: LazyLock<bool> =
    LazyLock::new(|| std::env::var("MODSTAMP_TORTURE").is_ok_and(|form| form == "long"));
