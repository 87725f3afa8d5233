//! The stamp's promises, in a scratch root. These tests need nothing.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use filetime::FileTime;
use modstamp::{Durability, Mtime, Profile, Root, Stamp};
use rustix::fs::FlockOperation;

/// A scratch root with its stamp.
struct World {
    scratch: tempfile::TempDir,
    root: Root,
    stamp: Stamp,
}

impl World {
    fn new() -> World {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let stamp = Stamp::system(&root, "qemu").unwrap();
        World {
            scratch,
            root,
            stamp,
        }
    }

    fn touch(&self) -> modstamp::Result<Mtime> {
        self.stamp
            .touch("a test", "to see it move", Durability::NotSynced)
            .map(Option::unwrap)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.scratch.path().join(below)
    }

    fn set(&self, seconds: i64) {
        filetime::set_file_mtime(self.stamp.path(), FileTime::from_unix_time(seconds, 0)).unwrap();
    }
}

fn modstamp() -> Command {
    Command::new(env!("CARGO_BIN_EXE_modstamp"))
}

#[test]
fn a_first_touch_makes_the_stamp_and_its_directory_for_all_to_read() {
    let world = World::new();
    // The strictest umask must not hide the stamp from per-user daemons.
    let script = r#"umask 077; exec "$0" touch --root "$1""#;
    let status = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_modstamp")])
        .arg(world.scratch.path())
        .status()
        .unwrap();
    assert!(status.success());
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(world.path("var/lib/modstamp")), 0o755);
    assert_eq!(mode(world.stamp.path()), 0o644);
}

#[test]
fn a_touch_moves_the_stamp_forward_when_the_clock_steps_back() {
    let world = World::new();
    world.touch().unwrap();
    world.set(4_000_000_000); // The clock was in the year 2096 for a while.
    let moved = world.touch().unwrap();
    assert!(
        moved.seconds() == 4_000_000_000 && moved.nanoseconds() > 0,
        "{moved}"
    );
    assert!(world.touch().unwrap() > moved);
}

#[test]
fn a_touch_in_the_same_tick_still_moves_the_stamp() {
    let world = World::new();
    let mut last = world.touch().unwrap();
    for _ in 0..500 {
        let next = world.touch().unwrap();
        assert!(next > last, "{next} is not later than {last}");
        assert_eq!(world.stamp.mtime().unwrap(), Some(next));
        last = next;
    }
}

#[test]
fn touches_at_once_each_leave_a_time_of_their_own() {
    let world = World::new();
    let times: Vec<Mtime> = std::thread::scope(|scope| {
        let touch_often = || (0..50).map(|_| world.touch().unwrap()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(touch_often)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let different: HashSet<Mtime> = times.iter().copied().collect();
    assert_eq!(different.len(), 8 * 50);
    assert_eq!(world.stamp.mtime().unwrap(), times.into_iter().max());
}

#[test]
fn touches_by_processes_at_once_all_succeed_and_leave_one_whole_stamp() {
    let world = World::new();
    let mut children: Vec<_> = (0..20)
        .map(|_| {
            modstamp()
                .args(["touch", "--root"])
                .arg(world.scratch.path())
                .spawn()
                .unwrap()
        })
        .collect();
    assert!(
        children
            .iter_mut()
            .all(|child| child.wait().unwrap().success())
    );
    let note = world.stamp.note().unwrap();
    assert_eq!(Some(note.mtime), world.stamp.mtime().unwrap());
    let names = fs::read_dir(world.path("var/lib/modstamp")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            ".qemu.lock",
            "qemu.libvirt",
            "qemu.log",
            "qemu.stamp",
            "qemu.witness"
        ]
    );
}

#[test]
fn a_plain_touch_by_hand_counts_like_any_other() {
    let world = World::new();
    fs::create_dir_all(world.path("usr/lib64/qemu")).unwrap();
    world.touch().unwrap();
    let profile = Profile::load_in("qemu", &world.root).unwrap();
    for date in ["now", "2001-02-03"] {
        let before = profile.observe().unwrap();
        assert!(before.check(&profile).unwrap().is_fresh());
        let status = Command::new("touch")
            .args(["-d", date])
            .arg(world.stamp.path())
            .status();
        assert!(status.unwrap().success());
        let verdict = before.check(&profile).unwrap();
        assert!(
            verdict.reasons_for_people(1)[0].contains("system stamp touched"),
            "{verdict:?}"
        );
    }
    let by_hand = world.stamp.mtime().unwrap();
    assert!(world.touch().unwrap() > by_hand.unwrap());
}

#[test]
fn a_stamp_that_was_removed_goes_on_from_its_latest_time() {
    let world = World::new();
    world.touch().unwrap();
    world.set(4_000_000_000);
    let last = world.touch().unwrap();
    fs::remove_file(world.stamp.path()).unwrap();
    assert!(world.touch().unwrap() > last);
}

#[test]
fn what_the_stamp_says_is_for_people_and_a_torn_text_does_no_harm() {
    let world = World::new();
    let mut last = world.touch().unwrap();
    let note = world.stamp.note().unwrap();
    assert_eq!(
        (note.by.as_str(), note.why.as_str()),
        ("a test", "to see it move")
    );
    for text in [&b""[..], b"\xff\xfe\0\0", b"by: me", &[b'x'; 1 << 20]] {
        fs::write(world.stamp.path(), text).unwrap();
        assert_eq!(world.stamp.note(), None);
        let next = world.touch().unwrap();
        assert!(next > last);
        last = next;
    }
}

#[test]
fn a_reason_with_newlines_stays_one_line() {
    let world = World::new();
    world
        .stamp
        .touch("me\nmtime: 0", "why\nby: somebody else", Durability::Synced)
        .unwrap();
    let note = world.stamp.note().unwrap();
    assert_eq!(note.by, "me mtime: 0");
    assert_eq!(Some(note.mtime), world.stamp.mtime().unwrap());
}

#[test]
fn a_reason_has_no_character_that_a_terminal_obeys() {
    let world = World::new();
    for unsafe_one in ["\x1b", "\u{9b}", "\u{202e}", "\u{2066}", "\u{2028}"] {
        let why = format!("a{unsafe_one}b");
        let touched = world.stamp.touch(&why, &why, Durability::NotSynced);
        assert!(touched.is_ok());
        let note = world.stamp.note().unwrap();
        assert_eq!((&*note.by, &*note.why), ("a b", "a b"), "{why:?}");
    }
}

#[test]
fn a_lock_that_others_could_hold_is_not_waited_for() {
    let world = World::new();
    world.touch().unwrap();
    let lock = world.path("var/lib/modstamp/.qemu.lock");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o644)).unwrap();
    let others = fs::File::open(&lock).unwrap();
    rustix::fs::flock(&others, FlockOperation::LockExclusive).unwrap();
    let start = Instant::now();
    world.touch().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "it waited for the lock"
    );
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_touch_is_not_held_up_for_ever_by_one_that_never_ends() {
    let world = World::new();
    let first = world.touch().unwrap();
    let stuck = fs::File::open(world.path("var/lib/modstamp/.qemu.lock")).unwrap();
    rustix::fs::flock(&stuck, FlockOperation::LockExclusive).unwrap();
    assert!(world.touch().unwrap() > first);
}

#[test]
fn a_touch_never_leaves_the_root() {
    for link in ["var", "var/lib", "var/lib/modstamp"] {
        let scratch = tempfile::tempdir().unwrap();
        let (outside, inside) = (scratch.path().join("outside"), scratch.path().join("root"));
        fs::create_dir_all(outside.join("lib/modstamp")).unwrap();
        let before = tree(&outside);
        // Each link leads outside, by an absolute path or by enough “..”.
        let up = (1..5).map(|steps| PathBuf::from("../".repeat(steps) + "outside"));
        for target in up.chain([outside.clone()]) {
            let _ = fs::remove_dir_all(&inside);
            fs::create_dir_all(inside.join(link).parent().unwrap()).unwrap();
            symlink(&target, inside.join(link)).unwrap();
            let root = Root::open(&inside).unwrap();
            // It may find a place inside the root or none. Nothing may appear outside.
            let _ = Stamp::system(&root, "qemu")
                .unwrap()
                .touch("", "", Durability::NotSynced);
            assert_eq!(
                tree(&outside),
                before,
                "{link} -> {} led outside",
                target.display()
            );
        }
    }
}

/// All paths below a directory.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(tree(&path));
        }
        paths.push(path);
    }
    paths
}

#[test]
fn a_link_inside_the_root_is_followed_as_the_system_there_would() {
    let world = World::new();
    fs::create_dir_all(world.path("data/lib")).unwrap();
    fs::create_dir_all(world.path("var")).unwrap();
    symlink("/data/lib", world.path("var/lib")).unwrap();
    world.touch().unwrap();
    assert!(world.path("data/lib/modstamp/qemu.stamp").is_file());
}

#[test]
fn a_stamp_that_is_no_file_is_refused_and_left_alone() {
    let fifo =
        |path: PathBuf| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let socket = |path: PathBuf| drop(UnixListener::bind(path).unwrap());
    let makers: [(&str, &dyn Fn(PathBuf)); 4] = [
        ("symbolic link", &|path| symlink("elsewhere", path).unwrap()),
        ("directory", &|path| fs::create_dir(path).unwrap()),
        ("FIFO", &fifo),
        ("socket", &socket),
    ];
    for (kind, make) in makers {
        let world = World::new();
        fs::create_dir_all(world.path("var/lib/modstamp")).unwrap();
        make(world.stamp.path());
        let before = fs::symlink_metadata(world.stamp.path()).unwrap();
        let error = world.touch().unwrap_err().to_string();
        assert!(
            error.contains(kind) && error.contains("remove it and touch again"),
            "{error}"
        );
        let after = fs::symlink_metadata(world.stamp.path()).unwrap();
        assert_eq!(
            (before.ino(), before.mtime_nsec()),
            (after.ino(), after.mtime_nsec())
        );
        assert!(!world.path("var/lib/modstamp/elsewhere").exists());
        assert!(
            world.stamp.mtime().is_err(),
            "a {kind} is no stamp to a reader either"
        );
    }
}

#[test]
fn a_way_that_somebody_else_could_bend_is_refused() {
    for below in ["var", "var/lib", "var/lib/modstamp"] {
        let world = World::new();
        world.touch().unwrap();
        let before = world.stamp.mtime().unwrap();
        fs::set_permissions(world.path(below), fs::Permissions::from_mode(0o777)).unwrap();
        let error = world.touch().unwrap_err().to_string();
        assert!(error.contains("can be written by every user"), "{error}");
        assert!(
            error.contains(world.path(below).to_str().unwrap()),
            "{error}"
        );
        assert_eq!(world.stamp.mtime().unwrap(), before);
    }
}

#[test]
fn a_touch_below_a_root_that_is_missing_says_so() {
    let output = modstamp()
        .args(["touch", "--root", "/no/such/root"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("/no/such/root") && error.contains("name a directory that exists"),
        "{error}"
    );
}

#[test]
fn a_name_that_would_lead_elsewhere_is_no_profiles() {
    let root = Root::system().unwrap();
    for name in ["../etc/x", "a/b", "", ".", "..", "a\0b"] {
        assert!(Stamp::system(&root, name).is_err(), "{name:?}");
    }
}
