//! A look ends within seconds, whatever is mounted or made in a module directory.
//!
//! These tests need root: they mount file systems, in a mount namespace of their own.

use std::fs;
use std::time::{Duration, Instant};

use modstamp::Witness;
use support::mounted::Mounted;
use support::named;
use support::tally::Promise;
use support::test::{self, Needs, Test};
use support::world::{MODULES, World, sentences};

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&["mount", "unshare"]), SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    the_kernels_own_state_in_a_module_directory_is_not_known_within_seconds,
    more_files_than_a_look_takes_are_not_known_within_seconds,
];

/// A look takes some seconds at most. One that enters /proc takes hours.
const SECONDS: Duration = Duration::from_secs(60);

fn in_time<T>(look: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let found = look();
    assert!(begun.elapsed() < SECONDS, "{:?}", begun.elapsed());
    Promise::NoWait.held();
    found
}

fn the_kernels_own_state_in_a_module_directory_is_not_known_within_seconds() {
    const NOT_STORED: &str = "not known: it is of a file system such as /proc, \
        which stores nothing, and is not looked at";
    for state in ["/proc", "/sys"] {
        for (at, title) in [
            ("usr/lib64/qemu/below", "module below in /usr/lib64/qemu"),
            (MODULES, "module directory /usr/lib64/qemu"),
        ] {
            let world = World::new();
            let before = world.observe();
            world.mount(&["--bind", state], at);
            let expected = format!("{title} {NOT_STORED}");
            for witness in [before, in_time(|| world.observe())] {
                let said = sentences(&in_time(|| world.check(&witness)));
                assert!(said.contains(&expected), "{said:?} lacks {expected}");
            }
        }
    }
}

fn more_files_than_a_look_takes_are_not_known_within_seconds() {
    const MOST: usize = 500_000;
    let disk = Mounted::tmpfs("mode=755,nr_inodes=0");
    let world = World::on(disk.path(), |_| ());
    let many = world.module("many");
    let before = world.observe();
    fs::create_dir(&many).unwrap();
    for number in 0..=MOST {
        fs::File::create(many.join(number.to_string())).unwrap();
    }
    let expected = [format!(
        "module directory /{MODULES} not known: it holds more than {MOST} files"
    )];
    let check = |witness: &Witness| sentences(&witness.check(&world.profile).unwrap());
    assert_eq!(in_time(|| check(&before)), expected);
    let witness = in_time(|| world.observe());
    assert_eq!(in_time(|| check(&witness)), expected);
    fs::remove_dir_all(many).unwrap();
    assert_eq!(check(&before), [""; 0]);
}
