//! A watch hears of mounts. If the kernel tells too little, the watch looks at each check.

use std::fs;
use std::process::Command;

use modstamp::{Profile, Root};
use support::mounted::Mounted;
use support::named;
use support::test::{self, Needs, Test};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_watch_sees_a_mount_over_the_modules_and_its_end,
    a_watch_on_an_overlay_says_that_it_looks_at_each_check,
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&["mount", "unshare"]), SCENARIOS).collect()
}

/// The profile of a disk with a directory of modules.
fn profile_of(disk: &Mounted) -> Profile {
    let root = Root::open(disk.path()).unwrap();
    let profile = Profile::new("x").unwrap().in_root(&root);
    profile.module_directories(["/modules"]).unwrap()
}

fn a_watch_sees_a_mount_over_the_modules_and_its_end() {
    let disk = Mounted::tmpfs("mode=755");
    let path = |name: &str| disk.path().join(name);
    for directory in ["modules", "others"] {
        fs::create_dir(path(directory)).unwrap();
        fs::write(path(directory).join("a.so"), directory).unwrap();
    }
    let profile = profile_of(&disk);
    let witness = profile.observe().unwrap();
    let mut watch = profile.watch().unwrap();
    let mut is_fresh = || watch.check(&witness).unwrap().is_fresh();
    assert!(is_fresh() && is_fresh());
    let mut mount = Command::new("mount");
    support::run(mount.arg("--bind").args([path("others"), path("modules")]));
    assert!(!is_fresh());
    support::run(Command::new("umount").arg(path("modules")));
    assert!(is_fresh());
    assert_eq!(watch.limit(), None);
}

fn a_watch_on_an_overlay_says_that_it_looks_at_each_check() {
    let disk = Mounted::overlay(|lower| {
        fs::create_dir(lower.join("modules")).unwrap();
        fs::write(lower.join("modules/a.so"), "before").unwrap();
    });
    let profile = profile_of(&disk);
    let witness = profile.observe().unwrap();
    let mut watch = profile.watch().unwrap();
    assert!(watch.check(&witness).unwrap().is_fresh());
    let limit = watch.limit().unwrap();
    assert!(limit.contains("does not tell of all changes"), "{limit}");
    fs::write(disk.path().join("modules/a.so"), "after").unwrap();
    assert!(!watch.check(&witness).unwrap().is_fresh());
}
