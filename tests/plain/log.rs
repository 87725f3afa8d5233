//! The log beside a stamp, and `modstamp log`.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use modstamp::{Durability, Owner, Root, Stamp};
use serde_json::Value;
use support::libvirt::{Host, WATCHED, X86};
use support::world::{GTK, World};

const LOG: &str = "var/lib/modstamp/qemu.log";

/// The longest log, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// Standard output and error of a command that has to succeed.
#[track_caller]
fn say(world: &World, arguments: &[&str]) -> (String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = world.output(arguments);
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(status.success(), "{arguments:?}: {out}{err}");
    (out, err)
}

#[track_caller]
fn touch(world: &World, why: &str) {
    let (_, err) = say(world, &["touch", "--reason", why]);
    assert_eq!(err, "");
}

/// The lines of `modstamp log --json`, with further arguments.
#[track_caller]
fn lines(world: &World, arguments: &[&str]) -> Vec<Value> {
    let (out, err) = say(world, &[&["log", "--json"], arguments].concat());
    assert_eq!(err, "");
    let lines = out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn reasons(world: &World) -> Vec<String> {
    let lines = lines(world, &[]).into_iter();
    lines
        .map(|line| line["why"].as_str().unwrap().to_owned())
        .collect()
}

/// A world for tests that do not concern libvirt.
fn quiet() -> World {
    World::prepared(|world| {
        world.write(
            "etc/modstamp/profiles.d/qemu.toml",
            "refresh-libvirt = false",
        );
    })
}

#[test]
fn each_touch_update_refresh_and_eviction_is_told_with_what_followed() {
    let host = Host::new();
    host.settle();
    host.ask(X86);
    host.say(&["touch", "--reason", "a new module"]);
    host.say(&["trigger", "dpkg", "/usr/lib64/qemu"]);
    host.write(GTK, "another");
    host.say(&["update"]);
    host.say(&["libvirt", "refresh"]);
    host.ask(X86);
    host.say(&["libvirt", "evict", "--all"]);
    let (out, _) = host.say(&["log", "--json"]);
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let words = |key: &str| -> Vec<&str> {
        let words = lines.iter().map(|line| line[key].as_str().unwrap());
        words.collect()
    };
    assert_eq!(
        words("verb"),
        ["touch", "trigger", "update", "refresh", "evict"]
    );
    assert_eq!(words("by")[1], "dpkg");
    assert_eq!(
        words("why"),
        [
            "a new module",
            "something in /usr/lib64/qemu came, went or was replaced",
            "module ui-gtk.so in /usr/lib64/qemu changed: its size was 8 bytes, now 7 bytes",
            "asked for",
            "asked to remove all",
        ]
    );
    let moved = format!("moved the time of /{WATCHED}");
    let followed = |line: &Value| -> Vec<String> {
        let facts = line["followed"].as_array().unwrap().iter();
        let top = host.path("").display().to_string();
        facts
            .map(|fact| fact.as_str().unwrap().replace(&top, "/"))
            .collect()
    };
    // The trigger named a directory that libvirt does not watch.
    let named = "moved the time of /usr/lib64/qemu and 1 more";
    for (line, moved) in lines.iter().zip([&moved, named, &moved]) {
        let facts = ["touched the stamp", "any libvirt probes again", moved];
        assert_eq!(followed(line), facts, "{line}");
    }
    assert_eq!(followed(&lines[3]), ["any libvirt probes again", &moved]);
    let evicted = &followed(&lines[4])[0];
    assert!(
        evicted.starts_with("removed ") && evicted.contains(".xml"),
        "{evicted}"
    );
    for line in &lines {
        assert_eq!(
            (&line["version"], &line["owner"]),
            (&1.into(), &"system".into())
        );
        assert_eq!(line["profile"], "qemu");
        assert!(line["duration_us"].is_u64(), "{line}");
    }
}

#[test]
fn an_update_that_finds_nothing_and_an_image_build_add_no_line() {
    let world = quiet();
    world.settle();
    touch(&world, "first");
    for _ in 0..3 {
        say(&world, &["update"]);
    }
    let mut build = world.modstamp(&["touch", "--reason", "of an image"]);
    let output = build.env("SOURCE_DATE_EPOCH", "1700000000").output();
    assert!(output.unwrap().status.success());
    assert_eq!(reasons(&world), ["first"]);
}

#[test]
fn a_touch_that_failed_is_told_with_its_cause() {
    let world = quiet();
    world.sh("rm var/lib/modstamp/qemu.stamp; mkdir var/lib/modstamp/qemu.stamp");
    assert_eq!(world.output(&["touch"]).status.code(), Some(1));
    let line = &lines(&world, &[])[0];
    let followed = line["followed"][0].as_str().unwrap();
    assert!(followed.starts_with("error: the stamp "), "{line}");
}

#[test]
fn a_touch_by_a_program_is_told_and_so_is_that_of_a_user_s_own_stamp() {
    let world = quiet();
    let root = Root::open(&world.path("")).unwrap();
    let stamp = Stamp::system(&root, "thumbnails").unwrap();
    stamp
        .touch("a program", "why\tnot\n", Durability::NotSynced)
        .unwrap();
    world.sh("mkdir -p home/me/.local/state/modstamp");
    world.sh("mv var/lib/modstamp/thumbnails.log home/me/.local/state/modstamp/own.log");
    stamp
        .touch("a program", "second", Durability::NotSynced)
        .unwrap();
    assert_eq!(stamp.owner(), Owner::System);
    let mut log = world.modstamp(&["log"]);
    log.env("HOME", "/home/me").env_remove("XDG_STATE_HOME");
    let out = String::from_utf8(log.output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    let own = " own (your own): touch by a program (why not ), ";
    assert!(lines[0].contains(own), "{out}");
    assert!(
        lines[1].contains(" thumbnails: touch by a program (second), "),
        "{out}"
    );
}

#[test]
fn everybody_may_read_the_log() {
    let world = quiet();
    world.sh(&format!(
        "umask 077; {} touch --root .",
        support::program("modstamp").display()
    ));
    let mode = fs::metadata(world.path(LOG)).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o644);
}

#[test]
fn a_torn_line_is_skipped_and_the_next_event_begins_a_new_one() {
    let world = quiet();
    touch(&world, "first");
    let whole = fs::read(world.path(LOG)).unwrap();
    for torn in [whole.len() - 1, whole.len() - 3, whole.len() / 2, 1] {
        fs::write(world.path(LOG), [&*whole, &whole[..torn]].concat()).unwrap();
        assert_eq!(reasons(&world), ["first"], "{torn}");
        touch(&world, "second");
        let reasons = reasons(&world);
        // Only the newline was lost.
        let is_whole = torn == whole.len() - 1;
        let expected: &[&str] = match is_whole {
            true => &["first", "first", "second"],
            false => &["first", "second"],
        };
        assert_eq!(reasons, expected, "{torn}");
    }
    let zeros = [&*whole, &[0; 100]].concat();
    fs::write(world.path(LOG), zeros).unwrap();
    touch(&world, "second");
    assert_eq!(reasons(&world), ["first", "second"]);
}

#[test]
fn the_log_stays_small_and_keeps_the_newer_lines() {
    let world = quiet();
    let root = Root::open(&world.path("")).unwrap();
    let stamp = Stamp::system(&root, "qemu").unwrap();
    let long = "x".repeat(400);
    let mut largest = 0;
    for number in 0..500 {
        let why = format!("{number} {long}");
        stamp.touch("a test", &why, Durability::NotSynced).unwrap();
        largest = largest.max(fs::metadata(world.path(LOG)).unwrap().len());
    }
    assert!(
        largest <= MOST_BYTES && largest > MOST_BYTES / 2,
        "{largest}"
    );
    let reasons = reasons(&world);
    assert!(reasons.len() > 50, "{}", reasons.len());
    let first = 500 - reasons.len();
    for (number, why) in (first..500).zip(&reasons) {
        assert!(why.starts_with(&format!("{number} ")), "{number}: {why}");
    }
    // Not even one that something else let grow.
    fs::write(world.path(LOG), "\n".repeat(4 << 20)).unwrap();
    touch(&world, "last");
    assert!(fs::metadata(world.path(LOG)).unwrap().len() <= MOST_BYTES);
    assert_eq!(self::reasons(&world), ["last"]);
}

#[test]
fn whatever_stands_in_the_log_s_place_is_replaced_and_nothing_is_written_through_it() {
    let world = quiet();
    let outside = world.beside("outside");
    let plants = [
        format!("ln -s {} {LOG}", outside.display()),
        format!("ln -s nowhere {LOG}"),
        format!("mkfifo {LOG}"),
        format!("mkdir {LOG}"),
        format!("echo 1 > {LOG}; chmod 666 {LOG}"),
        format!("ln {} {LOG}", outside.display()),
    ];
    fs::write(&outside, "kept\n").unwrap();
    for plant in plants {
        world.sh(&format!("rm -rf {LOG}; {plant}"));
        let begun = Instant::now();
        touch(&world, &plant);
        assert!(begun.elapsed() < Duration::from_secs(30), "{plant}");
        let stat = fs::symlink_metadata(world.path(LOG)).unwrap();
        assert!(stat.is_file() && stat.mode() & 0o7777 == 0o644, "{plant}");
        assert_eq!(lines(&world, &[]).len(), 1, "{plant}");
        assert_eq!(fs::read_to_string(&outside).unwrap(), "kept\n", "{plant}");
    }
}

#[test]
fn a_log_that_cannot_be_written_is_a_warning_and_the_stamp_is_touched() {
    let world = quiet();
    world.sh("mkdir -p var/lib/modstamp/.qemu.log.new/full");
    let before = fs::metadata(world.path("var/lib/modstamp/qemu.stamp")).unwrap();
    for arguments in [&["touch"][..], &["trigger", "dpkg"]] {
        let (_, err) = say(&world, arguments);
        let start = "modstamp: warning: cannot write to the log ";
        assert!(err.starts_with(start) && err.lines().count() == 1, "{err}");
        assert!(err.ends_with("; make it writable; “modstamp log” lacks this event\n"));
    }
    let after = fs::metadata(world.path("var/lib/modstamp/qemu.stamp")).unwrap();
    assert_ne!((before.mtime(), before.ino()), (after.mtime(), after.ino()));
}

#[test]
fn a_log_that_others_could_have_written_is_not_believed() {
    let world = quiet();
    touch(&world, "mine");
    let path = world.path(LOG);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let output = world.output(&["log"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(
        err.starts_with("modstamp: refused to read the log "),
        "{err}"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_directory_that_others_can_write_is_not_listed_and_hides_no_other_log() {
    let world = quiet();
    touch(&world, "mine");
    world.sh("mkdir -p home/me/.local/state/modstamp");
    world.sh("cd home/me/.local/state/modstamp; touch a.log b.log c.log; chmod 777 .");
    for arguments in [&["log"][..], &["log", "--profile", "qemu"]] {
        let mut log = world.modstamp(arguments);
        let log = log.env("HOME", "/home/me").env_remove("XDG_STATE_HOME");
        let output = log.output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        assert_eq!(output.status.code(), Some(1), "{out}{err}");
        assert!(out.contains("(mine)"), "{out}{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        let problem = "state/modstamp can be written by every user";
        assert!(err.contains(problem), "{err}");
    }
}

#[test]
fn more_logs_than_are_shown_are_told_in_one_sentence() {
    let world = quiet();
    touch(&world, "mine");
    for number in 0..1002 {
        world.write(&format!("var/lib/modstamp/p{number}.log"), "");
    }
    let output = world.output(&["log"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    let sentence = "modstamp: there are more than 1000 logs, and the others are not shown; \
                    name one with “--profile”\n";
    assert_eq!(err, sentence);
    assert_eq!(lines(&world, &["--profile", "qemu"]).len(), 1);
}

#[test]
fn the_log_shows_one_profile_or_the_time_since_one_in_local_time() {
    let world = quiet();
    let (out, _) = say(&world, &["log"]);
    assert_eq!(out, "the log is empty\n");
    touch(&world, "now");
    say(&world, &["touch", "--profile", "nbdkit"]);
    let old = "1\t1700000000.000000000\ttouch\troot\t12345\tlong ago\ttouched the stamp\tend\n";
    world.write("var/lib/modstamp/made-in-code.log", old);
    assert_eq!(reasons(&world), ["long ago", "now", "touched by hand"]);
    assert_eq!(lines(&world, &["--profile", "qemu"]).len(), 1);
    assert_eq!(lines(&world, &["--profile", "made-in-code"]).len(), 1);
    assert_eq!(lines(&world, &["--since", "-2h"]).len(), 2);
    assert_eq!(lines(&world, &["--since", "2 hours ago"]).len(), 2);
    assert_eq!(lines(&world, &["--since", "yesterday"]).len(), 2);
    assert_eq!(lines(&world, &["--since", "2023-11-14T22:13:20Z"]).len(), 3);
    assert_eq!(lines(&world, &["--since", "2023-11-14T22:13:21Z"]).len(), 2);
    let mut log = world.modstamp(&["log", "--profile", "made-in-code"]);
    let output = log.env("TZ", "XYZ-2").output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "2023-11-15 00:13:20 +02:00 made-in-code: touch by root (long ago), 12 ms; \
         touched the stamp\n"
    );
    for (arguments, status, sentence) in [
        (["--profile", "qemuu"], 1, "did you mean “qemu”?"),
        (
            ["--since", "soon"],
            2,
            "this is not a time; write a date, as “2026-11-28” or “2026-11-28 03:00”; “today” or \
             “yesterday”; the last “03:00”; or an age, as “2 hours ago” or “-2h”",
        ),
    ] {
        let output = world.output(&[&["log"][..], &arguments].concat());
        assert_eq!(output.status.code(), Some(status));
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(err.contains(sentence), "{err}");
    }
}

#[test]
fn following_the_log_loses_no_line_to_a_replaced_log_and_ends_with_its_reader() {
    let world = quiet();
    touch(&world, "first");
    let mut follow = world.modstamp(&["log", "--json", "--follow"]);
    let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        line["why"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "first");
    let root = Root::open(&world.path("")).unwrap();
    let stamp = Stamp::system(&root, "qemu").unwrap();
    let long = "x".repeat(400);
    // The log is replaced twice meanwhile. Each line is shown before the next one is written.
    for number in 0..250 {
        let why = format!("{number} {long}");
        stamp.touch("a test", &why, Durability::NotSynced).unwrap();
        if number % 20 == 19 {
            for number in number - 19..=number {
                assert_eq!(next(), format!("{number} {long}"));
            }
        }
    }
    let mut log = fs::File::options()
        .append(true)
        .open(world.path(LOG))
        .unwrap();
    log.write_all(b"1\t1800000000.0").unwrap(); // A line that is under way is not shown.
    drop(out);
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_update_by_a_unit_tells_the_journal_what_the_log_has() {
    let world = quiet();
    let journal = world.beside("journal");
    let file = fs::File::create(&journal).unwrap();
    let stat = file.metadata().unwrap();
    let stream = format!("{}:{}", stat.dev(), stat.ino());
    for (stream, count) in [("8:1", 1), (&stream, 2)] {
        world.sh("rm -rf var/lib/modstamp");
        let mut update = world.modstamp(&["update"]);
        let file = fs::File::create(&journal).unwrap();
        let status = update.env("JOURNAL_STREAM", stream).stdout(file).status();
        assert!(status.unwrap().success());
        let text = fs::read_to_string(&journal).unwrap();
        assert_eq!(text.lines().count(), count, "{text}");
        let is_logged = text.contains("update by ") && text.contains(" ms; touched the stamp");
        assert_eq!(is_logged, count == 2, "{text}");
    }
}
