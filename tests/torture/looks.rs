//! Verbs that only look write nothing.

use support::test::Test;

pub fn tests() -> Vec<Test> {
    Vec::new()
}
