//! A hostile user plants something in the place of each file that root's programs open.
//!
//! The file's directory is root's and like /tmp: the user may add files to it, and root trusts it.
//! So each planted thing is met, rather than its directory refused.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, FlockOperation, Mode, makedev, mknodat};
use support::libvirt::{RECORD, SYSTEM, WATCHED, X86, file_name};
use support::mounted::Mounted;
use support::named;
use support::tally::{Promise, cases};
use support::test::{self, Needs, Test};
use support::world::STAMP;

use super::ground::{Ground, Programs, View};
use super::guarded::{Ran, TRIGGER_BOUND, as_user, assert_unchanged, give, listing, within};

pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&["chroot", "cp", "ldd", "mount"]);
    test::tests(&needs, SCENARIOS).collect()
}

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    what_is_planted_beside_the_stamp_makes_nobody_wait_and_leads_nowhere,
    what_is_planted_as_a_profile_makes_nobody_wait_and_leads_nowhere,
    what_is_planted_among_libvirts_answers_makes_nobody_wait_and_leads_nowhere,
    what_is_planted_among_modules_makes_nobody_wait,
    what_is_planted_among_answers_is_never_served,
    a_lock_that_is_a_file_of_roots_by_another_name_is_left_as_it_is,
    a_deep_tree_among_modules_makes_nobody_wait,
    locks_on_all_that_a_user_can_open_make_nobody_wait,
];

/// Something in the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    /// A FIFO, whose other end nobody opens.
    Fifo,
    /// Eight terabytes that occupy nothing.
    Sparse,
    Directory,
    /// A device that never ends. Only root makes one: this stands for a disk without `nodev`.
    Device,
    /// A link to the guarded file.
    Link,
    /// The guarded file by another name. Root makes it: this stands for a system without
    /// `fs.protected_hardlinks` (proc_sys_fs(5)).
    HardLink,
    /// A file that all may write, and on which its owner holds a lock for ever.
    Locked,
}

impl Plant {
    const ALL: [Plant; 7] = [
        Plant::Fifo,
        Plant::Sparse,
        Plant::Directory,
        Plant::Device,
        Plant::Link,
        Plant::HardLink,
        Plant::Locked,
    ];

    /// Puts it at `place`. The lock is held as long as the result is kept.
    fn put(self, place: &Path, guarded: &Path, seen: &Path) -> Option<File> {
        let all = Mode::from_raw_mode(0o666);
        match self {
            Plant::Device => {
                let zero = makedev(1, 5); // /dev/zero
                mknodat(CWD, place, FileType::CharacterDevice, all, zero).unwrap();
                give(place);
            }
            Plant::HardLink => fs::hard_link(guarded, place).unwrap(),
            _ => {}
        }
        as_user(|| {
            let file = || File::create(place).unwrap();
            match self {
                Plant::Device | Plant::HardLink => {}
                Plant::Fifo => mknodat(CWD, place, FileType::Fifo, all, 0).unwrap(),
                Plant::Sparse => file().set_len(8 << 40).unwrap(),
                Plant::Directory => fs::create_dir(place).unwrap(),
                Plant::Link => symlink(seen, place).unwrap(),
                Plant::Locked => {
                    let file = file();
                    let mode = fs::Permissions::from_mode(0o666);
                    file.set_permissions(mode).unwrap();
                    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
                    return Some(file);
                }
            }
            None
        })
    }
}

/// A verb, and whether a package transaction waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Trigger(&'static [&'static str]),
    RpmsProgram,
    Touch,
    Other(&'static [&'static str]),
}

const VERBS: [Verb; 9] = [
    Verb::Trigger(&["trigger", "dpkg"]),
    Verb::RpmsProgram,
    Verb::Touch,
    Verb::Other(&["update"]),
    Verb::Other(&["observe"]),
    Verb::Other(&["status"]),
    Verb::Other(&["libvirt", "refresh"]),
    Verb::Other(&["libvirt", "status"]),
    Verb::Other(&["libvirt", "evict", "--all"]),
];

/// No verb looks longer at what is planted: this is not a promise, but far from for ever.
const LOOK_BOUND: Duration = Duration::from_secs(15);

impl Verb {
    fn bound(self) -> Duration {
        match self {
            Verb::Other(_) => LOOK_BOUND,
            _ => TRIGGER_BOUND,
        }
    }

    fn run(self, ground: &Ground) -> Ran {
        let (program, arguments) = match self {
            Verb::RpmsProgram => ("rpm-trigger", &["/body", "1"][..]),
            Verb::Touch => ("modstamp", &["touch"][..]),
            Verb::Trigger(arguments) | Verb::Other(arguments) => ("modstamp", arguments),
        };
        Ran::of(ground.root(program, arguments))
    }

    /// Judges a run that began when the stamp was as `before`.
    #[track_caller]
    fn judge(self, ran: &Ran, before: Option<(u64, i64)>, ground: &Ground, context: &str) {
        let is_told = ran.err.contains("modstamp: ");
        assert!(!ran.err.contains("panicked"), "{context}");
        assert!(ran.status.code().is_some_and(|code| code <= 1), "{context}");
        assert!(ran.status.success() || is_told, "{context}");
        if let Verb::Other(_) = self {
            return;
        }
        let now = stamp_of(ground);
        let is_moved = now.is_some() && now != before;
        assert!(is_moved || is_told, "{context}: neither moved nor told");
        if self == Verb::Touch {
            assert_eq!(is_moved, ran.status.success(), "{context}");
        } else {
            assert!(ran.status.success(), "{context}");
            Promise::TransactionCompletes.held();
        }
    }
}

/// The inode and the time of the stamp, if it is a file.
fn stamp_of(ground: &Ground) -> Option<(u64, i64)> {
    let stat = fs::symlink_metadata(ground.step(STAMP)).ok()?;
    stat.is_file().then(|| (stat.ino(), stat.mtime_nsec()))
}

/// Plants everything at each place, one at a time, and runs each verb. The short form tries every
/// fourth of these, and every hard link.
fn plant_at(places: &[&str], plants: &[Plant], verbs: &[Verb]) {
    let disk = Mounted::tmpfs("mode=755");
    let programs = Programs::below(disk.path());
    let all = places.len() * plants.len() * verbs.len();
    for case in 0..all {
        let number = case;
        let (verb, case) = (verbs[case % verbs.len()], case / verbs.len());
        let (plant, place) = (plants[case % plants.len()], places[case / plants.len()]);
        if plant != Plant::HardLink && number % cases(4, 1) != 0 {
            continue;
        }
        within(verb.bound(), || {
            plant_once(disk.path(), &programs, place, plant, verb)
        });
        Promise::NoWait.held();
    }
}

fn plant_once(top: &Path, programs: &Programs, place: &str, plant: Plant, verb: Verb) -> Ran {
    let ground = Ground::new(top, View::System, programs);
    let (at, guarded) = (ground.step(place), ground.outside(place));
    for file in [&at, &guarded] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    if !guarded.exists() {
        // As private as a lock of root's.
        fs::write(&guarded, "private").unwrap();
        fs::set_permissions(&guarded, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let _ = fs::remove_file(&at);
    let like_tmp = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(at.parent().unwrap(), like_tmp).unwrap();
    let _held = plant.put(&at, &guarded, &ground.seen(&guarded));
    let facts = || match plant {
        // A name fewer moves the ctime.
        Plant::HardLink => facts_of_hard_link(&guarded),
        _ => String::new(),
    };
    let (before, facts_before) = (listing(&ground.outside("")), facts());
    let stamp = stamp_of(&ground);
    let ran = verb.run(&ground);
    let context = format!("{place} as {plant:?}: {verb:?}: {ran:?}");
    match plant {
        Plant::HardLink => assert_eq!(facts(), facts_before, "{context}"),
        _ => assert_unchanged(&before, &ground.outside(""), &context),
    }
    verb.judge(&ran, stamp, &ground, &context);
    Promise::NoWriteOutside.held();
    ran
}

fn facts_of_hard_link(file: &Path) -> String {
    let stat = fs::symlink_metadata(file).unwrap();
    let content = fs::read(file).unwrap();
    let time = (stat.mtime(), stat.mtime_nsec());
    format!("{:o} {} {:?} {content:?}", stat.mode(), stat.uid(), time)
}

fn what_is_planted_beside_the_stamp_makes_nobody_wait_and_leads_nowhere() {
    const WITNESS: &str = "var/lib/modstamp/qemu.witness";
    const LOCK: &str = "var/lib/modstamp/.qemu.lock";
    const NEW: &str = "var/lib/modstamp/.qemu.stamp.new";
    // A lock that is root's own file by another name has a test of its own.
    let but_linked: Vec<Plant> = Plant::ALL
        .into_iter()
        .filter(|it| *it != Plant::HardLink)
        .collect();
    plant_at(&[STAMP, WITNESS, RECORD, NEW], &Plant::ALL, &VERBS);
    plant_at(&[LOCK], &but_linked, &VERBS);
}

fn a_lock_that_is_a_file_of_roots_by_another_name_is_left_as_it_is() {
    plant_at(&["var/lib/modstamp/.qemu.lock"], &[Plant::HardLink], &VERBS);
}

fn what_is_planted_as_a_profile_makes_nobody_wait_and_leads_nowhere() {
    let places = [
        "etc/modstamp/profiles.d/qemu.toml",
        "run/modstamp/profiles.d/qemu.toml",
        "usr/lib/modstamp/profiles.d/qemu.toml",
    ];
    plant_at(&places, &Plant::ALL, &VERBS);
}

fn what_is_planted_among_libvirts_answers_makes_nobody_wait_and_leads_nowhere() {
    plant_at(
        &[&format!("{SYSTEM}/{}", file_name(X86))],
        &Plant::ALL,
        &VERBS,
    );
}

fn what_is_planted_among_modules_makes_nobody_wait() {
    let module = format!("{WATCHED}/planted.so");
    plant_at(
        &[&module, "usr/bin/qemu-system-x86_64"],
        &Plant::ALL,
        &VERBS,
    );
}

fn a_deep_tree_among_modules_makes_nobody_wait() {
    let disk = Mounted::tmpfs("mode=755");
    let programs = Programs::below(disk.path());
    for verb in VERBS {
        let ground = Ground::new(disk.path(), View::System, &programs);
        let top = ground.step(WATCHED);
        give(&top);
        as_user(|| fs::create_dir_all(top.join("d/".repeat(1000))).unwrap());
        let stamp = stamp_of(&ground);
        let ran = within(verb.bound(), || verb.run(&ground));
        let context = format!("a thousand levels: {verb:?}: {ran:?}");
        verb.judge(&ran, stamp, &ground, &context);
        Promise::NoWait.held();
    }
}

/// The cache in which root keeps answers, in a directory like /tmp, and the name of an answer.
fn shared_cache(ground: &Ground) -> (PathBuf, String) {
    let cache = ground.step("home/shared");
    fs::create_dir_all(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o1777)).unwrap();
    let asked = Ran::of(ground.run(&cache));
    assert_eq!(asked.out, "asked", "{asked:?}");
    let names = fs::read_dir(&cache).unwrap();
    let mut names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    let name = names.find(|name| !name.starts_with('.')).unwrap();
    (cache, name)
}

fn what_is_planted_among_answers_is_never_served() {
    let disk = Mounted::tmpfs("mode=755");
    let programs = Programs::below(disk.path());
    let names: [fn(&str) -> String; 2] = [str::to_owned, |name| format!(".{name}.modstamp-lock")];
    for of in names {
        for plant in Plant::ALL {
            let ground = Ground::new(disk.path(), View::System, &programs);
            ground.keep_private_answer();
            let (cache, name) = shared_cache(&ground);
            // Root's own private answer to the same question is what a link would lead to.
            let private = ground.outside("home/me/.cache/modstamp").join(&name);
            let _ = fs::remove_file(cache.join(&name));
            let place = cache.join(of(&name));
            let _ = fs::remove_file(&place);
            let _held = plant.put(&place, &private, &ground.seen(&private));
            let before = listing(&ground.outside(""));
            let facts = facts_of_hard_link(&private);
            for _ in 0..2 {
                let ran = Ran::of(ground.run(&cache));
                let context = format!("{plant:?} as {}: {ran:?}", place.display());
                assert_eq!(
                    (&*ran.out, ran.status.code()),
                    ("asked", Some(0)),
                    "{context}"
                );
                assert!(ran.took < LOOK_BOUND, "{context}");
                match plant {
                    Plant::HardLink => assert_eq!(facts_of_hard_link(&private), facts, "{context}"),
                    _ => assert_unchanged(&before, &ground.outside(""), &context),
                }
                Promise::OwnAnswersOnly.held();
                Promise::NoWait.held();
            }
        }
    }
}

/// Everybody can lock what they can open, directories included (flock(2)).
fn locks_on_all_that_a_user_can_open_make_nobody_wait() {
    let disk = Mounted::tmpfs("mode=755");
    let programs = Programs::below(disk.path());
    let ground = Ground::new(disk.path(), View::System, &programs);
    let (cache, _) = shared_cache(&ground);
    Verb::Touch.run(&ground);
    Verb::Other(&["libvirt", "refresh"]).run(&ground);
    let lock = |path: &PathBuf| {
        let file = as_user(|| File::open(path)).ok()?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(file)
    };
    let held: Vec<File> = listing(&ground.step("")).keys().filter_map(lock).collect();
    assert!(held.len() > 50, "{held:?}");
    for verb in VERBS {
        let stamp = stamp_of(&ground);
        let ran = within(Duration::from_secs(1), || verb.run(&ground));
        verb.judge(
            &ran,
            stamp,
            &ground,
            &format!("all is locked: {verb:?}: {ran:?}"),
        );
        Promise::NoWait.held();
    }
    let asked = within(Duration::from_secs(1), || Ran::of(ground.run(&cache)));
    assert_eq!(asked.out, "asked", "{asked:?}");
    Promise::NoWait.held();
}
