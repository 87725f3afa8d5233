//! What a cache of commands' output keeps, and what it believes. These tests need nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use modstamp::{Cache, Profile, Root, Stream, Verdict};

use crate::run::World;

#[test]
fn a_torn_answer_is_asked_again() {
    let world = World::new();
    world.ask();
    let mut names = fs::read_dir(world.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let answer = names.find(|path| path.extension().is_none()).unwrap();
    let whole = fs::read(&answer).unwrap();
    for length in (0..whole.len()).step_by(7) {
        fs::write(&answer, &whole[..length]).unwrap();
        assert_eq!(
            world.ask().0,
            "asked\nqxl.so\n",
            "cut off after {length} bytes"
        );
    }
    let (before, after) = (world.count(), whole.len().div_ceil(7) + 1);
    assert_eq!(before, after, "each torn one was asked again");
}

/// Starts ten callers at once; returns what each printed, and its exit status.
fn ten_at_once(world: &World) -> Vec<(String, Option<i32>)> {
    let start = || {
        let mut run = world.run();
        run.stdout(Stdio::piped()).stderr(Stdio::piped());
        run.spawn().unwrap()
    };
    let children: Vec<_> = (0..10).map(|_| start()).collect();
    let outputs = children.into_iter().map(|child| {
        let output = child.wait_with_output().unwrap();
        (
            String::from_utf8(output.stdout).unwrap(),
            output.status.code(),
        )
    });
    outputs.collect()
}

#[test]
fn callers_at_once_share_one_probe() {
    let world = World::new();
    world.command("sleep 0.5; ls $ROOT/usr/lib64/qemu");
    let all = |answer: &str| vec![(answer.to_owned(), Some(0)); 10];
    assert_eq!(ten_at_once(&world), all("qxl.so\n"));
    assert_eq!(world.count(), 1);
    // A stale answer makes no difference.
    fs::write(world.path("usr/lib64/qemu/zzz.so"), "").unwrap();
    assert_eq!(ten_at_once(&world), all("qxl.so\nzzz.so\n"));
    assert_eq!(world.count(), 2);
}

#[test]
fn callers_at_once_of_a_command_that_fails_ask_for_themselves() {
    let world = World::new();
    world.command("echo no; exit 3");
    assert_eq!(ten_at_once(&world), vec![("no\n".to_owned(), Some(3)); 10]);
    assert_eq!(world.count(), 10);
}

#[test]
fn a_caller_that_is_killed_while_it_asks_keeps_nobody_waiting() {
    let world = World::new();
    world.command("test -e $ROOT/quick || sleep 60; echo done");
    let mut first = world
        .run()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while world.count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    fs::write(world.path("quick"), "").unwrap();
    let start = Instant::now();
    assert_eq!(world.ask().0, "done\n");
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_caller_that_is_killed_leaves_no_half_written_file() {
    let world = World::new();
    world.command("test -e $ROOT/quick || sleep 60; echo done");
    let names = || {
        let names = fs::read_dir(world.path("cache")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let mut first = world.run().spawn().unwrap();
    while world.count() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // The first may have been killed before it removed its scratch file.
    let lock = names()
        .into_iter()
        .find(|name| name.ends_with(".modstamp-lock"));
    let lock = lock.unwrap();
    let question = lock.strip_suffix(".modstamp-lock").unwrap();
    let question = question.strip_prefix('.').unwrap().to_owned();
    // A caller that is killed while it writes an answer leaves such a file.
    // So does one with another question, which may never be asked again.
    for question in [&*question, "0123456789abcdef"] {
        let left = world.path(&format!("cache/.{question}.new.1234.0"));
        fs::write(left, "modstamp-cache 3").unwrap();
    }
    fs::write(world.path("quick"), "").unwrap();
    assert_eq!(world.ask().0, "done\n");
    assert_eq!(names(), [lock, question]);
}

#[test]
fn a_change_during_the_probe_is_never_kept() {
    for (during, why) in [
        (
            "echo > $MODULES/new.so",
            "module new.so added to /usr/lib64/qemu",
        ),
        (
            "rm $MODULES/qxl.so",
            "module qxl.so removed from /usr/lib64/qemu",
        ),
        (
            "printf QXL > $MODULES/qxl.so",
            "module qxl.so in /usr/lib64/qemu changed: its content differs",
        ),
        (
            "echo more >> $ROOT/usr/bin/qemu-system-arm",
            "program /usr/bin/qemu-system-arm changed: its size was",
        ),
        (
            "cp $0 $ROOT/new; echo >> $ROOT/new; mv $ROOT/new $0",
            "/ask changed: its size was",
        ),
        (
            "touch $ROOT/var/lib/modstamp/qemu.stamp",
            "system stamp touched",
        ),
        ("rm $ROOT/var/lib/modstamp/qemu.stamp", "system stamp gone"),
        // There and back again: the command saw a state that is neither before nor after.
        (
            "mv $MODULES/qxl.so $ROOT/x; ls $MODULES; mv $ROOT/x $MODULES/qxl.so",
            "qxl.so was touched during the probe, or changed and changed back",
        ),
        (
            "echo > $MODULES/new.so; ls $MODULES; rm $MODULES/new.so",
            "/usr/lib64/qemu was touched during the probe, or changed and changed back",
        ),
    ] {
        let world = World::new();
        for (path, text) in [
            ("usr/bin/qemu-system-arm", "arm"),
            ("var/lib/modstamp/qemu.stamp", ""),
        ] {
            let path = world.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        world.command(&format!(
            "MODULES=$ROOT/usr/lib64/qemu; test -e $ROOT/later || {{ {during}; }}; echo answer"
        ));
        let (_, told) = world.ask();
        assert!(told.contains("not kept: "), "{during}: {told}");
        assert!(told.contains(why), "{during}: {told}");
        fs::write(world.path("later"), "").unwrap();
        let (_, told) = world.ask();
        assert!(
            told.contains("asked: no answer was cached"),
            "{during}: {told}"
        );
        assert_eq!((world.ask().0.as_str(), world.count()), ("answer\n", 2));
    }
}

#[test]
fn status_shows_each_answer_with_its_verdict() {
    let world = World::new();
    let home = world.path("home");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command.args(arguments).arg("--root").arg(world.0.path());
        if arguments[0] == "run" {
            command.args(["--profile", "qemu", "--"]);
            command.arg(world.path("ask"));
        }
        command
            .env("HOME", "/home")
            .env_remove("XDG_CACHE_HOME")
            .env("ROOT", world.0.path());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    fs::create_dir(home).unwrap();
    run(&["run"]);
    let text = run(&["status"]);
    let shows = |line: &str| line.contains("cached answer") && line.ends_with(" fresh");
    assert!(text.lines().any(shows), "{text}");
    fs::remove_file(world.path("usr/lib64/qemu/qxl.so")).unwrap();
    let text = run(&["status"]);
    assert!(
        text.contains("stale: module qxl.so removed from /usr/lib64/qemu"),
        "{text}"
    );
    let json = run(&["status", "--json"]);
    assert!(
        json.contains("\"fresh\":false") && json.contains("\"cause\":\"removed\""),
        "{json}"
    );
}

#[test]
fn an_answer_that_others_could_have_written_is_asked_again_and_replaced() {
    let world = World::new();
    world.ask();
    let mut names = fs::read_dir(world.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let answer = names.find(|path| path.extension().is_none()).unwrap();
    type Loosen = fn(&std::path::Path);
    let ways: [(&str, Loosen); 4] = [
        ("can be written by every user", |answer| {
            fs::set_permissions(answer, fs::Permissions::from_mode(0o602)).unwrap();
        }),
        ("can be written by group ", |answer| {
            fs::set_permissions(answer, fs::Permissions::from_mode(0o660)).unwrap();
        }),
        ("is a symbolic link", |answer| {
            let moved = answer.with_extension("moved");
            fs::rename(answer, &moved).unwrap();
            std::os::unix::fs::symlink(moved, answer).unwrap();
        }),
        ("has 2 names", |answer| {
            fs::hard_link(answer, answer.with_extension("linked")).unwrap();
            let directory = answer.parent().unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).unwrap();
        }),
    ];
    for (count, (problem, loosen)) in (2..).zip(ways) {
        loosen(&answer);
        let (_, why) = world.ask();
        let expected = format!("modstamp: asked again: {} {problem}", answer.display());
        assert!(why.starts_with(&expected), "{why}");
        let rest = "so its answer is not believed; \
            remove it, or name a directory of your own\n";
        assert!(why.ends_with(rest), "{why}");
        let (_, why) = world.ask();
        assert_eq!(why, "modstamp: served from the cache: nothing changed\n");
        assert_eq!(world.count(), count, "{problem}");
    }
    // Other names do no harm if nobody else can link a file.
    fs::set_permissions(world.path("cache"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::hard_link(&answer, answer.with_extension("again")).unwrap();
    assert_eq!(
        world.ask().1,
        "modstamp: served from the cache: nothing changed\n"
    );
}

#[test]
fn an_answer_that_is_not_believed_costs_the_command_and_not_its_status() {
    let world = World::new();
    world.command("test ! -e $ROOT/fail || exit 3");
    world.ask();
    for entry in fs::read_dir(world.path("cache")).unwrap() {
        let path = entry.unwrap().path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    fs::write(world.path("fail"), "").unwrap();
    assert_eq!(world.output().status.code(), Some(3));
}

/// The cache of a world, its profile, and its command as a library user asks it.
fn library(world: &World) -> (Cache, Profile, Command) {
    let root = Root::open(world.0.path()).unwrap();
    let cache = Cache::open(&Root::system().unwrap(), &world.path("cache")).unwrap();
    let mut command = Command::new(world.path("ask"));
    command.env("ROOT", world.0.path());
    (cache, Profile::load_in("qemu", &root).unwrap(), command)
}

#[test]
fn a_library_user_gets_both_streams_and_the_status() {
    let world = World::new();
    world.command("echo out; echo err >&2");
    let (cache, profile, mut command) = library(&world);
    for verdict in [None, Some(Verdict::Fresh)] {
        let (output, outcome) = cache.output(&profile, &mut command).unwrap();
        assert_eq!(
            (&*output.stdout, &*output.stderr),
            (&b"out\n"[..], &b"err\n"[..])
        );
        assert!(output.status.success() && outcome.not_kept.is_none());
        assert_eq!(outcome.verdict, verdict);
    }
    world.command("exit 3");
    let (output, _) = cache.output(&profile, &mut command).unwrap();
    assert_eq!(output.status.code(), Some(3));
    let listed = cache.verdicts(&profile).unwrap();
    assert_eq!(listed[0].command, world.path("ask").display().to_string());
    assert!(!listed[0].verdict.is_fresh());
}

#[test]
fn a_command_that_fills_one_stream_while_the_other_is_empty_does_not_hang() {
    let world = World::new();
    world.command("yes | head -c 1000000 >&2; yes | head -c 1000000; echo end >&2");
    let (cache, profile, mut command) = library(&world);
    for _ in 0..2 {
        let (output, _) = cache.output(&profile, &mut command).unwrap();
        assert_eq!(output.stdout.len(), 1_000_000);
        assert_eq!(output.stderr.len(), 1_000_004);
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn a_reader_of_one_stream_that_leaves_still_gets_the_other_and_nothing_is_kept() {
    let world = World::new();
    world.command("echo out; sleep 0.1; echo err >&2");
    let (cache, profile, mut command) = library(&world);
    for kept in [false, true, true] {
        let (mut errors, mut pieces) = (Vec::new(), 0);
        let leaves = |stream, bytes: &[u8]| {
            pieces += 1;
            match stream {
                Stream::Stdout if !kept => Err(std::io::ErrorKind::BrokenPipe.into()),
                Stream::Stdout => Ok(()),
                Stream::Stderr => {
                    errors.extend_from_slice(bytes);
                    Ok(())
                }
            }
        };
        let outcome = cache.run(&profile, &mut command, leaves).unwrap();
        assert_eq!((&*errors, pieces), (&b"err\n"[..], 2));
        let why = outcome.not_kept.map(|why| why.to_string());
        let left = "the reader left before the command had printed all";
        assert_eq!(why.as_deref(), (!kept).then_some(left));
    }
    assert_eq!(world.count(), 2);
}

#[test]
fn a_look_for_a_cache_makes_none() {
    let world = World::new();
    let root = Root::system().unwrap();
    assert!(
        Cache::existing(&root, &world.path("cache"))
            .unwrap()
            .is_none()
    );
    assert!(!world.path("cache").exists());
    world.ask();
    assert!(
        Cache::existing(&root, &world.path("cache"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn another_working_directory_or_variable_of_the_command_is_another_question() {
    let world = World::new();
    world.command("pwd; echo $KIND");
    let (cache, profile, _) = library(&world);
    let command = |directory: &str, kind: &str| {
        let mut command = Command::new("ask"); // in the PATH of its own
        command.env("ROOT", world.0.path()).env("KIND", kind);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", world.0.path().display()));
        command.current_dir(directory);
        command
    };
    for _ in 0..2 {
        for (directory, kind) in [("/", "a"), ("/", "b"), ("/usr", "a")] {
            let (output, _) = cache
                .output(&profile, &mut command(directory, kind))
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text, format!("{directory}\n{kind}\n"));
        }
    }
    assert_eq!(world.count(), 3);
    world.command("echo new");
    let (output, _) = cache.output(&profile, &mut command("/", "a")).unwrap();
    assert_eq!(output.stdout, b"new\n");
}

#[test]
fn a_home_that_is_missing_below_the_root_leaves_its_parents_open_to_all() {
    let world = World::new();
    let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    run.args(["run", "--profile", "qemu", "--root"])
        .arg(world.path(""));
    run.arg("--").arg(world.path("ask"));
    run.env("ROOT", world.0.path()).env("HOME", "/srv/home/me");
    run.env_remove("XDG_CACHE_HOME");
    let output = run.output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let modes = [
        "srv",
        "srv/home",
        "srv/home/me",
        "srv/home/me/.cache",
        "srv/home/me/.cache/modstamp",
    ];
    let modes = modes.map(|below| {
        fs::metadata(world.path(below))
            .unwrap()
            .permissions()
            .mode()
    });
    assert_eq!(
        modes.map(|mode| mode & 0o7777),
        [0o755, 0o755, 0o700, 0o700, 0o700]
    );
}
