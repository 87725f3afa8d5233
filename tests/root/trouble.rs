//! The program that rpm's triggers start; touches and looks whose system calls fail; and the system
//! calls of a status.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use modstamp::{Durability, Mtime, Root, Stamp};
use support::named;
use support::test::{self, Needs, Test};

type Scenario = fn();

const SCENARIOS: &[(&str, Scenario)] = named![
    a_large_look_needs_no_second_thread,
    a_status_looks_at_each_module_once,
    a_body_that_rpms_program_cannot_read_moves_every_stamp_and_a_closed_pipe_ends_nothing,
    a_touch_that_only_the_disk_refuses_says_that_the_stamp_moved,
    a_touch_waits_for_the_disk_unless_it_is_told_not_to,
    run_prints_all_of_an_answer_without_threads_or_lseek,
    without_a_thread_a_touch_moves_the_stamp_and_says_why_it_did_no_more,
];

pub fn tests() -> Vec<Test> {
    test::tests(&Needs::root_and(&["strace"]), SCENARIOS).collect()
}

/// The system's stamp of a profile that no other test uses.
fn stamp(profile: &str) -> Stamp {
    Stamp::system(&Root::system().unwrap(), profile).unwrap()
}

fn touched(profile: &str) -> Mtime {
    let touched = stamp(profile).touch("a test", "", Durability::NotSynced);
    touched.unwrap().unwrap()
}

fn a_body_that_rpms_program_cannot_read_moves_every_stamp_and_a_closed_pipe_ends_nothing() {
    let profiles = ["trouble-1", "trouble-2"];
    let before = profiles.map(touched);
    let program = support::program("modstamp-rpm-trigger");
    let mut command = Command::new(program);
    command.arg("/no/such/body").stdin(Stdio::null());
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader); // Nobody reads the warnings.
    let status = command.stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
    for (profile, before) in profiles.iter().zip(before) {
        assert!(stamp(profile).mtime().unwrap() > Some(before));
    }
}

/// Runs a touch in a scratch root, with a failing system call.
fn touch_failing(inject: &str) -> (tempfile::TempDir, Output) {
    let scratch = tempfile::tempdir().unwrap();
    let modules: PathBuf = scratch.path().join("usr/lib64/qemu");
    fs::create_dir_all(modules).unwrap();
    let root = Root::open(scratch.path()).unwrap();
    let stamp = Stamp::system(&root, "qemu").unwrap();
    stamp.touch("a test", "", Durability::NotSynced).unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", inject]);
    command.arg(support::program("modstamp"));
    let command = command.args(["touch", "--root"]).arg(scratch.path());
    let output = command.output().unwrap();
    (scratch, output)
}

fn a_touch_that_only_the_disk_refuses_says_that_the_stamp_moved() {
    // The first fsync is that of the new stamp, before it takes its place.
    let (scratch, output) = touch_failing("inject=fsync:error=EIO:when=2+");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let sentence = "modstamp: cannot put on disk the touch of ";
    assert!(
        text.contains(sentence) && text.contains("it was touched"),
        "{text}"
    );
    let root = Root::open(scratch.path()).unwrap();
    let note = Stamp::system(&root, "qemu").unwrap().note().unwrap();
    assert!(note.by.starts_with("root"), "{note:?}");
}

fn a_touch_waits_for_the_disk_unless_it_is_told_not_to() {
    let scratch = tempfile::tempdir().unwrap();
    let stamps = scratch.path().join("var/lib/modstamp");
    let synced = |options: &[&str]| {
        let trace = scratch.path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-e", "trace=fsync", "-o"]);
        command.arg(&trace).arg(support::program("modstamp"));
        command.args(["touch", "--root"]).arg(scratch.path());
        support::run(command.args(options));
        let trace = fs::read_to_string(trace).unwrap();
        // Another thread can make strace write a call in two lines: “fsync(3<PATH> <unfinished ...>”.
        let has = |path: PathBuf| trace.contains(&format!("<{}>", path.display()));
        [has(stamps.join(".qemu.stamp.new")), has(stamps.clone())]
    };
    assert_eq!(synced(&[]), [true, true], "the stamp, and its name");
    assert_eq!(synced(&["--no-sync"]), [false, false]);
}

fn run_prints_all_of_an_answer_without_threads_or_lseek() {
    let scratch = tempfile::tempdir().unwrap();
    let ask = |tool: &[&str]| {
        let mut command = Command::new(tool[0]);
        command.args(&tool[1..]).arg(support::program("modstamp"));
        command.args(["run", "--profile", "qemu", "--cache"]);
        command.arg(scratch.path());
        support::run(command.args(["--", "echo", "answer"]))
    };
    let strace = ["strace", "-o", "/dev/null", "-e"];
    let without_lseek = [&strace[..], &["inject=lseek:error=EIO"]].concat();
    for _ in 0..2 {
        assert_eq!(ask(&without_lseek), "answer\n");
    }
    let without_threads = [&strace[..], &["inject=clone,clone3:error=EAGAIN"]].concat();
    assert_eq!(ask(&without_threads), "answer\n", "the cached answer");
}

fn without_a_thread_a_touch_moves_the_stamp_and_says_why_it_did_no_more() {
    let (scratch, output) = touch_failing("inject=clone,clone3:error=EAGAIN");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let sentence = "modstamp: warning: no thread could be started to look at the modules: ";
    assert!(text.starts_with(sentence), "{text}");
    assert!(text.contains("“modstamp update” does the rest"), "{text}");
    let root = Root::open(scratch.path()).unwrap();
    let note = Stamp::system(&root, "qemu").unwrap().note().unwrap();
    assert!(note.by.starts_with("root"), "{note:?}");
}

fn a_large_look_needs_no_second_thread() {
    let scratch = tempfile::tempdir().unwrap();
    let modules = scratch.path().join("usr/lib64/qemu");
    fs::create_dir_all(&modules).unwrap();
    for number in 0..5_000 {
        fs::write(modules.join(format!("{number}.so")), "before").unwrap();
    }
    let (witness, calls) = (scratch.path().join("witness"), scratch.path().join("calls"));
    let run = |arguments: &[&str]| {
        let mut command = Command::new("strace");
        let inject = [
            "-e",
            "trace=clone,clone3",
            "-e",
            "inject=clone,clone3:error=EAGAIN",
        ];
        command.args(["-f", "-o"]).arg(&calls).args(inject);
        command.arg(support::program("modstamp")).args(arguments);
        let output = command.arg("--root").arg(scratch.path()).output().unwrap();
        let calls = fs::read_to_string(&calls).unwrap();
        let has_tried = calls.contains("EAGAIN");
        let can_try = std::thread::available_parallelism().unwrap().get() > 1;
        assert_eq!(has_tried, can_try, "{calls}");
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (status, observed) = run(&["observe"]);
    assert_eq!(status, Some(0));
    fs::write(&witness, observed).unwrap();
    let check = ["check", witness.to_str().unwrap()];
    assert_eq!(run(&check), (Some(0), "fresh\n".to_owned()));
    fs::remove_file(modules.join("4999.so")).unwrap();
    let removed = "stale: module 4999.so removed from /usr/lib64/qemu\n";
    assert_eq!(run(&check), (Some(1), removed.to_owned()));
}

fn a_status_looks_at_each_module_once() {
    let scratch = tempfile::tempdir().unwrap();
    let modules = scratch.path().join("usr/lib64/qemu");
    fs::create_dir_all(&modules).unwrap();
    fs::write(modules.join("a-module.so"), "a module").unwrap();
    let calls = scratch.path().join("calls");
    for verb in ["status", "update", "status"] {
        let mut command = Command::new("strace");
        let trace = "trace=?newfstatat,?fstatat64";
        command.args(["-f", "-e", trace, "-o"]).arg(&calls);
        command.arg(support::program("modstamp")).arg(verb);
        support::run(command.arg("--root").arg(scratch.path()));
        let calls = fs::read_to_string(&calls).unwrap();
        let looks = calls.matches("\"a-module.so\"").count();
        assert!(verb == "update" || looks == 1, "{looks} in {calls}");
    }
}
