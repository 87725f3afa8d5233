//! A witness as text, and its verdict. `changes.rs` has the changes that make an answer stale.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use modstamp::{Inputs, Verdict, Witness};
use support::world::{GTK, MODULES, STAMP, World, bytes_read, sentences};

#[test]
fn a_users_own_stamp_counts_for_that_user() {
    let world = World::new();
    let stamp = world.path("home/me/.local/state/modstamp/qemu.stamp");
    fs::create_dir_all(stamp.parent().unwrap()).unwrap();
    let run = |home: &str, arguments: &[&str]| {
        let mut command = world.modstamp(arguments);
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
    fs::write(&file, world.output(&["observe"]).stdout).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"a\nfresh\x1b[2J\xff.so");
    fs::write(world.module("").join(name), "").unwrap();
    let output = world.output(&["check", &file]);
    let expected = b"stale: module a\\x0afresh\\x1b[2J\\xff.so added to /usr/lib64/qemu\n";
    assert_eq!(output.stdout, expected);
    let json = world.output(&["check", "--json", &file]);
    assert_eq!(json.status.code(), Some(1));
    assert!(
        String::from_utf8(json.stdout)
            .unwrap()
            .contains("a\\nfresh\\u001b[2J\u{fffd}.so")
    );
    assert_eq!(world.output(&["status", "--json"]).status.code(), Some(0));
}

/// Nobody can look for a name of 300 bytes, on any file system.
#[test]
fn a_link_that_nobody_can_follow_is_never_fresh() {
    let world = World::prepared(|world| {
        for link in ["usr/lib64/qemu/far.so", "etc/qemu/far.conf"] {
            world.link(link, &"x".repeat(300));
        }
    });
    world.settle();
    let witness = world.profile.observe().unwrap();
    let verdict = witness.check(&world.profile).unwrap();
    let told = sentences(&verdict);
    let starts = [
        "module far.so in /usr/lib64/qemu not known: File name too long",
        "file /etc/qemu/far.conf not known: File name too long",
    ];
    assert_eq!(told.len(), starts.len(), "{told:?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told:?}");
    }
}

/// A look holds descriptors at each level of a tree, so a low limit ends it below some level.
#[test]
fn modules_that_no_descriptor_was_left_for_are_never_fresh() {
    let world = World::new();
    let deep = world.module(&"below/".repeat(8)).join("deep.so");
    fs::create_dir_all(deep.parent().unwrap()).unwrap();
    let limited = |limit: u32, arguments: &[&str]| {
        let verb = world.modstamp(arguments);
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""));
        command.arg(verb.get_program()).args(verb.get_args());
        command.output().unwrap()
    };
    let stored = world.path("w");
    let mut verdicts = BTreeSet::new();
    for limit in 5..40 {
        fs::write(&deep, "old").unwrap();
        world.settle();
        let witness = limited(limit, &["observe"]);
        if !witness.status.success() {
            continue;
        }
        fs::write(&stored, witness.stdout).unwrap();
        fs::write(&deep, "new!").unwrap();
        let check = limited(limit, &["check", stored.to_str().unwrap()]);
        assert_ne!(check.status.code(), Some(0), "{limit}");
        let told = String::from_utf8(check.stdout).unwrap();
        verdicts.insert(told.contains("Too many open files"));
    }
    assert_eq!(
        verdicts,
        [false, true].into(),
        "the limits are too low, or too high"
    );
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
    let text = World::new().profile.observe().unwrap().to_string();
    assert!(text.lines().all(|line| line.len() < 120), "{text}");
}

/// A host with 26 QEMU programs has 26 caches over one module directory.
#[test]
fn one_observation_judges_26_witnesses_without_another_walk() {
    let world = World::new();
    fs::write(world.module("old.so"), "").unwrap();
    world.settle();
    let old = world.profile.observe().unwrap().to_string();
    fs::remove_file(world.module("old.so")).unwrap();
    let new = world.profile.observe().unwrap().to_string();
    let now = world.profile.inputs().unwrap();
    fs::rename(world.path(MODULES), world.path("usr/lib64/away")).unwrap();
    for _ in 0..13 {
        let judge = |text: &str| sentences(&text.parse::<Witness>().unwrap().judge(&now));
        let gone = "module old.so removed from /usr/lib64/qemu";
        let mut said = Vec::new();
        let read = bytes_read(|| said.extend([judge(&old), judge(&new)]));
        assert_eq!(said, [vec![gone.to_owned()], Vec::new()]);
        assert_eq!(read, bytes_read(|| ()));
    }
}

#[test]
fn one_observation_judges_26_witnesses_by_one_look_at_each_content() {
    const SIZE: u64 = 1 << 20;
    let world = World::new();
    for name in ["one.so", "two.so"] {
        fs::write(world.module(name), vec![1; SIZE as usize]).unwrap();
    }
    let before = world.profile.observe().unwrap().to_string();
    // After a redeploy every stat identity is another.
    world.sh("cp -r usr/lib64/qemu usr/new; rm -r usr/lib64/qemu; mv usr/new usr/lib64/qemu");
    let now = world.profile.inputs().unwrap();
    let read = bytes_read(|| {
        for _ in 0..26 {
            assert!(before.parse::<Witness>().unwrap().judge(&now).is_fresh());
        }
    });
    assert!((2 * SIZE..3 * SIZE).contains(&read), "{read} bytes");
}

#[test]
fn a_witness_of_version_1_is_read_for_ever() {
    for text in [
        include_str!("../fixtures/witness-1.txt"),
        include_str!("../fixtures/witness-1-sum.txt"),
    ] {
        let again = text.parse::<Witness>().unwrap().to_string();
        assert_eq!(again, text.replacen("witness 1 ", "witness 2 ", 1));
    }
}

/// A world without links to files, whose digests have the files' owner in them.
fn world_of_0_1_0() -> World {
    World::prepared(|world| {
        for link in [
            "usr/lib64/qemu/link.so",
            "usr/lib64/qemu/below/link.so",
            "usr/lib64/qemu/plugins",
            "usr/lib/qemu",
            "usr/libexec/qemu-kvm",
        ] {
            world.remove(link);
        }
        world.link("usr/lib64/qemu/dangling.so", "/nowhere");
    })
}

/// Version 0.1.0 observed such a world. This one has other inodes and times, so contents decide.
#[test]
fn a_witness_of_0_1_0_is_judged_by_all_that_it_holds() {
    let world = world_of_0_1_0();
    let own = format!(
        " {}:{} ",
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw()
    );
    let witness = include_str!("../fixtures/witness-0.1.0.txt").replace(" 0:0 ", &own);
    let witness: Witness = witness.parse().unwrap();
    assert_eq!(sentences(&world.check(&witness)), [""; 0]);
    world.write(GTK, "after  1");
    world.write("usr/bin/qemu-system-arm", "after  2");
    world.remove("usr/lib64/qemu/below/a.so");
    world.write("usr/lib64/qemu/new.so", "");
    world.link("usr/lib64/qemu/dangling.so", "/elsewhere");
    world.set_permissions("etc/qemu/a.conf", 0o600);
    world.sh(&format!("touch {STAMP}"));
    let said = sentences(&world.check(&witness));
    let told = [
        "system stamp touched: ",
        "module below/a.so removed from /usr/lib64/qemu",
        "module dangling.so in /usr/lib64/qemu changed: its content differs",
        "module new.so added to /usr/lib64/qemu",
        "module ui-gtk.so in /usr/lib64/qemu changed: its content differs",
        "program /usr/bin/qemu-system-arm changed: its content differs",
        "file /etc/qemu/a.conf changed: its permissions were 0644, now 0600",
    ];
    assert_eq!(said.len(), told.len(), "{said:#?}");
    for (said, told) in said.iter().zip(told) {
        assert!(said.starts_with(told), "{said}");
    }
}

/// The verdict on a stored text, which may be anything.
fn of_text(text: &[u8], now: &Inputs) -> Verdict {
    Witness::from_bytes(text).map_or_else(Verdict::from, |witness| witness.judge(now))
}

#[test]
fn what_is_not_a_whole_witness_is_stale_and_says_why() {
    let world = World::new();
    let whole = world.profile.observe().unwrap().to_string();
    let now = world.profile.inputs().unwrap();
    assert!(of_text(whole.as_bytes(), &now).is_fresh());
    for length in 0..whole.len() {
        let verdict = of_text(&whole.as_bytes()[..length], &now);
        assert!(!verdict.is_fresh(), "cut off after {length} bytes");
    }
    for (text, expected) in [
        (&b""[..], "it is empty"),
        (b"\xff\xfe\x00", "it is not text in UTF-8"),
        (b"hello\n", "it does not begin with"),
        (
            b"modstamp-witness 3 qemu\nend 1\n",
            "it is of version 3, and this modstamp reads versions up to 2",
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
        let verdict = of_text(text, &now);
        let reasons = verdict.reasons_for_people(1).join("");
        assert!(reasons.contains(expected), "{reasons}");
    }
}

#[test]
fn check_says_by_its_exit_status_fresh_stale_or_not_asked() {
    let world = World::new();
    let file = world.path("w").display().to_string();
    fs::write(&file, world.output(&["observe"]).stdout).unwrap();
    let check = |arguments: &[&str]| {
        let output = world.output(&[&["check"], arguments].concat());
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    assert_eq!(check(&[&file]), (0, "fresh\n".to_owned()));
    assert_eq!(check(&["/no/such/file"]), (2, String::new()));
    assert_eq!(check(&[&file, "--profile", "missing"]), (2, String::new()));
    fs::write(world.module("new.so"), "").unwrap();
    let stale = "stale: module new.so added to /usr/lib64/qemu\n".to_owned();
    assert_eq!(check(&[&file]), (1, stale));
    fs::write(&file, "").unwrap();
    assert_eq!(check(&[&file]).0, 1);
}

#[test]
fn another_name_of_a_directory_makes_stale_once_it_is_one_of_another() {
    let world = World::new();
    world.link("usr/share/way", "/usr/lib64/qemu/below");
    world.link("usr/lib64/qemu/second", "/usr/share/way");
    let verdict = world.verdict(|w| w.link("usr/share/way", "/usr/share/plugins"));
    let told = "module second in /usr/lib64/qemu changed: its content differs";
    assert_eq!(sentences(&verdict), [told]);
}

#[test]
fn another_name_of_a_module_directory_makes_stale_when_it_comes_and_goes() {
    let world = World::new();
    let name = "usr/lib/x86_64-linux-gnu/qemu";
    fs::create_dir_all(world.path("usr/lib/x86_64-linux-gnu")).unwrap();
    let verdict = world.verdict(|w| w.link(name, "/usr/lib64/qemu"));
    let added = format!("module directory /{name} added");
    assert_eq!(sentences(&verdict), [added]);
    let verdict = world.verdict(|w| w.remove(name));
    let removed = format!("module directory /{name} removed");
    assert_eq!(sentences(&verdict), [removed]);
}

#[test]
fn a_way_that_goes_up_from_a_file_leads_nowhere() {
    let world = World::new();
    fs::create_dir(world.path("usr/share/step")).unwrap();
    world.link("usr/lib64/qemu/way.so", "/usr/share/step/../linked.so");
    let verdict = world.verdict(|w| {
        fs::remove_dir(w.path("usr/share/step")).unwrap();
        w.write("usr/share/step", "");
    });
    let told = "module way.so in /usr/lib64/qemu changed: its content differs";
    assert_eq!(sentences(&verdict), [told]);
}
