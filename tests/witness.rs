//! What a witness sees, and what it does not mind. These tests need nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use filetime::FileTime;
use modstamp::{Profile, Root, Verdict, Witness};

const MODULES: &str = "usr/lib64/qemu";

/// A scratch root with some modules, a program, a further file and a profile that names them.
struct World {
    scratch: tempfile::TempDir,
    profile: Profile,
}

impl World {
    fn new() -> World {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let write = |path: &str, text: &str| {
            let path = scratch.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("usr/lib64/qemu/hw-display-qxl.so", "qxl 1");
        write("usr/lib64/qemu/ui-gtk.so", "gtk 1");
        write("usr/lib64/qemu/below/a.so", "a 1");
        write("usr/bin/qemu-system-x86_64", "qemu 1");
        write("etc/qemu.conf", "conf 1");
        write(
            "etc/modstamp/profiles.d/qemu.toml",
            "files = [\"/etc/qemu.conf\"]",
        );
        let profile = Profile::load_in("qemu", &root).unwrap();
        World { scratch, profile }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.scratch.path().join(below)
    }

    fn module(&self, name: &str) -> PathBuf {
        self.path(MODULES).join(name)
    }

    /// The verdict on a witness that was taken before `change`; it went through its text, as a stored one does.
    fn verdict(&self, change: impl FnOnce(&World)) -> Verdict {
        let before = self.profile.observe().unwrap().to_string();
        change(self);
        before
            .parse::<Witness>()
            .unwrap()
            .check(&self.profile)
            .unwrap()
    }

    fn modstamp(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(arguments)
            .arg("--root")
            .arg(self.scratch.path());
        command.output().unwrap()
    }
}

/// Sees `change` make a witness stale, for one reason that says `expected`.
#[track_caller]
fn stale(expected: &str, change: impl FnOnce(&World)) {
    let verdict = World::new().verdict(change);
    let reasons = verdict.reasons_for_people(10).join("\n");
    assert!(
        reasons.contains(expected),
        "expected “{expected}”, got “{reasons}”"
    );
    assert_eq!(verdict.reasons().len(), 1, "{reasons}");
}

#[track_caller]
fn fresh(change: impl FnOnce(&World)) {
    let verdict = World::new().verdict(change);
    assert!(
        verdict.is_fresh(),
        "{}",
        verdict.reasons_for_people(10).join("\n")
    );
}

fn keep_mtime(path: &Path, change: impl FnOnce()) {
    let before = FileTime::from_last_modification_time(&fs::metadata(path).unwrap());
    change();
    filetime::set_file_mtime(path, before).unwrap();
}

#[test]
fn a_module_that_comes_or_goes_makes_stale() {
    stale("module new.so added to /usr/lib64/qemu", |w| {
        fs::write(w.module("new.so"), "").unwrap()
    });
    stale("module ui-gtk.so removed from /usr/lib64/qemu", |w| {
        fs::remove_file(w.module("ui-gtk.so")).unwrap();
    });
    stale("module below/a.so removed from /usr/lib64/qemu", |w| {
        fs::remove_file(w.module("below/a.so")).unwrap();
    });
}

#[test]
fn a_module_that_goes_makes_stale_though_the_directorys_mtime_is_put_back() {
    stale("module ui-gtk.so removed from /usr/lib64/qemu", |w| {
        keep_mtime(&w.path(MODULES), || {
            fs::remove_file(w.module("ui-gtk.so")).unwrap()
        });
    });
}

#[test]
fn a_module_rewritten_in_place_makes_stale_though_size_and_mtime_are_put_back() {
    stale(
        "module ui-gtk.so in /usr/lib64/qemu changed: its content differs",
        |w| {
            let path = w.module("ui-gtk.so");
            keep_mtime(&path, || fs::write(&path, "gtk 2").unwrap());
        },
    );
    stale("changed: its size was 5 bytes, now 0 bytes", |w| {
        fs::File::create(w.module("ui-gtk.so")).unwrap();
    });
}

#[test]
fn a_module_with_other_permissions_or_of_another_type_makes_stale() {
    stale(
        "ui-gtk.so in /usr/lib64/qemu changed: its permissions were 0644, now 0600",
        |w| {
            fs::set_permissions(w.module("ui-gtk.so"), fs::Permissions::from_mode(0o600)).unwrap();
        },
    );
    stale(
        "ui-gtk.so in /usr/lib64/qemu changed: it was a file, now a link",
        |w| {
            fs::rename(w.module("ui-gtk.so"), w.path("gtk.so")).unwrap();
            symlink("/gtk.so", w.module("ui-gtk.so")).unwrap();
        },
    );
}

#[test]
fn a_links_target_counts() {
    let world = World::new();
    symlink("/etc/qemu.conf", world.module("link.so")).unwrap();
    let verdict = world.verdict(|w| fs::write(w.path("etc/qemu.conf"), "conf 2").unwrap());
    let reasons = verdict.reasons_for_people(10).join("\n");
    assert!(
        reasons.contains("module link.so in /usr/lib64/qemu changed"),
        "{reasons}"
    );
    assert!(reasons.contains("file /etc/qemu.conf changed"), "{reasons}");
}

#[test]
fn a_module_directory_that_comes_or_goes_makes_stale() {
    stale("module directory /usr/lib64/qemu removed", |w| {
        fs::rename(w.path(MODULES), w.path("usr/lib64/away")).unwrap();
    });
    stale(
        "module directory /usr/lib/x86_64-linux-gnu/qemu added",
        |w| {
            fs::create_dir_all(w.path("usr/lib/x86_64-linux-gnu/qemu")).unwrap();
        },
    );
    stale("module directory /run/qemu/8.2 added", |w| {
        fs::create_dir_all(w.path("run/qemu/8.2")).unwrap();
    });
}

#[test]
fn a_program_or_a_further_file_that_changes_makes_stale() {
    stale(
        "program /usr/bin/qemu-system-x86_64 changed: its content differs",
        |w| {
            fs::write(w.path("usr/bin/qemu-system-x86_64"), "qemu 2").unwrap();
        },
    );
    stale("program /usr/bin/qemu-system-arm added", |w| {
        fs::write(w.path("usr/bin/qemu-system-arm"), "").unwrap();
    });
    stale("file /etc/qemu.conf removed", |w| {
        fs::remove_file(w.path("etc/qemu.conf")).unwrap()
    });
}

#[test]
fn a_stamp_that_is_touched_or_goes_makes_stale_and_one_that_cannot_be_read_does_too() {
    stale("system stamp touched for the first time", |w| {
        assert!(w.modstamp(&["touch"]).status.success());
    });
    let world = World::new();
    world.modstamp(&["touch"]);
    let verdict =
        world.verdict(|w| fs::remove_file(w.path("var/lib/modstamp/qemu.stamp")).unwrap());
    assert_eq!(verdict.reasons_for_people(9), ["system stamp gone"]);
    world.modstamp(&["touch"]);
    let verdict = world.verdict(|w| {
        fs::remove_file(w.path("var/lib/modstamp/qemu.stamp")).unwrap();
        symlink("/etc/qemu.conf", w.path("var/lib/modstamp/qemu.stamp")).unwrap();
    });
    assert!(
        verdict.reasons_for_people(9)[0].starts_with("system stamp not known"),
        "{verdict:?}"
    );
}

#[test]
fn a_users_own_stamp_counts_for_that_user() {
    let world = World::new();
    let stamp = world.path("home/me/.local/state/modstamp/qemu.stamp");
    fs::create_dir_all(stamp.parent().unwrap()).unwrap();
    let run = |home: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(arguments)
            .arg("--root")
            .arg(world.scratch.path());
        command
            .env("HOME", home)
            .env_remove("XDG_STATE_HOME")
            .output()
            .unwrap()
    };
    let witness = |home| fs::write(world.path("w"), run(home, &["observe"]).stdout).unwrap();
    let file = world.path("w").display().to_string();
    let check = |home| run(home, &["check", &file]);
    witness("/home/me");
    fs::write(&stamp, "").unwrap();
    assert_eq!(
        check("/home/me")
            .stdout
            .split(|b| *b == b':')
            .nth(1)
            .unwrap(),
        b" user stamp touched for the first time"
    );
    assert_eq!(check("/home/you").status.code(), Some(0));
    witness("/home/me");
    assert_eq!(check("/home/me").status.code(), Some(0));
}

#[test]
fn what_leaves_the_module_set_as_it_was_stays_fresh() {
    fresh(|_| ());
    fresh(|w| {
        // A redeploy: new inodes, new times.
        let copy = w.path("usr/lib64/copy");
        let status = Command::new("cp")
            .arg("-r")
            .arg(w.path(MODULES))
            .arg(&copy)
            .status()
            .unwrap();
        assert!(status.success());
        fs::remove_dir_all(w.path(MODULES)).unwrap();
        fs::rename(copy, w.path(MODULES)).unwrap();
    });
    fresh(|w| filetime::set_file_mtime(w.module("ui-gtk.so"), FileTime::zero()).unwrap());
    fresh(|w| {
        fs::rename(w.module("ui-gtk.so"), w.module("x.so")).unwrap();
        fs::rename(w.module("x.so"), w.module("ui-gtk.so")).unwrap();
    });
    fresh(|w| fs::write(w.path("usr/lib64/other.so"), "").unwrap());
    fresh(|w| fs::write(w.path("usr/bin/other"), "").unwrap());
}

#[test]
fn one_observation_judges_many_witnesses() {
    let world = World::new();
    let old = world.profile.observe().unwrap();
    fs::write(world.module("ui-gtk.so"), "gtk 2").unwrap();
    let new = world.profile.observe().unwrap();
    let now = world.profile.inputs().unwrap();
    let verdicts: Vec<bool> = [&old, &new, &old]
        .map(|witness| witness.judge(&now).is_fresh())
        .into();
    assert_eq!(verdicts, [false, true, false]);
}

#[test]
fn names_of_any_bytes_are_told_apart_and_told() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    for name in [
        &b"a b\n.so"[..],
        b"\xff\xfe",
        b"back\\slash",
        "größe.so".as_bytes(),
        b" ",
    ] {
        fs::write(
            world.module("").join(std::ffi::OsStr::from_bytes(name)),
            name,
        )
        .unwrap();
    }
    assert!(world.verdict(|_| ()).is_fresh());
    let text = world.profile.observe().unwrap().to_string();
    assert_eq!(text.parse::<Witness>().unwrap().to_string(), text);
    assert!(
        text.contains(" a\\x20b\\x0a.so\n") && text.contains(" größe.so\n"),
        "{text}"
    );
}

#[test]
fn names_of_any_bytes_are_told_in_json_and_do_nothing_to_a_terminal() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new();
    let file = world.path("w").display().to_string();
    fs::write(&file, world.modstamp(&["observe"]).stdout).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"a\nfresh\x1b[2J\xff.so");
    fs::write(world.module("").join(name), "").unwrap();
    let output = world.modstamp(&["check", &file]);
    let expected = b"stale: module a\\x0afresh\\x1b[2J\\xff.so added to /usr/lib64/qemu\n";
    assert_eq!(output.stdout, expected);
    let json = world.modstamp(&["check", "--json", &file]);
    assert_eq!(json.status.code(), Some(1));
    assert!(
        String::from_utf8(json.stdout)
            .unwrap()
            .contains("a\\nfresh\\u001b[2J\u{fffd}.so")
    );
    assert_eq!(world.modstamp(&["status", "--json"]).status.code(), Some(0));
}

#[test]
fn links_in_circles_end() {
    let world = World::new();
    symlink("..", world.module("below/up")).unwrap();
    symlink("self", world.module("self")).unwrap();
    symlink("/", world.path("usr/lib/all")).unwrap_or_default();
    assert!(world.verdict(|_| ()).is_fresh());
}

#[test]
fn a_witness_keeps_to_120_bytes_an_entry() {
    let world = World::new();
    let text = world.profile.observe().unwrap().to_string();
    assert!(text.lines().all(|line| line.len() < 120), "{text}");
}

#[test]
fn a_witness_of_version_1_is_read_for_ever() {
    let text = include_str!("fixtures/witness-1.txt");
    assert_eq!(text.parse::<Witness>().unwrap().to_string(), text);
}

#[test]
fn what_is_not_a_whole_witness_is_stale_and_says_why() {
    let world = World::new();
    let whole = world.profile.observe().unwrap().to_string();
    let now = world.profile.inputs().unwrap();
    assert!(Verdict::of_text(whole.as_bytes(), &now).is_fresh());
    for length in 0..whole.len() {
        let verdict = Verdict::of_text(&whole.as_bytes()[..length], &now);
        assert!(!verdict.is_fresh(), "cut off after {length} bytes");
    }
    for (text, expected) in [
        (&b""[..], "it is empty"),
        (b"\xff\xfe\x00", "it is not text in UTF-8"),
        (b"hello\n", "it does not begin with"),
        (
            b"modstamp-witness 2 qemu\nend 1\n",
            "it is of version 2, and this modstamp reads versions up to 1",
        ),
        (
            b"modstamp-witness 1 qemu\nend 7\n",
            "its last line counts 7 lines before it, and there are 1",
        ),
        (
            b"modstamp-witness 1 qemu\n",
            "it is cut off: its last line is missing",
        ),
        (
            b"modstamp-witness 1 qemu\nmodule 1 2 3\nend 2\n",
            "line 2 is",
        ),
        (
            b"modstamp-witness 1 other\nend 1\n",
            "the witness is of the profile other, and the question about qemu",
        ),
    ] {
        let verdict = Verdict::of_text(text, &now);
        let reasons = verdict.reasons_for_people(1).join("");
        assert!(reasons.contains(expected), "{reasons}");
    }
}

#[test]
fn check_says_by_its_exit_status_fresh_stale_or_not_asked() {
    let world = World::new();
    let file = world.path("w").display().to_string();
    fs::write(&file, world.modstamp(&["observe"]).stdout).unwrap();
    let check = |arguments: &[&str]| {
        let output = world.modstamp(&[&["check"], arguments].concat());
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert_eq!(check(&[&file]), (0, "fresh\n".to_owned()));
    assert_eq!(check(&["/no/such/file"]), (2, String::new()));
    assert_eq!(check(&[&file, "--profile", "missing"]), (2, String::new()));
    for number in 0..12 {
        fs::write(world.module(&format!("{number:02}.so")), "").unwrap();
    }
    let (code, text) = check(&[&file]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((code, lines.len()), (1, 10));
    assert_eq!(lines[0], "stale: module 00.so added to /usr/lib64/qemu");
    assert_eq!(lines[9], "stale: and 3 more; --json shows all");
    let (code, json) = check(&["--json", &file]);
    assert_eq!((code, json.matches("\"cause\":\"added\"").count()), (1, 12));
    fs::write(&file, "").unwrap();
    assert_eq!(check(&[&file]).0, 1);
}
