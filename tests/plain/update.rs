//! `modstamp update`: it touches if the modules changed since the last touch, and only then.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use modstamp::Mtime;
use support::libvirt::{DRIVER, Host, QXL, RECORD, USER, WATCHED, X86};
use support::world::{GTK, MODULES, STAMP, World};

const KEPT: &str = "var/lib/modstamp/qemu.witness";

const UNKNOWN: &str = "no record of the modules at the last touch was kept";

const NOTHING: &str = "nothing changed since the last touch\n";

/// The note of a touch or an update that made no first stamp.
const LEFT_OUT: &str = "modstamp: note: no stamp was made, because an image is being built \
    (SOURCE_DATE_EPOCH is set); the first “modstamp update” on a host with that image makes one\n";

/// The output of an update, which has to succeed without a warning.
#[track_caller]
fn say(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let [out, err] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(status.success() && err.is_empty(), "{status}: {out}{err}");
    out
}

#[track_caller]
fn update(world: &World) -> String {
    say(&mut world.modstamp(&["update"]))
}

/// A world for tests that do not concern libvirt.
fn quiet() -> World {
    World::prepared(|world| {
        let profile = "files = [\"/etc/qemu/*.conf\"]\nrefresh-libvirt = false";
        world.write("etc/modstamp/profiles.d/qemu.toml", profile);
    })
}

/// A world after an update, which keeps a witness.
fn updated() -> World {
    let world = quiet();
    world.settle();
    update(&world);
    assert_eq!(update(&world), NOTHING);
    world
}

fn stamp(world: &World) -> (i64, i64) {
    let stat = fs::metadata(world.path(STAMP)).unwrap();
    (stat.mtime(), stat.mtime_nsec())
}

/// Everything below a directory, with its inode, size and times.
fn everything(top: &Path) -> String {
    support::run(
        Command::new("find")
            .arg(top)
            .args(["-printf", "%P %i %m %s %T@ %C@\n"]),
    )
}

#[test]
fn the_first_update_touches_also_where_var_is_empty() {
    let world = quiet();
    fs::remove_dir_all(world.path("var")).unwrap();
    assert_eq!(update(&world), format!("touched the stamp: {UNKNOWN}\n"));
    let note = fs::read_to_string(world.path(STAMP)).unwrap();
    assert!(
        note.contains(&format!("by: modstamp update\nwhy: {UNKNOWN}\n")),
        "{note}"
    );
    assert_eq!(update(&world), NOTHING);
}

#[test]
fn an_update_after_which_nothing_changed_writes_nothing() {
    let world = updated();
    let before = everything(&world.path(""));
    assert_eq!(update(&world), NOTHING);
    assert_eq!(everything(&world.path("")), before);
}

type Change = fn(&World);

#[test]
fn every_change_of_content_is_touched_for_with_its_reason() {
    let world = updated();
    let changes: [(Change, &str); 9] = [
        (
            |world| world.write(&format!("{MODULES}/new.so"), "new"),
            "module new.so added to /usr/lib64/qemu",
        ),
        (
            |world| world.remove(&format!("{MODULES}/new.so")),
            "module new.so removed from /usr/lib64/qemu",
        ),
        (
            |world| world.keep_mtime(GTK, || world.write(GTK, "other 1.")),
            "module ui-gtk.so in /usr/lib64/qemu changed: its content differs",
        ),
        (
            |world| world.set_permissions(GTK, 0o600),
            "module ui-gtk.so in /usr/lib64/qemu changed: its permissions were 0644, now 0600",
        ),
        (
            |world| world.write("usr/bin/qemu-system-arm", "other 1."),
            "program /usr/bin/qemu-system-arm changed: its content differs",
        ),
        (
            |world| world.write("etc/qemu/a.conf", "other 1."),
            "file /etc/qemu/a.conf changed: its content differs",
        ),
        (
            |world| world.write("usr/share/linked.so", "other 1."),
            "module link.so in /usr/lib64/qemu changed: its content differs",
        ),
        (
            |world| world.rename("usr/share/modules", "usr/share/gone"),
            "module directory /usr/lib/qemu removed",
        ),
        (
            |world| world.rename(MODULES, "usr/lib64/gone"),
            "module directory /usr/lib64/qemu removed",
        ),
    ];
    for (change, reason) in changes {
        let before = stamp(&world);
        change(&world);
        let said = update(&world);
        assert!(
            said.contains(&format!("touched the stamp: {reason}\n")),
            "{reason}: {said}"
        );
        assert!(stamp(&world) > before, "{reason}");
        assert_eq!(update(&world), NOTHING, "{reason}");
    }
}

#[test]
fn a_redeploy_with_new_inodes_and_times_is_not_touched_for() {
    let world = updated();
    let before = stamp(&world);
    world.sh("cp -r usr usr.new; rm -r usr; mv usr.new usr; cp -r etc etc.new; rm -r etc; mv etc.new etc");
    assert_eq!(update(&world), NOTHING);
    assert_eq!(stamp(&world), before);
}

#[test]
fn what_a_touch_or_a_trigger_was_made_for_is_not_touched_for_again() {
    let world = updated();
    let ways: [&[&str]; 4] = [
        &["touch", "--quiet"],
        &["trigger", "dpkg", "/usr/lib64/qemu"],
        &["trigger", "apk", "/usr/lib64/qemu"],
        &["trigger", "rpm"],
    ];
    for (number, way) in ways.iter().enumerate() {
        world.write(GTK, &format!("other {number}."));
        world.settle();
        let mut command = world.modstamp(way);
        assert_eq!(say(command.stdin(Stdio::null())), "", "{way:?}");
        let before = stamp(&world);
        assert_eq!(update(&world), NOTHING, "{way:?}");
        assert_eq!(stamp(&world), before, "{way:?}");
    }
}

#[test]
fn what_changed_between_a_trigger_and_the_update_is_touched_for() {
    let world = updated();
    world.write(GTK, "other 1.");
    say(&mut world.modstamp(&["trigger", "dpkg", "/usr/lib64/qemu"]));
    world.keep_mtime(GTK, || world.write(GTK, "other 2."));
    assert!(update(&world).contains("module ui-gtk.so in /usr/lib64/qemu "));
}

/// A trigger has no time to read programs. The next update completes the kept witness.
#[test]
fn a_redeploy_after_a_trigger_and_an_update_is_not_touched_for() {
    let world = updated();
    world.remove(KEPT);
    say(&mut world.modstamp(&["trigger", "dpkg", "/usr/lib64/qemu"]));
    assert!(
        fs::read_to_string(world.path(KEPT))
            .unwrap()
            .contains(" ? /usr/bin/")
    );
    assert_eq!(update(&world), NOTHING);
    world.sh("cp -r usr usr.new; rm -r usr; mv usr.new usr");
    assert_eq!(update(&world), NOTHING);
}

#[test]
fn a_plain_touch_by_hand_needs_no_second_one() {
    let world = updated();
    world.sh(&format!("touch {STAMP}"));
    let before = stamp(&world);
    assert_eq!(update(&world), NOTHING);
    assert_eq!(stamp(&world), before);
}

#[test]
fn a_lost_torn_or_foreign_record_of_the_modules_is_touched_for() {
    let world = updated();
    let whole = fs::read(world.path(KEPT)).unwrap();
    let newer = String::from_utf8_lossy(&whole).replace("modstamp-witness 2", "modstamp-witness 3");
    let foreign = String::from_utf8_lossy(&whole)
        .replace("modstamp-witness 2 qemu", "modstamp-witness 2 nbdkit");
    let lost: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("cut off", &whole[..whole.len() - 1]),
        ("cut in two", &whole[..whole.len() / 2]),
        ("no text", &[0xff; 100]),
        ("newer", newer.as_bytes()),
        ("foreign", foreign.as_bytes()),
    ];
    for (what, bytes) in lost {
        fs::write(world.path(KEPT), bytes).unwrap();
        let said = update(&world);
        assert!(said.starts_with("touched the stamp: "), "{what}: {said}");
        assert_eq!(update(&world), NOTHING, "{what}");
    }
    for gone in [KEPT, STAMP] {
        world.remove(gone);
        assert_eq!(
            update(&world),
            format!("touched the stamp: {UNKNOWN}\n"),
            "{gone}"
        );
    }
}

#[test]
fn a_record_that_is_a_link_or_a_fifo_does_no_harm() {
    let world = updated();
    world.write("etc/precious", "precious");
    world.remove(KEPT);
    world.link(KEPT, "/etc/precious");
    assert_eq!(update(&world), format!("touched the stamp: {UNKNOWN}\n"));
    assert_eq!(
        fs::read_to_string(world.path("etc/precious")).unwrap(),
        "precious"
    );
    world.sh(&format!("rm {KEPT}; mkfifo {KEPT}"));
    assert_eq!(update(&world), format!("touched the stamp: {UNKNOWN}\n"));
    assert_eq!(update(&world), NOTHING);
}

#[test]
fn updates_at_once_do_the_work_once() {
    let host = Host::new();
    host.modstamp(&["update"]).output().unwrap();
    for round in 0..3 {
        host.write(QXL, &format!("module {round}"));
        let start = || {
            let mut command = host.modstamp(&["update"]);
            command.stdout(Stdio::piped()).spawn().unwrap()
        };
        let all: Vec<_> = (0..12).map(|_| start()).collect();
        let said = all.into_iter().map(|one| one.wait_with_output().unwrap());
        let said: Vec<String> = said.map(|o| String::from_utf8(o.stdout).unwrap()).collect();
        for work in ["touched the stamp: ", "moved the time of "] {
            let count = said.iter().filter(|text| text.contains(work)).count();
            assert_eq!(count, 1, "{work}: {said:?}");
        }
    }
}

#[test]
fn a_stamp_that_cannot_be_touched_is_an_error_and_libvirt_is_asked_again_all_the_same() {
    let host = Host::new();
    host.sh("rm -rf var/lib; ln -s /nowhere var/lib");
    let (out, err) = host.fail(&["update"]);
    let expected = format!(
        "not touched: {UNKNOWN}
moved the time of /{WATCHED}
"
    );
    assert!(out.starts_with(&expected), "{out}");
    assert!(
        err.contains("modstamp: cannot touch the stamp /var/lib/modstamp/qemu.stamp: "),
        "{err}"
    );
    let trigger: &[&str] = &["trigger", "dpkg", "/usr/lib/x86_64-linux-gnu/qemu"];
    for way in [&["update"], &["touch"], trigger] {
        host.set_mtime(WATCHED, 1_600_000_000);
        host.modstamp(way).output().unwrap();
        assert!(host.mtime(WATCHED) > 1_600_000_000, "{way:?}");
    }
}

/// What an update says that only makes libvirt probe again.
fn missed() -> String {
    let why = "something changed since the last refresh of libvirt";
    format!("not touched: {why}\nmoved the time of /{WATCHED}\n")
}

#[test]
fn libvirt_is_asked_again_where_something_changed_and_only_there() {
    let host = Host::new();
    let said = host.say(&["update"]);
    assert!(
        said.0.ends_with(&format!("moved the time of /{WATCHED}\n")),
        "{said:?}"
    );
    host.ask(X86);
    assert_eq!(host.words(X86), "fresh");
    let nothing = || assert_eq!(host.say(&["update"]), (NOTHING.to_owned(), String::new()));
    nothing();
    assert_eq!(host.words(X86), "fresh");

    host.keep_mtime(WATCHED, || {
        host.keep_mtime(QXL, || host.write(QXL, "A MODULE"))
    });
    let said = host.say(&["update"]).0;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].contains("module hw-display-qxl.so in /usr/lib/")
            && lines[1].starts_with("moved the time"),
        "{said}"
    );
    nothing();
}

/// Nobody knows what a probe saw in between.
#[test]
fn libvirt_is_asked_again_for_what_was_changed_and_changed_back() {
    let host = Host::new();
    host.settle();
    host.say(&["update"]);
    host.say(&["update"]);
    host.keep_mtime(WATCHED, || {
        host.rename(QXL, "usr/qxl");
        host.rename("usr/qxl", QXL);
    });
    assert_eq!(host.say(&["update"]).0, missed());
    assert_eq!(host.say(&["update"]).0, NOTHING);
}

#[test]
fn libvirt_is_asked_again_after_a_plain_touch_of_the_stamp() {
    let host = Host::new();
    host.say(&["update"]);
    host.sh(&format!("touch {STAMP}"));
    assert_eq!(host.say(&["update"]).0, missed());
    assert_eq!(host.say(&["update"]).0, NOTHING);
}

#[test]
fn libvirt_is_asked_again_where_what_the_last_refresh_left_is_lost() {
    let host = Host::new();
    host.say(&["update"]);
    host.remove(RECORD);
    assert_eq!(host.say(&["update"]).0, missed());
}

#[test]
fn no_program_is_changed_for_a_libvirt_that_is_not_there() {
    let host = Host::new();
    host.sh(&format!("rm -r {DRIVER} usr/lib/*/libvirt* {WATCHED}"));
    // The directory cannot be moved, so a refresh by hand would move the programs.
    host.set_permissions("usr/lib64/qemu", 0o777);
    let before = host.ctime(X86);
    let said = host.say(&["update"]).0;
    assert!(!said.contains("moved the ctime"), "{said}");
    assert_eq!(host.ctime(X86), before);
}

/// A host before its first touch, as an image is while it is built.
fn image() -> Host {
    let host = Host::new();
    host.sh("rm -r var/lib/modstamp");
    host
}

/// Two builds of the same image, at different times, in different places.
#[test]
fn what_an_image_build_leaves_differs_in_nothing_from_build_to_build() {
    let built = || {
        let host = image();
        host.sh("find . -exec touch -h -d @1700000000 {} +");
        for (way, says) in [
            (&["trigger", "dpkg", "/usr/lib64/qemu"][..], ""),
            (&["touch"], LEFT_OUT),
            (&["update"], LEFT_OUT),
            (&["update"], LEFT_OUT),
        ] {
            let mut command = host.modstamp(way);
            command.env("SOURCE_DATE_EPOCH", "1700000000");
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), says);
            assert!(output.stdout.is_empty(), "{output:?}");
        }
        host.sh("find . -path ./home -prune -o -printf '%p %m %s %T@ %l\\n' | sort")
    };
    let first = built();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(built(), first);
    assert!(!first.contains("./var/lib/modstamp"), "{first}");
}

#[test]
fn a_trigger_without_paths_makes_no_first_stamp_while_an_image_is_built() {
    let host = image();
    let mut command = host.modstamp(&["trigger", "rpm"]);
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    // Without paths it touches on any host that runs.
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    assert!(!host.path("var/lib/modstamp").exists());
}

#[test]
fn the_first_update_on_the_host_that_an_image_became_touches() {
    let host = image();
    let mut command = host.modstamp(&["update"]);
    let built = command.env("SOURCE_DATE_EPOCH", "1700000000").status();
    assert!(built.unwrap().success());
    let said = host.say(&["update"]).0;
    assert!(
        said.starts_with(&format!("touched the stamp: {UNKNOWN}\nmoved the time of ")),
        "{said}"
    );
}

/// A stamp shows that this is a host that runs.
#[test]
fn where_there_is_a_stamp_a_touch_with_source_date_epoch_is_like_any_other() {
    let host = Host::new();
    host.settle();
    host.say(&["update"]);
    let as_in_a_build = |way: &[&str]| {
        let mut command = host.modstamp(way);
        say(command.env("SOURCE_DATE_EPOCH", "1600000000"))
    };
    assert_eq!(as_in_a_build(&["update"]), NOTHING);
    let before = stamp(&host);
    as_in_a_build(&["touch"]);
    assert!(stamp(&host) > before);
    assert!(host.path(KEPT).exists() && host.path(RECORD).exists());
    assert_eq!(host.say(&["update"]).0, NOTHING);
}

#[test]
fn a_source_date_epoch_that_is_no_number_is_as_good_as_none() {
    let world = quiet();
    for value in ["", "-1", "1e9", "99999999999999999999", "now"] {
        fs::remove_dir_all(world.path("var")).unwrap();
        let start = filetime::FileTime::now().unix_seconds();
        say(world.modstamp(&["update"]).env("SOURCE_DATE_EPOCH", value));
        assert!(
            stamp(&world).0 >= start && world.path(KEPT).exists(),
            "{value}"
        );
    }
}

/// A unit at boot has another environment than the caller.
#[test]
fn a_callers_environment_makes_no_difference() {
    let world = updated();
    let mut elsewhere = world.modstamp(&["update"]);
    assert_eq!(
        say(elsewhere.env("QEMU_MODULE_DIR", "/opt/modules")),
        NOTHING
    );
}

#[test]
fn what_cannot_be_kept_is_an_error_and_touched_for_again() {
    let world = updated();
    world.sh(&format!(
        "rm {KEPT}; mkdir -p var/lib/modstamp/.qemu.witness.new/full"
    ));
    for _ in 0..2 {
        let output = world.output(&["update"]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(
            err.contains("modstamp: cannot keep the witness of the modules beside "),
            "{err}"
        );
        assert!(
            err.contains("; make room there: until then each update touches\n"),
            "{err}"
        );
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(out, format!("touched the stamp: {UNKNOWN}\n"));
    }
}

#[test]
fn whoever_finds_the_kept_modules_finds_a_stamp_touched_since_they_became_so() {
    let world = updated();
    let mut seen: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let modules = |world: &World| {
        let kept = fs::read_to_string(world.path(KEPT)).unwrap();
        let digest = kept
            .lines()
            .find(|line| line.ends_with(" ui-gtk.so"))
            .unwrap();
        digest.split(' ').nth(5).unwrap().to_owned()
    };
    for round in 0..6 {
        world.write(GTK, &format!("other {}", round % 3));
        update(&world);
        let now = stamp(&world);
        if let Some(before) = seen.insert(modules(&world), now) {
            assert!(now > before);
        }
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn the_time_that_a_touch_leaves_is_what_the_kept_modules_have() {
    let world = updated();
    world.write(GTK, "other 1.");
    update(&world);
    let mtime: Mtime = {
        let kept = fs::read_to_string(world.path(KEPT)).unwrap();
        let line = kept
            .lines()
            .find_map(|line| line.strip_prefix("stamp system "))
            .unwrap()
            .to_owned();
        line.parse().unwrap()
    };
    assert_eq!(
        (mtime.seconds(), i64::from(mtime.nanoseconds())),
        stamp(&world)
    );
    // A person can ask by it what changed since.
    world.write(GTK, "other 2.");
    let output = world.output(&["check", world.path(KEPT).to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text,
        "stale: module ui-gtk.so in /usr/lib64/qemu changed: its content differs\n"
    );
}

#[test]
fn a_users_cache_is_left_to_that_user() {
    let host = Host::new();
    let own = host.keep(USER, &host.answer(X86));
    host.write(QXL, "another");
    host.say(&["update"]);
    assert!(host.path(&own).exists());
}

#[test]
fn a_touch_that_keeps_nothing_leaves_nothing_that_an_earlier_one_kept() {
    let world = updated();
    let before = fs::read_to_string(world.path(GTK)).unwrap();
    // This stands for a full disk.
    world.sh("mkdir -p var/lib/modstamp/.qemu.witness.new/full");
    world.write(GTK, "other 1.");
    let output = world.output(&["trigger", "dpkg", "/usr/lib64/qemu"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("warning: cannot keep the witness "), "{text}");
    assert!(output.status.success() && !world.path(KEPT).exists());
    world.sh("rm -r var/lib/modstamp/.qemu.witness.new");
    world.write(GTK, &before);
    assert_eq!(update(&world), format!("touched the stamp: {UNKNOWN}\n"));
}

#[test]
fn a_trigger_for_a_new_module_costs_one_reading_and_no_more() {
    let world = updated();
    world.remove(KEPT);
    world.write(&format!("{MODULES}/new.so"), "new");
    say(&mut world.modstamp(&["trigger", "dpkg", "/usr/lib64/qemu"]));
    assert_eq!(update(&world), NOTHING);
    let kept = fs::read_to_string(world.path(KEPT)).unwrap();
    assert!(!kept.contains(" ? "), "{kept}");
}

#[test]
fn what_nobody_can_read_is_touched_for_once() {
    let world = updated();
    let deep = vec!["d"; 40].join("/");
    world.sh(&format!("mkdir -p {MODULES}/{deep}"));
    assert!(update(&world).starts_with("touched the stamp: "));
    let before = stamp(&world);
    for _ in 0..2 {
        assert_eq!(update(&world), NOTHING);
    }
    assert_eq!(stamp(&world), before);
}

#[test]
fn programs_that_a_trigger_has_changed_are_not_touched_for() {
    let host = Host::new();
    host.settle();
    host.say(&["update"]);
    host.say(&["update"]);
    host.sh(&format!("rm -r {WATCHED}"));
    host.settle();
    let before = host.ctime(X86);
    host.say(&["trigger", "dpkg", &format!("/{WATCHED}")]);
    assert!(host.ctime(X86) > before);
    assert_eq!(host.say(&["update"]).0, NOTHING);
}

#[test]
fn libvirt_is_asked_again_where_the_directory_has_not_the_time_that_was_left() {
    let host = Host::new();
    host.say(&["update"]);
    host.set_mtime(WATCHED, 1_600_000_000);
    assert_eq!(host.say(&["update"]).0, missed());
    assert_eq!(host.say(&["update"]).0, NOTHING);
}

#[test]
fn a_profile_of_which_libvirt_caches_nothing_is_updated_with_a_warning() {
    let world = World::new();
    let text = "module-directories = [\"/usr/lib64/qemu\"]\nrefresh-libvirt = true";
    world.write("etc/modstamp/profiles.d/other.toml", text);
    for _ in 0..2 {
        let output = world.output(&["update", "--profile", "other"]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{err}");
        assert!(
            err.contains("warning: libvirt caches nothing of the profile “other”"),
            "{err}"
        );
    }
}

#[test]
fn a_directory_in_the_place_of_what_is_kept_is_in_nobodys_way() {
    let world = updated();
    world.sh(&format!("rm {KEPT}; mkdir {KEPT}"));
    assert_eq!(update(&world), format!("touched the stamp: {UNKNOWN}\n"));
    for _ in 0..2 {
        world.write(GTK, "other 1.");
        update(&world);
        assert_eq!(update(&world), NOTHING);
    }
}
