//! `modstamp run` and `Cache`: a hit while nothing changed, the command itself otherwise. These
//! tests need nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use modstamp::{Cache, Profile, Root, Stream, Verdict};

/// A scratch root with a module directory, and a command that counts how often it is asked.
struct World(tempfile::TempDir);

impl World {
    fn new() -> World {
        let world = World(tempfile::tempdir().unwrap());
        fs::create_dir_all(world.path("usr/lib64/qemu")).unwrap();
        fs::write(world.path("usr/lib64/qemu/qxl.so"), "qxl").unwrap();
        world.command("echo asked; ls $ROOT/usr/lib64/qemu");
        world
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Makes the script that is asked.
    fn command(&self, body: &str) {
        let path = self.path("ask");
        let script = format!("#!/bin/sh\necho >> $ROOT/count\n{body}\n");
        support::executable(&path, script);
    }

    fn run(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(["run", "--explain", "--root"])
            .arg(self.0.path());
        command
            .arg("--cache")
            .arg(self.path("cache"))
            .arg("--")
            .arg(self.path("ask"));
        command.env("ROOT", self.0.path()).stdin(Stdio::null());
        command
    }

    fn output(&self) -> Output {
        self.run().output().unwrap()
    }

    /// Returns what was printed, and what was explained.
    fn ask(&self) -> (String, String) {
        let output = self.output();
        assert!(output.status.success(), "{output:?}");
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    fn count(&self) -> usize {
        fs::read(self.path("count")).map_or(0, |bytes| bytes.len())
    }
}

#[test]
fn an_answer_is_served_while_nothing_changed_and_asked_again_once_something_did() {
    let world = World::new();
    let (first, why) = world.ask();
    assert_eq!(
        (first.as_str(), why.as_str()),
        ("asked\nqxl.so\n", "modstamp: asked: no answer was cached\n")
    );
    let (second, why) = world.ask();
    assert_eq!(
        (second, why.as_str()),
        (first, "modstamp: served from the cache: nothing changed\n")
    );
    assert_eq!(world.count(), 1);
    fs::write(world.path("usr/lib64/qemu/gtk.so"), "gtk").unwrap();
    let (third, why) = world.ask();
    assert_eq!(third, "asked\ngtk.so\nqxl.so\n");
    assert_eq!(
        why,
        "modstamp: asked again: module gtk.so added to /usr/lib64/qemu\n"
    );
    world.ask();
    assert_eq!(world.count(), 2);
}

#[test]
fn a_touch_asks_again_once() {
    let world = World::new();
    world.ask();
    let mut touch = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    assert!(
        touch
            .args(["touch", "--root"])
            .arg(world.0.path())
            .status()
            .unwrap()
            .success()
    );
    assert!(world.ask().1.contains("asked again: system stamp touched"));
    world.ask();
    assert_eq!(world.count(), 2);
}

#[test]
fn a_command_that_is_itself_replaced_is_asked_again() {
    let world = World::new();
    world.ask();
    world.command("echo other");
    let (text, why) = world.ask();
    assert_eq!(text, "other\n");
    assert!(
        why.contains("command ") && why.contains("/ask changed"),
        "{why}"
    );
}

#[test]
fn other_arguments_and_another_working_directory_are_other_questions() {
    let world = World::new();
    world.command("echo $#; pwd");
    let ask = |directory: &str, arguments: &[&str]| {
        let output = world
            .run()
            .args(arguments)
            .current_dir(directory)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for _ in 0..2 {
        assert_eq!(ask("/", &[]), "0\n/\n");
        assert_eq!(ask("/", &["a b"]), "1\n/\n");
        assert_eq!(ask("/", &["a", "b"]), "2\n/\n");
        assert_eq!(ask("/usr", &[]), "0\n/usr\n");
    }
    assert_eq!(world.count(), 4);
}

#[test]
fn both_streams_are_served_each_to_its_own() {
    let world = World::new();
    world.command("echo out; echo err >&2");
    for _ in 0..2 {
        let (out, err) = world.ask();
        assert_eq!(out, "out\n");
        assert!(err.starts_with("err\nmodstamp: "), "{err}");
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn a_command_that_fails_or_is_killed_keeps_its_status_and_is_not_kept() {
    let world = World::new();
    for (body, status) in [
        ("echo no; exit 3", 3),
        ("kill -9 $$", 137),
        ("exit 255", 255),
    ] {
        world.command(body);
        let before = world.count();
        for _ in 0..2 {
            let output = world.output();
            assert_eq!(output.status.code(), Some(status), "{body}");
            let why = String::from_utf8(output.stderr).unwrap();
            assert!(
                why.ends_with("modstamp: not kept: the command failed\n"),
                "{why}"
            );
        }
        assert_eq!(world.count(), before + 2, "{body}");
    }
}

#[test]
fn a_failure_does_not_cost_the_answer_of_before() {
    let world = World::new();
    world.command("test ! -e $ROOT/fail && echo good");
    world.ask();
    fs::write(world.path("fail"), "").unwrap();
    fs::write(world.path("usr/lib64/qemu/gtk.so"), "").unwrap();
    assert_eq!(world.output().status.code(), Some(1));
    fs::remove_file(world.path("usr/lib64/qemu/gtk.so")).unwrap();
    assert_eq!(world.ask().0, "good\n");
    assert_eq!(world.count(), 2);
}

#[test]
fn a_command_that_cannot_be_started_says_so() {
    let world = World::new();
    fs::remove_file(world.path("ask")).unwrap();
    let output = world.output();
    assert_eq!(output.status.code(), Some(127));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("cannot start the command") && text.contains("/ask: No such file"),
        "{text}"
    );
}

#[test]
fn a_hundred_megabytes_are_passed_on_and_served_whole() {
    let world = World::new();
    world.command("yes 0123456789abcde | head -c 104857600");
    for _ in 0..2 {
        let output = world.output();
        assert_eq!(output.stdout.len(), 100 << 20);
        assert!(
            output
                .stdout
                .chunks(16)
                .all(|line| line == b"0123456789abcde\n")
        );
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let world = World::new();
    world.command("yes");
    let mut child = world
        .run()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap(); // yes(1) itself would run for ever.
    assert_eq!(status.code(), Some(128 + 13));
}

#[test]
fn a_cache_that_cannot_be_written_just_runs_the_command() {
    let world = World::new();
    fs::write(world.path("cache"), "a file where the directory should be").unwrap();
    for _ in 0..2 {
        let (text, why) = world.ask();
        assert_eq!(text, "asked\nqxl.so\n");
        assert!(
            why.contains("cannot use the cache") && why.contains("without a cache"),
            "{why}"
        );
    }
    assert_eq!(world.count(), 2);
}

#[test]
fn a_cache_that_others_can_write_is_not_believed() {
    let world = World::new();
    world.ask();
    fs::set_permissions(world.path("cache"), fs::Permissions::from_mode(0o777)).unwrap();
    let (_, why) = world.ask();
    assert!(why.contains("refused to use the cache"), "{why}");
    assert_eq!(world.count(), 2);
}

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
    fs::write(
        world.path(&format!("cache/.{question}.modstamp-new-1234-0")),
        "modstamp-cache 1",
    )
    .unwrap();
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
fn a_program_that_comes_is_seen_though_its_directory_was_searched_before() {
    let world = World::new();
    fs::create_dir_all(world.path("usr/bin")).unwrap();
    fs::write(world.path("usr/bin/qemu-system-x86_64"), "").unwrap();
    let settle = || std::thread::sleep(support::world::SETTLED);
    settle();
    fs::write(world.path("usr/bin/qemu-other"), "").unwrap();
    world.ask(); // It cannot rely on the directory yet; a later hit learns that it can.
    settle();
    world.ask();
    world.ask();
    assert_eq!(world.count(), 1);
    let names = fs::read_dir(world.path("cache"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut texts =
        names.map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
    assert!(
        texts.any(|text| text.contains("\nsearched ")),
        "the search was not remembered"
    );
    let profile = world.path("etc/modstamp/profiles.d/qemu.toml");
    fs::create_dir_all(profile.parent().unwrap()).unwrap();
    fs::write(&profile, "programs = [\"/usr/bin/qemu-*\"]").unwrap();
    let (_, why) = world.ask();
    assert!(why.contains("program /usr/bin/qemu-other added"), "{why}");
    fs::remove_file(profile).unwrap();
    world.ask();
    fs::write(world.path("usr/bin/qemu-system-arm"), "").unwrap();
    assert!(
        world
            .ask()
            .1
            .contains("program /usr/bin/qemu-system-arm added")
    );
    fs::remove_file(world.path("usr/bin/qemu-system-x86_64")).unwrap();
    assert!(
        world
            .ask()
            .1
            .contains("program /usr/bin/qemu-system-x86_64 removed")
    );
}

#[test]
fn a_command_from_a_relative_directory_of_the_path_is_watched_too() {
    for path in ["", "bin", "."] {
        let world = World::new();
        let directory = world.path("").join(path);
        let ask = || {
            let mut run = Command::new(env!("CARGO_BIN_EXE_modstamp"));
            run.args(["run", "--cache"])
                .arg(world.path("cache"))
                .args(["--", "ask"]);
            run.current_dir(world.path(""))
                .env("PATH", format!("{path}:/usr/bin:/bin"));
            String::from_utf8(run.env("ROOT", world.path("")).output().unwrap().stdout).unwrap()
        };
        fs::create_dir_all(&directory).unwrap();
        for answer in ["one\n", "two\n"] {
            world.command(&format!("echo {}", answer.trim()));
            if path == "bin" {
                let ask = fs::read(world.path("ask")).unwrap();
                support::executable(&directory.join("ask"), ask);
            }
            assert_eq!([ask(), ask()], [answer, answer], "PATH={path}:…");
        }
    }
}

#[test]
fn module_directories_that_are_searched_for_stay_found() {
    let world = World::new();
    fs::create_dir_all(world.path("run/qemu/10.0")).unwrap();
    fs::write(world.path("run/qemu/10.0/a.so"), "").unwrap();
    std::thread::sleep(support::world::SETTLED);
    for _ in 0..3 {
        world.ask();
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn what_cannot_be_passed_on_is_an_error() {
    let world = World::new();
    let to_full = || {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = world.run().stdout(full).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.contains("cannot pass on what the command printed: No space"),
            "{text}"
        );
        output.status.code()
    };
    assert_eq!(to_full(), Some(1));
    world.ask();
    assert_eq!(
        to_full(),
        Some(1),
        "and so it is where it comes from the cache"
    );
    assert_eq!(world.ask().0, "asked\nqxl.so\n");
}

#[test]
fn a_long_command_line_is_cached_too() {
    let world = World::new();
    world.command("echo $#");
    let numbers: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
    for _ in 0..2 {
        assert_eq!(
            world.run().args(&numbers).output().unwrap().stdout,
            b"5000\n"
        );
    }
    assert_eq!(world.count(), 1);
}

#[test]
fn standard_input_is_not_eaten() {
    let world = World::new();
    world.command("cat");
    let script = r#"printf 'a\nb\n' | { "$@" >/dev/null 2>&1; cat; }"#;
    let run = world.run();
    let output = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(run.get_program())
        .args(run.get_args())
        .env("ROOT", world.0.path())
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"a\nb\n");
}

#[test]
fn status_shows_each_answer_with_its_verdict() {
    let world = World::new();
    let home = world.path("home");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(arguments)
            .arg("--root")
            .arg(world.0.path())
            .arg("--");
        if arguments[0] == "run" {
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
