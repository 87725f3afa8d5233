//! Many touchers, many readers, many odd names, and a file system that hangs.

use support::test::Test;

pub fn tests() -> Vec<Test> {
    Vec::new()
}
