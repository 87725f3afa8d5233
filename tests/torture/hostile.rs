//! A user without rights attacks every path that root walks.

use support::test::Test;

pub fn tests() -> Vec<Test> {
    Vec::new()
}
