//! The traces of the models, replayed on the real library.

use support::test::Test;

pub fn tests() -> Vec<Test> {
    Vec::new()
}
