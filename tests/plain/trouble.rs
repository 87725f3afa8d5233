//! Touches and triggers in trouble: what fails or hangs loses no change, and holds nothing up.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use filetime::FileTime;
use modstamp::trigger::{self, Body, Cause, Deadline};
use modstamp::{Durability, Mtime, Root, Stamp};
use rustix::fs::FlockOperation;
use support::libvirt::Host;
use support::world::{GTK, STAMP, World};

const KEPT: &str = "var/lib/modstamp/qemu.witness";
const LOCK: &str = "var/lib/modstamp/.qemu.lock";

/// The bound of all waiting, and as much again for a busy machine.
const BOUND: Duration = Duration::from_secs(8);

/// Holds the lock of touches until it is dropped.
fn held(root: &Path) -> File {
    let lock = File::open(root.join(LOCK)).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    lock
}

fn mtime(world: &World) -> FileTime {
    FileTime::from_last_modification_time(&fs::metadata(world.path(STAMP)).unwrap())
}

/// The standard error of a command that has to succeed.
#[track_caller]
fn warnings(output: Output) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

fn start(world: &World, stdin: impl Into<Stdio>) -> Child {
    let mut command = world.modstamp(&["trigger", "rpm"]);
    command.stdin(stdin).stderr(Stdio::piped()).spawn().unwrap()
}

/// A world whose modules an update keeps, and that has nothing of libvirt.
fn kept() -> World {
    let world = World::prepared(|world| {
        let text = "files = [\"/etc/qemu/*.conf\"]\nrefresh-libvirt = false";
        world.write("etc/modstamp/profiles.d/qemu.toml", text);
    });
    world.settle();
    warnings(world.output(&["update"]));
    world
}

#[test]
fn kept_modules_of_before_the_last_touch_are_not_believed() {
    let world = kept();
    let (witness, module) = (fs::read(world.path(KEPT)), fs::read(world.path(GTK)));
    let (witness, module) = (witness.unwrap(), module.unwrap());
    for touch in [&["touch"][..], &["trigger", "dpkg", "/usr/lib64/qemu"]] {
        world.write(GTK, "changed.");
        warnings(world.output(touch));
        // So it is if the touch could not remove it.
        fs::write(world.path(KEPT), &witness).unwrap();
        fs::write(world.path(GTK), &module).unwrap();
        let before = mtime(&world);
        warnings(world.output(&["update"]));
        assert!(mtime(&world) > before, "the change back is not told");
    }
}

/// Gives the lock file a time that no touch stored there.
fn forge(world: &World, seconds: i64) {
    filetime::set_file_mtime(world.path(LOCK), FileTime::from_unix_time(seconds, 0)).unwrap();
}

#[test]
fn a_lock_file_with_an_absurd_time_sends_the_stamp_nowhere_and_is_told_once() {
    let world = kept();
    let sentence = "modstamp: warning: the time of ";
    for verb in [&["touch"][..], &["trigger", "dpkg", "/usr/lib64/qemu"]] {
        let before = mtime(&world);
        forge(&world, 13_569_465_600); // the year 2400
        let text = warnings(world.output(verb));
        assert!(text.starts_with(sentence), "{text}");
        assert!(text.contains(".qemu.lock is more than a day ahead"));
        let after = mtime(&world);
        let ahead = after.unix_seconds() - before.unix_seconds();
        assert!(after > before && ahead < 3600, "{before} became {after}");
        // The touch also set the lock file right.
        assert_eq!(warnings(world.output(verb)), "");
        fs::remove_file(world.path(STAMP)).unwrap();
        assert_eq!(warnings(world.output(verb)), "");
        assert!(mtime(&world) > after);
    }
}

#[test]
fn a_lock_file_less_than_a_day_ahead_is_followed_and_so_is_a_stamp_far_ahead() {
    let world = kept();
    let near = mtime(&world).unix_seconds() + 80_000;
    forge(&world, near);
    assert_eq!(warnings(world.output(&["touch"])), "");
    assert!(mtime(&world) > FileTime::from_unix_time(near, 0));
    let far = FileTime::from_unix_time(4_000_000_000, 0);
    filetime::set_file_mtime(world.path(STAMP), far).unwrap();
    for _ in 0..2 {
        let before = mtime(&world);
        assert_eq!(warnings(world.output(&["touch"])), "");
        assert!(before >= far && mtime(&world) > before);
    }
}

#[test]
fn a_touch_that_fails_tells_all_else_that_went_wrong() {
    let world = kept();
    fs::remove_file(world.path(STAMP)).unwrap();
    fs::create_dir(world.path(STAMP)).unwrap();
    for (verb, code) in [
        (&["touch"][..], 1),
        (&["trigger", "dpkg", "/usr/lib64/qemu"], 0),
    ] {
        forge(&world, 13_569_465_600);
        let output = world.output(verb);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("remove it and touch again"), "{text}");
        assert!(text.contains("warning: the time of "), "{text}");
    }
}

#[test]
fn modules_that_a_touch_cannot_keep_are_told_with_a_remedy() {
    let world = kept();
    // This stands for a full disk.
    world.sh("mkdir -p var/lib/modstamp/.qemu.witness.new/full");
    let text = warnings(world.output(&["trigger", "dpkg", "/usr/lib64/qemu"]));
    let sentence = "modstamp: warning: cannot keep the witness of the modules beside ";
    assert!(text.starts_with(sentence), "{text}");
    assert!(text.contains("qemu.stamp: ") && text.contains("; make room there"));
}

#[test]
fn only_a_sure_absence_means_that_the_administrator_has_no_file() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Root::open(scratch.path()).unwrap();
    let has = || trigger::has_administrators_file(&root, "qemu");
    assert!(!has());
    for top in ["etc", "run"] {
        let directory = scratch.path().join(top).join("modstamp");
        fs::create_dir_all(&directory).unwrap();
        assert!(!has());
        let file = directory.join("profiles.d/qemu.toml");
        fs::write(directory.join("profiles.d"), "no directory").unwrap();
        assert!(!has());
        fs::remove_file(directory.join("profiles.d")).unwrap();
        fs::create_dir(directory.join("profiles.d")).unwrap();
        symlink("qemu.toml", &file).unwrap(); // A circle, which cannot be looked at.
        assert!(has());
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
        assert!(has());
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_body_that_cannot_be_read_touches_every_stamp_and_makes_none() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Root::open(scratch.path()).unwrap();
    let body = scratch.path().join("body");
    let wrong: [&dyn Fn(); 3] = [&|| {}, &|| fs::write(&body, "--profile").unwrap(), &|| {
        fs::write(&body, vec![b' '; 1 << 20]).unwrap()
    }];
    for prepare in wrong {
        prepare();
        let _ = fs::remove_dir_all(scratch.path().join("var"));
        let mut read = Body::read(Some(body.clone().into()));
        assert_eq!(read.profiles(&root), [""; 0]);
        let is_no_error = |warnings: &[String]| !warnings.concat().contains("read the directory");
        assert!(is_no_error(&read.warnings), "{:?}", read.warnings);
        fs::create_dir(scratch.path().join("var")).unwrap();
        fs::write(scratch.path().join("var/lib"), "no directory").unwrap();
        let mut read = Body::read(Some(body.clone().into()));
        assert_eq!(read.profiles(&root), [""; 0]);
        assert!(!is_no_error(&read.warnings), "{:?}", read.warnings);
        fs::remove_file(scratch.path().join("var/lib")).unwrap();
        for profile in ["gstreamer", "nbdkit"] {
            let stamp = Stamp::system(&root, profile).unwrap();
            stamp.touch("a test", "", Durability::NotSynced).unwrap();
        }
        let mut read = Body::read(Some(body.clone().into()));
        let mut profiles = read.profiles(&root);
        profiles.sort();
        assert_eq!(profiles, ["gstreamer", "nbdkit"]);
        assert_eq!(read.directories, [Path::new("/")], "any path touches");
        let text = read.warnings.join("\n");
        assert!(
            text.contains("so every stamp in /var/lib/modstamp is touched"),
            "{text}"
        );
    }
}

#[test]
fn a_held_lock_holds_a_trigger_up_for_no_longer_than_the_bound() {
    // It takes two turns: one for the stamp and one for libvirt.
    let host = Host::new();
    warnings(host.output(&["touch"]));
    let (lock, before, start) = (held(&host.path("")), mtime(&host), Instant::now());
    let text = warnings(host.output(&["trigger", "dpkg", "/usr/lib64/qemu"]));
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
    assert!(mtime(&host) > before);
    let path = host.path(LOCK);
    let sentence = format!("warning: cannot lock {}: timed out; ", path.display());
    assert!(
        text.contains(&sentence) && text.contains("lslocks(8)"),
        "{text}"
    );
    drop(lock);
}

#[test]
fn a_list_that_comes_slowly_or_without_an_end_is_taken_for_a_change() {
    let never = |_: &Path| false;
    let bound = Duration::from_millis(500);
    let begin = Instant::now();
    let endless = File::open("/dev/zero").unwrap();
    let cause = trigger::read_paths(never, endless, Deadline::after(bound));
    assert!(matches!(cause, Some(Cause::Unknown(_))), "{cause:?}");
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while rustix::io::write(&writer, b"/etc/a\n").is_ok() {
                std::thread::sleep(bound / 5);
            }
        });
        let cause = trigger::read_paths(never, reader, Deadline::after(bound));
        assert!(matches!(cause, Some(Cause::Unknown(_))), "{cause:?}");
    });
    assert!(begin.elapsed() < BOUND);
}

#[test]
fn a_trigger_ends_and_touches_whatever_its_standard_input_does() {
    let world = kept();
    let before = mtime(&world);
    let begin = Instant::now();
    let mut slow = start(&world, Stdio::piped());
    let mut pipe = slow.stdin.take().unwrap();
    let endless = start(&world, File::open("/dev/zero").unwrap());
    while slow.try_wait().unwrap().is_none() && begin.elapsed() < BOUND {
        let _ = pipe.write_all(b"/etc/a\n");
        std::thread::sleep(Duration::from_millis(100));
    }
    for child in [slow, endless] {
        let text = warnings(child.wait_with_output().unwrap());
        let sentence = "touching the stamp to be safe: the list of changed paths did not end";
        assert!(text.contains(sentence), "{text}");
    }
    assert!(begin.elapsed() < BOUND, "{:?}", begin.elapsed());
    assert!(mtime(&world) > before);
}

#[test]
fn the_limit_of_file_sizes_ends_no_trigger_and_the_stamp_moves() {
    let world = kept();
    let log = world.beside("log");
    fs::write(&log, "a log of before\n").unwrap();
    for blocks in [0, 1] {
        let before = mtime(&world);
        // The warnings go to a file, too.
        let script =
            r#"exec 2>>"$1"; ulimit -f "$2"; exec "$0" trigger dpkg /usr/lib64/qemu --root "$3""#;
        let status = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_modstamp")])
            .arg(&log)
            .arg(blocks.to_string())
            .arg(world.path(""))
            .status();
        assert_eq!(status.unwrap().code(), Some(0));
        assert!(mtime(&world) > before, "with {blocks} blocks");
    }
}

#[test]
fn the_limit_of_file_sizes_costs_nobody_an_answer_of_a_command() {
    let world = kept();
    let script = r#"ulimit -f 0; exec "$0" run --profile qemu --root "$1" --cache "$2" -- echo an answer | cat"#;
    let output = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_modstamp")])
        .args([world.path(""), world.beside("cache")])
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"an answer\n", "{err}");
}

/// Each time of a watched stamp, whenever it is another one than before.
fn watch(stamp: &Stamp, is_over: &AtomicBool) -> Vec<Mtime> {
    let mut seen = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        seen.extend(stamp.mtime().unwrap());
        seen.dedup();
    }
    seen
}

/// Sixty-four threads touch while the lock is held. The clock is far behind, so that all of them
/// reckon from the same time.
#[test]
fn touches_without_the_lock_bring_no_time_back_and_the_last_is_the_latest() {
    let scratch = tempfile::tempdir().unwrap();
    let root = Root::open(scratch.path()).unwrap();
    let stamp = &Stamp::system(&root, "qemu").unwrap();
    stamp.touch("a test", "", Durability::NotSynced).unwrap();
    filetime::set_file_mtime(stamp.path(), FileTime::from_unix_time(4_000_000_000, 0)).unwrap();
    let _lock = held(scratch.path());
    let is_over = &AtomicBool::new(false);
    let touch = || {
        let (deadline, warnings) = (Deadline::after(Duration::ZERO), &mut Vec::new());
        let mtime = stamp.touch_by("a test", "", Durability::NotSynced, deadline, warnings);
        assert_eq!(warnings.len(), 1);
        mtime.unwrap().unwrap()
    };
    let (left, seen) = std::thread::scope(|scope| {
        let readers = [(); 2].map(|()| scope.spawn(|| watch(stamp, is_over)));
        let often = || (0..20).map(|_| touch()).collect::<Vec<_>>();
        let touchers: Vec<_> = (0..64).map(|_| scope.spawn(often)).collect();
        let left = touchers.into_iter().flat_map(|it| it.join().unwrap());
        let left: Vec<Mtime> = left.collect();
        is_over.store(true, Ordering::Relaxed);
        (left, readers.map(|reader| reader.join().unwrap()))
    });
    let different: HashSet<Mtime> = left.iter().copied().collect();
    assert_eq!(
        different.len(),
        left.len(),
        "two touches left the same time"
    );
    for seen in &seen {
        let different: HashSet<Mtime> = seen.iter().copied().collect();
        assert_eq!(different.len(), seen.len(), "a time came back");
    }
    let latest = left.iter().chain(seen.iter().flatten()).max();
    assert_eq!(stamp.mtime().unwrap().as_ref(), latest);
}
