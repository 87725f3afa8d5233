//! The bound of a cache: 256 MiB of answers, of which the oldest go first. These tests need nothing.

use std::fs::{self, File, FileTimes};
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};

use crate::run::World;

const MIB: u64 = 1 << 20;

impl World {
    /// Keeps something large that begins like an answer, with a lock. The file has a hole.
    fn keep(&self, name: &str, mib: u64, age: u64) {
        fs::create_dir_all(self.path("cache")).unwrap();
        fs::set_permissions(self.path("cache"), fs::Permissions::from_mode(0o700)).unwrap();
        for name in [name, &lock(name)] {
            let mut file = File::create(self.path(&format!("cache/{name}"))).unwrap();
            if !name.starts_with('.') {
                file.write_all(b"modstamp-cache ").unwrap();
            }
            file.set_permissions(fs::Permissions::from_mode(0o600))
                .unwrap();
            let time = SystemTime::now() - Duration::from_secs(age);
            file.set_len(if name.starts_with('.') { 0 } else { mib * MIB })
                .unwrap();
            file.set_times(FileTimes::new().set_modified(time)).unwrap();
        }
    }

    /// The names in the cache, but for those of the answer that was just asked.
    fn names(&self, but: &[String]) -> Vec<String> {
        let names = fs::read_dir(self.path("cache")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !but.contains(name)).collect();
        names.sort();
        names
    }
}

fn lock(name: &str) -> String {
    format!(".{name}.modstamp-lock")
}

/// Takes a lock as a caller does, for as long as the result is there.
fn hold(lock: &Path) -> File {
    let file = File::open(lock).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

/// Whether a process waits for the lock (proc_locks(5)).
fn is_waited_for(lock: &Path, process: u32) -> bool {
    let inode = format!(":{} ", fs::metadata(lock).unwrap().ino());
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let process = format!(" {process} ");
    let mut waiting = locks.lines().filter(|line| line.contains(" -> FLOCK "));
    waiting.any(|line| line.contains(&inode) && line.contains(&process))
}

fn wait_until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never comes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A world whose question was asked, and the names of that answer and its lock.
fn asked() -> (World, Vec<String>) {
    let world = World::new();
    world.ask();
    let names = world.names(&[]);
    assert_eq!(names.len(), 2);
    (world, names)
}

/// Has the question's answer kept anew.
fn ask_anew(world: &World) {
    let gtk = world.path("usr/lib64/qemu/gtk.so");
    match gtk.exists() {
        true => fs::remove_file(gtk).unwrap(),
        false => fs::write(gtk, "").unwrap(),
    }
    assert!(world.ask().1.starts_with("modstamp: asked again: "));
}

const OLD: &str = "00000000000000f0";
const MIDDLE: &str = "000000000000000f";
const YOUNG: &str = "f000000000000000";

#[test]
fn the_oldest_answers_make_room_for_a_new_one_with_their_locks() {
    let (world, own) = asked();
    world.keep(YOUNG, 100, 10);
    world.keep(OLD, 100, 30);
    world.keep(MIDDLE, 100, 20);
    world.ask(); // A hit makes no room.
    assert_eq!(world.names(&own).len(), 6);
    ask_anew(&world);
    assert_eq!(
        world.names(&own),
        [lock(MIDDLE), lock(YOUNG), MIDDLE.into(), YOUNG.into()]
    );
    ask_anew(&world);
    assert_eq!(world.names(&own).len(), 4, "there is room");
    world.keep(OLD, 300, 0);
    ask_anew(&world);
    assert_eq!(world.names(&own), [""; 0]);
    assert!(world.ask().1.contains("served from the cache"));
}

#[test]
fn an_answer_larger_than_the_cache_is_passed_on_whole_and_not_kept() {
    let (world, own) = asked();
    world.keep(OLD, 100, 30);
    world.command("head -c 300M /dev/zero");
    let mut child = world
        .run()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut length, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        match out.read(&mut buffer).unwrap() {
            0 => break,
            count => length += count as u64,
        }
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!((length, output.status.code()), (300 * MIB, Some(0)));
    let text = String::from_utf8(output.stderr).unwrap();
    let why = "not kept: the answer is larger than 256 MiB, the most that the cache holds\n";
    assert!(text.ends_with(why), "{text}");
    assert_eq!(world.names(&own), [lock(OLD), OLD.into()]);
}

#[test]
fn an_answer_stays_while_somebody_asks_its_question() {
    let (world, own) = asked();
    world.keep(OLD, 200, 30);
    world.keep(YOUNG, 200, 10);
    let _held = hold(&world.path(&format!("cache/{}", lock(OLD))));
    ask_anew(&world);
    assert_eq!(world.names(&own), [lock(OLD), OLD.into()]);
}

#[test]
fn a_lock_without_an_answer_goes_unless_somebody_holds_it() {
    let (world, own) = asked();
    for name in [OLD, YOUNG] {
        world.keep(name, 0, 0);
        fs::remove_file(world.path(&format!("cache/{name}"))).unwrap();
    }
    let _held = hold(&world.path(&format!("cache/{}", lock(OLD))));
    ask_anew(&world);
    assert_eq!(world.names(&own), [lock(OLD)]);
}

#[test]
fn a_file_that_others_could_have_written_neither_counts_nor_goes() {
    let (world, own) = asked();
    world.keep(OLD, 10_000, 30);
    world.keep(YOUNG, 100, 10);
    let open = fs::Permissions::from_mode(0o622);
    fs::set_permissions(world.path(&format!("cache/{OLD}")), open).unwrap();
    fs::write(world.path("cache/another file"), "").unwrap();
    ask_anew(&world);
    assert_eq!(world.names(&own).len(), 5);
}

#[test]
fn a_file_of_the_caller_s_own_neither_counts_nor_goes_whatever_its_name() {
    let (world, own) = asked();
    let foreign = "0123456789abcdef";
    world.keep(foreign, 0, 30);
    let mut file = File::create(world.path(&format!("cache/{foreign}"))).unwrap();
    file.write_all(b"a disk image").unwrap();
    file.set_len(300 * MIB).unwrap();
    let locks = [&lock("0123456789ABCDEF"), &lock("0123")];
    for name in locks {
        fs::write(world.path(&format!("cache/{name}")), "").unwrap();
    }
    world.keep(OLD, 100, 20);
    ask_anew(&world);
    let names = world.names(&own);
    assert_eq!(names.len(), 6, "{names:?}");
    world.keep(YOUNG, 200, 10);
    ask_anew(&world);
    let names = world.names(&own);
    assert!(!names.contains(&OLD.to_owned()), "{names:?}");
    assert!(names.contains(&foreign.to_owned()), "{names:?}");
}

#[test]
fn a_caller_whose_lock_was_removed_waits_for_the_next_one() {
    let (world, own) = asked();
    let lock = own.iter().find(|name| name.starts_with('.')).unwrap();
    let lock = world.path(&format!("cache/{lock}"));
    let held = hold(&lock);
    fs::write(world.path("usr/lib64/qemu/gtk.so"), "").unwrap();
    world.command("until test -e $ROOT/go; do sleep 0.01; done; echo answer");
    let start = || {
        let mut run = world.run();
        run.stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let before = world.count();
    let first = start();
    wait_until(|| is_waited_for(&lock, first.id()));
    fs::remove_file(&lock).unwrap();
    let second = start();
    wait_until(|| world.count() > before);
    // The first gets the lock that is gone, and has to wait for the one that the second holds.
    drop(held);
    wait_until(|| is_waited_for(&lock, first.id()));
    fs::write(world.path("go"), "").unwrap();
    for child in [first, second] {
        assert_eq!(child.wait_with_output().unwrap().stdout, b"answer\n");
    }
    assert_eq!(world.count(), before + 1);
}
