//! A refresh and an eviction name everything that they leave undone.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use support::libvirt::{ARM, DRIVER, FOREIGN, Host, RECORD, SYSTEM, WATCHED, X86};

/// The programs of the profile `qemu`, in the root.
const PROGRAMS: [&str; 2] = ["usr/bin", "usr/libexec"];

fn without_programs() -> Host {
    let host = Host::new();
    for programs in PROGRAMS {
        fs::remove_dir_all(host.path(programs)).unwrap();
    }
    host
}

#[test]
fn a_refresh_that_moved_nothing_fails_and_says_why() {
    // Others can write the directory, and no program stands in for it.
    let host = without_programs();
    host.set_permissions(WATCHED, 0o777);
    let (out, err) = host.fail(&["libvirt", "refresh"]);
    let sentence = format!(
        "modstamp: warning: cannot make libvirt ask again by the mtime or ctime of /{WATCHED}: \
         /{WATCHED} can be written by every user; run “modstamp libvirt refresh” when that is over\n"
    );
    assert_eq!((&*out, err), ("", sentence));
    // The next update tries again, because the record knows it.
    host.set_permissions(WATCHED, 0o755);
    let (out, err) = host.say(&["update"]);
    assert!(
        out.contains(&format!("moved the time of /{WATCHED}\n")),
        "{out}"
    );
    assert_eq!(err, "");
}

#[test]
fn a_refresh_of_which_no_record_can_be_kept_fails_and_says_why() {
    let host = Host::new();
    fs::remove_dir_all(host.path("var/lib/modstamp")).unwrap();
    host.write("var/lib/modstamp", "no directory");
    let (_, err) = host.fail(&["libvirt", "refresh"]);
    assert!(err.contains("/var/lib/modstamp"), "{err}");
    host.remove("var/lib/modstamp");
    host.refresh();
}

#[test]
fn an_eviction_removes_every_file_however_many_there_are() {
    let host = Host::new();
    for number in 0..3000 {
        host.write(&format!("{SYSTEM}/{number}.xml"), "");
    }
    host.ask(X86);
    let odd = host.path(SYSTEM).join(OsStr::from_bytes(b"\xff\x1b.xml"));
    fs::write(&odd, "").unwrap();
    let other = host.path(SYSTEM).join("a.txt");
    fs::write(&other, "").unwrap();
    assert_eq!(host.rows(&[]).len(), 3002);
    let (out, err) = host.say(&["libvirt", "evict", "--all"]);
    assert_eq!((out.lines().count(), &*err), (3002, ""));
    let left: Vec<_> = fs::read_dir(host.path(SYSTEM)).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert!(other.exists());
}

#[test]
fn an_eviction_that_leaves_some_files_removes_the_others_and_names_each_that_is_left() {
    let host = Host::new();
    for number in 0..1200 {
        fs::create_dir(host.path(&format!("{SYSTEM}/{number}.xml"))).unwrap();
    }
    let files = [X86, ARM].map(|program| host.ask(program));
    let (out, err) = host.fail(&["libvirt", "evict", "--all"]);
    assert_eq!((out.lines().count(), err.lines().count()), (2, 1200));
    for number in 0..1200 {
        let sentence = format!("cannot remove libvirt's cache file /{SYSTEM}/{number}.xml: ");
        assert!(err.contains(&sentence), "{number}");
    }
    assert!(files.iter().all(|file| !host.path(file).exists()));
}

fn now() -> i64 {
    let time = std::time::SystemTime::now();
    let time = time.duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(time.as_secs()).unwrap()
}

#[test]
fn a_last_second_far_ahead_of_all_else_is_told_and_not_followed() {
    const CENTURIES: i64 = 9_000_000_000;
    let host = Host::new();
    let mut last = host.refresh();
    let old = fs::read(host.path(RECORD)).unwrap();
    for text in [&old[..], b"torn"] {
        fs::write(host.path(RECORD), text).unwrap();
        host.set_mtime(RECORD, CENTURIES);
        let (out, err) = host.say(&["libvirt", "refresh"]);
        let sentence = format!(
            "modstamp: warning: the record /{RECORD} has the time {CENTURIES}, which is far ahead of the clock; \
             it is not followed, and the record gets a new time\n"
        );
        assert_eq!(err, sentence);
        let moved = host.mtime(WATCHED);
        assert!(last < moved && moved < now() + 60, "{moved} after {last}");
        // The second may be one of before the damage, so the programs are moved as well.
        assert!(
            out.contains(&format!("moved the ctime of {X86}\n")),
            "{out}"
        );
        host.ask(X86);
        assert_eq!(host.words(X86), "fresh");
        last = host.refresh();
        assert!(moved < last && last < now() + 60, "{last} after {moved}");
    }
}

#[test]
fn a_second_far_ahead_that_a_refresh_left_is_followed_after_the_clock_went_back() {
    const AHEAD: i64 = 4_000_000_000;
    let host = Host::new();
    host.set_mtime(WATCHED, AHEAD);
    assert_eq!(host.refresh(), AHEAD + 1);
    host.set_mtime(WATCHED, 1_600_000_000);
    assert_eq!(
        host.refresh(),
        AHEAD + 2,
        "the record tells it by its text, too"
    );
}

/// A ctime cannot be chosen, so the next update has to move it.
#[test]
fn a_transaction_never_waits_for_the_next_second() {
    let host = Host::new();
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    let fired = format!("/{WATCHED}");
    let said = (0..20).map(|_| {
        // The trigger comes within the second of this change, unless the machine is very slow.
        host.set_permissions(&X86[1..], 0o755);
        host.say(&["trigger", "dpkg", &fired]).1
    });
    let mut said = said.filter(|said| said.contains("this very second"));
    let said = said
        .next()
        .expect("a trigger waited for the next second each time");
    let sentence = ": its ctime is of this very second, and a transaction does not wait; \
                    run “modstamp libvirt refresh” when that is over\n";
    assert!(said.ends_with(sentence), "{said}");
    let (out, err) = host.say(&["update"]);
    assert!(
        out.contains(&format!("moved the ctime of {X86}\n")),
        "{out}"
    );
    assert_eq!(err, "");
}

#[test]
fn a_change_that_was_undone_is_told_in_a_directory_that_libvirt_does_not_watch() {
    let module_file = format!("{FOREIGN}/pxe.so");
    let module = format!("stale: module pxe.so in /{FOREIGN} not known: touched");
    let directory = format!("stale: module directory /{FOREIGN} not known: touched");
    let changes = [
        (
            format!(": > {module_file}; printf 'a module' > {module_file}"),
            module,
        ),
        (format!("touch {FOREIGN}/new; rm {FOREIGN}/new"), directory),
    ];
    for (change, culprit) in changes {
        let host = Host::new();
        host.sh(&format!("touch -d yesterday {module_file} {FOREIGN}"));
        host.settle();
        host.refresh();
        host.ask(X86);
        assert_eq!(host.words(X86), "fresh");
        host.sh(&change);
        let told = host.words(X86);
        assert!(told.starts_with(&culprit), "{told}");
        host.say(&["update"]);
        host.ask(X86);
        assert_eq!(host.words(X86), "fresh");
    }
}

#[test]
fn a_trigger_also_moves_what_libvirt_watches_if_the_record_is_lost() {
    let host = Host::new();
    let fired = format!("/{FOREIGN}");
    let is_moved = || {
        host.set_mtime(WATCHED, 1_600_000_000);
        assert_eq!(host.say(&["trigger", "dpkg", &fired]).1, "");
        host.mtime(WATCHED) > 1_600_000_000
    };
    host.refresh();
    for loss in ["", "torn"] {
        host.write(RECORD, loss);
        assert!(is_moved(), "{loss:?}");
        assert!(is_moved(), "after {loss:?}");
    }
}

/// Waits until a change leaves another ctime, in seconds, than one of before.
fn leave_second() {
    std::thread::sleep(Duration::from_millis(1100));
}

fn ctime_of(host: &Host, program: &str) -> i64 {
    fs::metadata(host.path(&program[1..])).unwrap().ctime()
}

#[test]
fn a_trigger_reaches_a_libvirt_that_came_after_the_last_refresh() {
    let host = Host::new();
    let fired = format!("/{WATCHED}");
    host.refresh();
    leave_second();
    let before = ctime_of(&host, X86);
    let fire = || assert_eq!(host.say(&["trigger", "dpkg", &fired]).1, "");
    fire();
    assert_eq!(ctime_of(&host, X86), before, "the known libvirt watches it");
    // Like one before 6.8, this libvirt watches no directory.
    let driver = DRIVER.replace("usr/lib/", "usr/local/lib/");
    assert_ne!(driver, DRIVER);
    fs::create_dir_all(host.path(&driver).parent().unwrap()).unwrap();
    host.write(&driver, "a driver");
    fire();
    assert!(ctime_of(&host, X86) > before);
}

#[test]
fn a_refresh_without_the_lock_is_told_and_goes_by_the_programs_too() {
    let host = Host::new();
    host.refresh();
    let path = "var/lib/modstamp/.qemu.lock";
    let lock = File::open(host.path(path)).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (out, err) = host.say(&["libvirt", "refresh"]);
    let sentence = format!("modstamp: warning: cannot lock /{path}: timed out; modstamp went on");
    assert!(err.starts_with(&sentence), "{err}");
    let moved = format!("moved the ctime of {X86}\n");
    assert!(out.contains(&moved), "{out}");
}

#[test]
fn a_touch_that_refreshes_without_the_lock_tells_it_once() {
    let host = Host::new();
    host.refresh();
    let lock = File::open(host.path("var/lib/modstamp/.qemu.lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (_, err) = host.say(&["touch"]);
    assert_eq!(err.matches("cannot lock ").count(), 1, "{err}");
}

#[test]
fn a_transaction_reads_no_program() {
    let host = Host::new();
    let program = File::open(host.path(&X86[1..])).unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(26 * 60 * 60);
    let times = fs::FileTimes::new().set_accessed(yesterday);
    program.set_times(times).unwrap();
    host.settle();
    host.say(&["update"]);
    let last_read = || program.metadata().unwrap().accessed().unwrap();
    let before = last_read();
    assert_ne!(before, yesterday, "the update read it");
    // The programs stand in for the directory that libvirt watches.
    fs::remove_dir_all(host.path(WATCHED)).unwrap();
    let changed = ctime_of(&host, X86);
    assert_eq!(host.say(&["trigger", "dpkg", &format!("/{WATCHED}")]).1, "");
    assert!(ctime_of(&host, X86) > changed);
    // The first read after a change leaves another time (relatime, mount(8)).
    assert_eq!(last_read(), before, "the trigger read {X86}");
}

#[test]
fn a_record_that_is_a_file_of_roots_by_another_name_is_left_as_it_is() {
    let host = Host::new();
    host.refresh();
    host.write("private", "root's own");
    host.set_permissions("private", 0o600);
    host.remove(RECORD);
    fs::hard_link(host.path("private"), host.path(RECORD)).unwrap();
    host.set_permissions("var/lib/modstamp", 0o1777);
    let modified = || fs::metadata(host.path("private")).unwrap().modified();
    let before = modified().unwrap();
    leave_second();
    host.say(&["libvirt", "refresh"]);
    assert_eq!(modified().unwrap(), before);
    assert!(fs::read(host.path(RECORD)).unwrap().starts_with(b"version"));
}

#[test]
fn an_answer_that_others_could_have_written_is_not_read() {
    let host = Host::new();
    host.refresh();
    let file = host.ask(X86);
    assert_eq!(host.words(X86), "fresh");
    host.set_permissions(&file, 0o666);
    let row = &host.rows(&[])[0];
    let told = row["modstamp"]["reasons"].to_string();
    assert!(told.contains("it can be written by every user"), "{row:#}");
}

#[test]
fn a_libvirt_that_cannot_be_looked_for_is_told_and_reached_by_the_programs() {
    let host = Host::new();
    host.say(&["update"]);
    // A name of 300 bytes is too long, so a look at the driver fails.
    let driver = host.path(DRIVER);
    let below = driver.parent().unwrap();
    let away = below.with_extension("away");
    fs::rename(below, &away).unwrap();
    std::os::unix::fs::symlink("x".repeat(300), below).unwrap();
    // The programs were written in another second.
    leave_second();
    let (_, err) = host.say(&["touch"]);
    let sentence = format!("modstamp: warning: cannot look for libvirt's driver in /{DRIVER}: ");
    assert!(err.starts_with(&sentence), "{err}");
    let (out, err) = host.say(&["libvirt", "refresh"]);
    assert!(err.starts_with(&sentence), "{err}");
    assert!(
        out.contains(&format!("moved the ctime of {X86}\n")),
        "{out}"
    );
    // A place that stays out of sight costs no refresh at each update.
    host.say(&["update"]);
    let (out, err) = host.say(&["update"]);
    assert!(!out.contains("moved"), "{out}");
    assert_eq!(err, "");
}
