//! Many touchers and readers at once, a million touches, and modules with a hundred thousand odd
//! names.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use modstamp::{Durability, Mtime, Root, Stamp};
use rustix::fs::FlockOperation;
use support::mounted::Mounted;
use support::named;
use support::tally::{Promise, cases};
use support::test::{self, Needs, Test};
use support::world::{MODULES, World};

use super::guarded::{Ran, TRIGGER_BOUND, within};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["mkfs.ext2", "mount", "prlimit"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    touchers_and_readers_at_once_see_the_stamp_move_forward_alone,
    touches_past_a_held_lock_end_with_the_latest_time,
    each_of_a_million_touches_is_later_than_the_last,
    modules_with_odd_names_are_fresh_until_one_of_them_changes,
    a_trigger_is_not_held_up_by_many_modules,
];

/// How many touch and how many read at the same time.
const CROWD: usize = 64;

fn stamp(root: &Root) -> Stamp {
    Stamp::system(root, "qemu").unwrap()
}

fn touch(stamp: &Stamp) -> Mtime {
    let touched = stamp.touch("the crowd", "load", Durability::NotSynced);
    touched.unwrap().unwrap()
}

/// Has a crowd touch, `each` times everybody, while another crowd reads. Returns all mtimes.
///
/// `read` gets the mtime that the reader saw before, and the one that it sees now.
fn crowd(
    root: &Root,
    each: usize,
    touch: impl Fn(&Stamp) -> Mtime + Sync,
    read: fn(Mtime, Mtime),
) -> Vec<Mtime> {
    let first = touch(&stamp(root));
    let all = Mutex::new(vec![first]);
    let is_over = AtomicBool::new(false);
    let toucher = || {
        let stamp = stamp(root);
        for _ in 0..each {
            let mtime = touch(&stamp);
            all.lock().unwrap().push(mtime);
        }
    };
    let reader = || {
        let (stamp, mut before) = (stamp(root), first);
        while !is_over.load(Ordering::Relaxed) {
            let now = stamp.mtime().unwrap().expect("the stamp is never missing");
            read(before, now);
            before = now;
            Promise::StampKept.held();
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..CROWD).map(|_| scope.spawn(reader)).collect();
        let touchers: Vec<_> = (0..CROWD).map(|_| scope.spawn(toucher)).collect();
        let ended: Vec<_> = touchers.into_iter().map(|it| it.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        let ended = ended
            .into_iter()
            .chain(readers.into_iter().map(|it| it.join()));
        let failed: Vec<_> = ended.filter_map(Result::err).collect();
        if let Some(failed) = failed.into_iter().next() {
            std::panic::resume_unwind(failed);
        }
    });
    all.into_inner().unwrap()
}

fn assert_all_differ(what: &str, all: &[Mtime]) {
    let different: BTreeSet<&Mtime> = all.iter().collect();
    let (different, touches) = (different.len(), all.len());
    assert_eq!(different, touches, "{what}: two touches left one time");
    Promise::StampKept.held_times(touches as u64);
}

/// A file system that keeps nanoseconds, and one that keeps whole seconds.
fn disks() -> [(&'static str, Mounted); 2] {
    [
        ("tmpfs", Mounted::tmpfs("mode=755")),
        ("ext2", Mounted::ext2()),
    ]
}

fn touchers_and_readers_at_once_see_the_stamp_move_forward_alone() {
    for (what, disk) in disks() {
        let root = Root::open(disk.path()).unwrap();
        let latest = Mutex::new(None);
        let touch_later = |stamp: &Stamp| {
            let before = *latest.lock().unwrap();
            let mtime = touch(stamp);
            assert!(
                Some(mtime) > before,
                "{what}: {mtime} came after {before:?}"
            );
            let mut latest = latest.lock().unwrap();
            *latest = latest.max(Some(mtime));
            mtime
        };
        let read = |before, now| assert!(now >= before, "a reader saw {before}, then {now}");
        let all = crowd(&root, cases(20, 1500), touch_later, read);
        assert_all_differ(what, &all);
        let last = stamp(&root).mtime().unwrap();
        assert_eq!(last, all.iter().copied().max(), "{what}");
    }
}

fn touches_past_a_held_lock_end_with_the_latest_time() {
    for _ in 0..cases(1, 6) {
        for (what, disk) in disks() {
            touch_past_a_held_lock(what, &disk);
        }
    }
}

fn touch_past_a_held_lock(what: &str, disk: &Mounted) {
    let root = Root::open(disk.path()).unwrap();
    let first = touch(&stamp(&root));
    let lock = disk.path().join("var/lib/modstamp/.qemu.lock");
    let holder = fs::File::options().write(true).open(lock).unwrap();
    rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
    // Nobody has a turn, so a reader may see an earlier touch of another caller's for a moment.
    let all = crowd(&root, 1, touch, |_, _| ());
    // Whole seconds have no room for a number of each touch's own, as src/stamp/touch.rs says.
    if what != "ext2" {
        assert_all_differ(what, &all);
    }
    let last = stamp(&root).mtime().unwrap().unwrap();
    let latest = all.iter().copied().max().unwrap();
    assert!(
        last >= latest && latest > first,
        "{what}: {last} and {latest}"
    );
    drop(holder);
    assert!(touch(&stamp(&root)) > last, "{what}");
}

fn each_of_a_million_touches_is_later_than_the_last() {
    let disk = Mounted::tmpfs("mode=755");
    let stamp = stamp(&Root::open(disk.path()).unwrap());
    let mut last = touch(&stamp);
    let touches = cases(10_000, 1_000_000);
    for number in 0..touches {
        let mtime = touch(&stamp);
        assert!(mtime > last, "touch {number}: {mtime} after {last}");
        last = mtime;
    }
    assert_eq!(stamp.mtime().unwrap(), Some(last));
    Promise::StampKept.held_times(touches);
}

/// Forms of names that a shell, a terminal or a line of text could take for something else. Each
/// gets a number in the place of “@”.
const ODD: [&[u8]; 14] = [
    b"new\nline-@-",
    b"tab\tand\rreturn-@-",
    b"\x1b[2Jescape-@-",
    b"not \xff\xfe UTF-8-@-",
    b"\xc3-@-",
    "right to left \u{202e}-@-".as_bytes(),
    "one \u{9b}31m byte-@-".as_bytes(),
    b"'single' \"double\"-@-",
    b"--dash-@-",
    b"-@-",
    b"back\\slash\\x41-@-",
    b" spaces -@- ",
    b"$(touch x);`x`&|*?-@-",
    b"...@-",
];

fn odd_name(number: usize) -> OsString {
    let form = ODD[number % ODD.len()];
    let at = form.iter().position(|byte| *byte == b'@').unwrap();
    let mut name = [&form[..at], number.to_string().as_bytes(), &form[at + 1..]].concat();
    if number % 29 == 0 {
        name.resize(255, b'x'); // NAME_MAX
    }
    OsString::from_vec(name)
}

fn world_of_odd_names(disk: &Mounted, count: usize) -> World {
    let world = World::on(disk.path(), |_| ());
    for number in 0..count {
        fs::write(world.module("").join(odd_name(number)), b"before").unwrap();
    }
    world
}

/// The program with at most so many MiB of memory.
fn limited(world: &World, mebibytes: u64, arguments: &[&str]) -> Output {
    let modstamp = world.modstamp(arguments);
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--as={}", mebibytes << 20));
    limited
        .arg(modstamp.get_program())
        .args(modstamp.get_args());
    limited.output().unwrap()
}

fn modules_with_odd_names_are_fresh_until_one_of_them_changes() {
    let disk = Mounted::tmpfs("mode=755");
    let (count, mebibytes) = cases((3_000, 256), (100_000, 768));
    let world = world_of_odd_names(&disk, count);
    let witness = world.beside("witness");
    let witness_path = witness.to_str().unwrap();
    let observed = limited(&world, mebibytes, &["observe"]);
    assert!(observed.status.success(), "{observed:?}");
    fs::write(&witness, observed.stdout).unwrap();
    let check = || limited(&world, mebibytes, &["check", witness_path]);
    let fresh = check();
    assert_eq!(fresh.status.code(), Some(0), "{}", printed(&fresh));
    for odd in 0..ODD.len() {
        let number = odd + ODD.len() * (count / 2 / ODD.len());
        let path = world.module("").join(odd_name(number));
        let changes: [fn(&Path); 3] = [
            |path| fs::write(path, b"AFTER!").unwrap(),
            |path| fs::remove_file(path).unwrap(),
            |path| fs::create_dir(path).unwrap(),
        ];
        for change in changes {
            change(&path);
            let stale = check();
            assert_eq!(
                stale.status.code(),
                Some(1),
                "{path:?}: {}",
                printed(&stale)
            );
            assert_names(&stale, number);
            Promise::NothingStaleIsFresh.held();
        }
        fs::remove_dir(&path).unwrap();
        fs::write(&path, b"before").unwrap();
    }
    let fresh = check();
    assert_eq!(fresh.status.code(), Some(0), "{}", printed(&fresh));
}

fn printed(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    let out: String = out.chars().take(2000).collect();
    format!("{out}{}", String::from_utf8_lossy(&output.stderr))
}

/// The verdict names the module of that number, with nothing that a terminal obeys.
#[track_caller]
fn assert_names(stale: &Output, number: usize) {
    let text = std::str::from_utf8(&stale.stdout).unwrap();
    let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(text.contains(&number.to_string()), "{}", printed(stale));
    assert!(!text.contains(obeyed), "{text:?}");
}

fn a_trigger_is_not_held_up_by_many_modules() {
    let disk = Mounted::tmpfs("mode=755");
    let world = world_of_odd_names(&disk, cases(3_000, 100_000));
    let stamp = stamp(world.profile.root());
    for arguments in [&["trigger", "dpkg", MODULES][..], &["touch"]] {
        let before = stamp.mtime().unwrap();
        let ran = within(TRIGGER_BOUND, || Ran::of(world.modstamp(arguments)));
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        assert!(stamp.mtime().unwrap() > before, "{ran:?}");
        Promise::NoWait.held();
        Promise::TransactionCompletes.held();
    }
}
