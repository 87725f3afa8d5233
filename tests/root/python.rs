//! The Python module with the C library that c.rs builds: its own tests in python/tests, its types,
//! and the programs in examples/.
//!
//! These tests need root to hide this machine's stamp from their touches.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use support::test::{self, Needs, Test, test};
use support::{executable, named, sources};

use crate::c;

const TESTS: &str = "python/tests/test_modstamp.py";

/// Python in an empty home, with the module and the C library of these sources.
fn python(home: &Path) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["400", "python3", "-W", "error"])
        .current_dir(home)
        .env("HOME", home)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .env("LD_LIBRARY_PATH", c::library())
        .env("PYTHONPATH", sources().join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The tests of python/tests, as `Class.test_promise`.
fn promises() -> Vec<String> {
    let text = fs::read_to_string(sources().join(TESTS)).unwrap();
    let mut class = "";
    let mut promises = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("class ") {
            class = rest.split('(').next().unwrap();
        } else if let Some(rest) = line.strip_prefix("    def test_") {
            let name = rest.split('(').next().unwrap();
            promises.push(format!("{class}.test_{name}"));
        }
    }
    promises
}

fn keep(promise: &str) {
    let home = tempfile::tempdir().unwrap();
    let mut python = python(home.path());
    let output = python.arg(sources().join(TESTS)).arg(promise).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // A test that Python left out would end otherwise.
    assert!(
        output.status.success() && said.ends_with("\nOK\n"),
        "{said}"
    );
}

/// A module, a profile and a program that lists the modules.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let modules = scratch.path().join("modules");
    fs::create_dir(&modules).unwrap();
    fs::write(modules.join("a.so"), "").unwrap();
    let profile = format!("module-directories = [{modules:?}]\n");
    fs::write(scratch.path().join("example.toml"), profile).unwrap();
    executable(
        &scratch.path().join("program"),
        format!("#!/bin/sh\necho probe >> probes\nls {modules:?}\n"),
    );
    scratch
}

fn the_cached_example_asks_again_only_after_a_change() {
    let scratch = scratch();
    let here = scratch.path();
    let ask = || {
        let output = python(here)
            .arg(sources().join("examples/cached.py"))
            .args(["./example.toml", "cache", "./program"])
            .output()
            .unwrap();
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{texts:?}");
        texts
    };
    assert_eq!(ask(), ["a.so\n", ""]);
    assert_eq!(ask(), ["a.so\n", ""]);
    fs::write(here.join("modules/b.so"), "").unwrap();
    let why = format!(
        "asked again: module b.so added to {}\n",
        here.join("modules").display()
    );
    assert_eq!(ask(), ["a.so\nb.so\n", &why]);
    assert_eq!(ask(), ["a.so\nb.so\n", ""]);
    let probes = fs::read_to_string(here.join("probes")).unwrap();
    assert_eq!(probes, "probe\nprobe\n");
}

fn the_daemon_in_python_checks_before_each_answer() {
    let scratch = scratch();
    let here = scratch.path();
    let mut daemon = python(here)
        .arg(sources().join("examples/daemon.py"))
        .args(["./example.toml", "./program"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = daemon.stdin.take().unwrap();
    let mut answers = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let mut ask = || {
        writeln!(requests, "request").unwrap();
        let lines = answers.by_ref().map(Result::unwrap);
        let lines = lines.take_while(|line| !line.is_empty());
        lines.collect::<Vec<String>>()
    };
    assert_eq!(ask(), ["new: a.so"]);
    assert_eq!(ask(), ["kept: a.so"]);
    let modules = here.join("modules");
    fs::write(modules.join("b.so"), "").unwrap();
    // The program adds a module this time.
    let program = format!("#!/bin/sh\nls {modules:?}\n> {modules:?}/c.so\n");
    executable(&here.join("program"), program);
    let modules = modules.display();
    let why = format!("asking again: module b.so added to {modules}");
    let once = format!("used once: module c.so added to {modules}");
    assert_eq!(ask(), [&why, &once, "new: a.so", "b.so"]);
    executable(&here.join("program"), format!("#!/bin/sh\nls {modules}\n"));
    assert_eq!(ask(), ["new: a.so", "b.so", "c.so"]);
    assert_eq!(ask(), ["kept: a.so", "b.so", "c.so"]);
    drop(requests);
    assert!(daemon.wait().unwrap().success());
}

fn the_module_and_its_examples_are_typed() {
    let scratch = tempfile::tempdir().unwrap();
    let consumer = scratch.path().join("consumer.py");
    // The decorator keeps the function's type, so the last line has the only fault.
    let text = "import modstamp\n\n\
                @modstamp.cached('cache')\n\
                def lengths(word: str) -> dict[str, int]:\n    return {word: len(word)}\n\n\
                word: int = lengths('word')['word']\n\
                lengths(1)\n";
    fs::write(&consumer, text).unwrap();
    let mypy = |paths: &[&Path]| {
        let mut mypy = Command::new("mypy");
        mypy.args(["--strict", "--python-version", "3.9", "--cache-dir"])
            .arg(scratch.path())
            .args(paths)
            .current_dir(sources())
            .env("MYPYPATH", sources().join("python"));
        String::from_utf8(mypy.output().unwrap().stdout).unwrap()
    };
    for path in [
        "python/modstamp",
        "examples/cached.py",
        "examples/daemon.py",
    ] {
        let said = mypy(&[Path::new(path)]);
        assert!(said.starts_with("Success: "), "{said}");
    }
    let said = mypy(&[&consumer]);
    let faults: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("error:"))
        .collect();
    assert!(faults.len() == 1 && faults[0].contains(":8: "), "{said}");
}

/// Root touches the system's stamp. `main` has hidden this machine's `/var/lib`.
pub fn tests() -> Vec<Test> {
    let needs = Needs::root_and(&[&c::PROGRAMS[..], &["python3", "mypy"]].concat());
    let own = promises().into_iter().map(|promise| {
        let (_, name) = promise.split_once(".test_").unwrap();
        test(name.to_owned(), &needs, move || keep(&promise))
    });
    let mut tests: Vec<Test> = own.collect();
    type Scenario = fn();
    let scenarios: &[(&str, Scenario)] = named![
        the_cached_example_asks_again_only_after_a_change,
        the_daemon_in_python_checks_before_each_answer,
        the_module_and_its_examples_are_typed,
    ];
    tests.extend(test::tests(&needs, scenarios));
    tests
}
