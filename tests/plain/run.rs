//! `modstamp run`: a hit while nothing changed, the command itself otherwise. These tests need
//! nothing. What the cache keeps: `cache.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A scratch root with a module directory, and a command that counts how often it is asked.
pub struct World(pub tempfile::TempDir);

impl World {
    pub fn new() -> World {
        let world = World(tempfile::tempdir().unwrap());
        fs::create_dir_all(world.path("usr/lib64/qemu")).unwrap();
        fs::write(world.path("usr/lib64/qemu/qxl.so"), "qxl").unwrap();
        world.command("echo asked; ls $ROOT/usr/lib64/qemu");
        world
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Makes the script that is asked.
    pub fn command(&self, body: &str) {
        let path = self.path("ask");
        let script = format!("#!/bin/sh\necho >> $ROOT/count\n{body}\n");
        support::executable(&path, script);
    }

    pub fn run(&self) -> Command {
        let mut command = self.run_with(&["--profile", "qemu"]);
        command.arg(self.path("ask"));
        command
    }

    /// `run` with these options, up to the command.
    pub fn run_with(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_modstamp"));
        command
            .args(["run", "--explain", "--root"])
            .arg(self.0.path());
        command.arg("--cache").arg(self.path("cache"));
        command.args(options).arg("--");
        command.env("ROOT", self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn output(&self) -> Output {
        self.run().output().unwrap()
    }

    /// Returns what was printed, and what was explained.
    pub fn ask(&self) -> (String, String) {
        let output = self.output();
        assert!(output.status.success(), "{output:?}");
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    pub fn count(&self) -> usize {
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
fn two_working_directories_without_a_path_share_no_answer() {
    let world = World::new();
    for _ in 0..2 {
        let run = world.run();
        let mut lost = Command::new("sh");
        lost.args([
            "-c",
            "mkdir gone && cd gone && rmdir ../gone && exec \"$@\"",
            "sh",
        ]);
        lost.arg(run.get_program()).args(run.get_args());
        lost.env("ROOT", world.0.path()).current_dir(world.0.path());
        let output = lost.output().unwrap();
        assert_eq!(output.stdout, b"asked\nqxl.so\n", "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let why = "not kept: cannot find the working directory .: No such file or directory";
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(world.count(), 2);
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
            run.args(["run", "--profile", "qemu", "--cache"])
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
