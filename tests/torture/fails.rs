//! Every system call of every verb fails once.

use support::test::Test;

pub fn tests() -> Vec<Test> {
    Vec::new()
}
