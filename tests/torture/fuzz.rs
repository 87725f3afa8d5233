//! Random bytes for everything that modstamp reads.

use support::test::Test;

pub fn tests() -> Vec<Test> {
    Vec::new()
}
