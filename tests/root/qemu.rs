//! `modstamp run` with a real QEMU: its answer is served until one of its modules comes or goes.
//!
//! These tests need qemu-system-x86_64 with hw-display-qxl.so as a module, as in Debian.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::test::{Needs, Test, test};
use support::{named, run, sources};

pub fn tests() -> Vec<Test> {
    let missing = match (find("/usr/bin", "qemu-system-x86_64"), modules()) {
        (Some(_), Some(_)) => None,
        _ => Some("qemu-system-x86_64 with hw-display-qxl.so".to_owned()),
    };
    let needs = Needs::root_and(&[]).and(missing.clone());
    let drawing = Needs::of(&["python3"]).and(missing);
    let of = |(name, scenario): &(&str, Scenario)| {
        let scenario = *scenario;
        test(*name, &needs, move || scenario(&Qemu::copy()))
    };
    let screen = test(
        "the_first_pages_screen_is_what_the_demo_prints_now",
        &drawing,
        the_first_pages_screen_is_what_the_demo_prints_now,
    );
    SCENARIOS.iter().map(of).chain([screen]).collect()
}

type Scenario = fn(&Qemu);

const SCENARIOS: &[(&str, Scenario)] = named![
    qemus_answer_is_served_until_a_module_goes_and_again_until_it_comes_back,
    qemus_answer_survives_a_redeploy_of_the_same_modules,
    a_qemu_that_is_replaced_is_asked_again,
    a_witness_of_qemus_modules_keeps_to_120_bytes_an_entry,
];

fn find(directory: &str, name: &str) -> Option<PathBuf> {
    Some(Path::new(directory).join(name)).filter(|path| path.exists())
}

/// The module directory of this machine's QEMU.
fn modules() -> Option<PathBuf> {
    let candidates = [
        "/usr/lib64/qemu",
        "/usr/lib/x86_64-linux-gnu/qemu",
        "/usr/lib/qemu",
    ];
    let found = candidates
        .iter()
        .find_map(|directory| find(directory, "hw-display-qxl.so"));
    found.and_then(|module| module.parent().map(Path::to_owned))
}

/// A QEMU in a scratch root. It looks for its modules beside itself (QEMU's `get_relocated_path`),
/// so it knows only those.
struct Qemu {
    scratch: tempfile::TempDir,
    program: PathBuf,
    modules: PathBuf,
}

impl Qemu {
    fn copy() -> Qemu {
        let scratch = tempfile::tempdir().unwrap();
        let below = |path: &Path| scratch.path().join(path.strip_prefix("/").unwrap());
        let (program, from) = (Path::new("/usr/bin/qemu-system-x86_64"), modules().unwrap());
        let modules = below(&from);
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(below(Path::new("/usr/bin"))).unwrap();
        support::executable(&below(program), fs::read(program).unwrap());
        support::run(
            Command::new("cp")
                .arg("-a")
                .arg(from.join("."))
                .arg(&modules),
        );
        Qemu {
            program: below(program),
            scratch,
            modules,
        }
    }

    /// The list that QEMU itself prints now.
    fn truth(&self) -> String {
        support::run(Command::new(&self.program).args(["-device", "help"]))
    }

    /// The answer through `modstamp run`, and whether QEMU was asked.
    fn ask(&self) -> (String, bool) {
        let output = Command::new(env!("CARGO_BIN_EXE_modstamp"))
            .args(["run", "--explain", "--root"])
            .arg(self.scratch.path())
            .arg("--cache")
            .arg(self.scratch.path().join("cache"))
            .arg("--")
            .arg(&self.program)
            .args(["-device", "help"])
            .output()
            .unwrap();
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{why}");
        (
            String::from_utf8(output.stdout).unwrap(),
            !why.contains("served from the cache"),
        )
    }

    #[track_caller]
    fn expect(&self, asked: bool, lists_qxl: bool) {
        let (answer, was_asked) = self.ask();
        assert_eq!(was_asked, asked);
        assert_eq!(answer, self.truth());
        assert_eq!(answer.contains("name \"qxl\""), lists_qxl);
    }
}

fn qemus_answer_is_served_until_a_module_goes_and_again_until_it_comes_back(qemu: &Qemu) {
    let (module, away) = (
        qemu.modules.join("hw-display-qxl.so"),
        qemu.scratch.path().join("qxl"),
    );
    qemu.expect(true, true);
    qemu.expect(false, true);
    fs::rename(&module, &away).unwrap();
    qemu.expect(true, false);
    qemu.expect(false, false);
    fs::rename(&away, &module).unwrap();
    qemu.expect(true, true);
    qemu.expect(false, true);
}

fn qemus_answer_survives_a_redeploy_of_the_same_modules(qemu: &Qemu) {
    qemu.expect(true, true);
    let copy = qemu.scratch.path().join("copy");
    support::run(Command::new("cp").arg("-r").arg(&qemu.modules).arg(&copy));
    fs::remove_dir_all(&qemu.modules).unwrap();
    fs::rename(copy, &qemu.modules).unwrap();
    qemu.expect(false, true);
}

fn a_qemu_that_is_replaced_is_asked_again(qemu: &Qemu) {
    qemu.expect(true, true);
    let mut bytes = fs::read(&qemu.program).unwrap();
    bytes.push(0); // another program that does the same
    fs::write(&qemu.program, bytes).unwrap();
    qemu.expect(true, true);
    qemu.expect(false, true);
}

fn a_witness_of_qemus_modules_keeps_to_120_bytes_an_entry(qemu: &Qemu) {
    let mut observe = Command::new(env!("CARGO_BIN_EXE_modstamp"));
    let witness = support::run(observe.args(["observe", "--root"]).arg(qemu.scratch.path()));
    let modules = fs::read_dir(&qemu.modules).unwrap().count();
    let is_entry = |line: &&str| {
        ["module ", "program "]
            .iter()
            .any(|what| line.starts_with(what))
    };
    let entries = witness.lines().filter(is_entry).count();
    assert!(entries > modules, "{witness}");
    assert!(
        witness.len() <= 120 * entries,
        "{} bytes of {entries}",
        witness.len()
    );
}

fn the_first_pages_screen_is_what_the_demo_prints_now() {
    let programs = Path::new(env!("CARGO_BIN_EXE_modstamp")).parent().unwrap();
    let drawn = run(Command::new("sh")
        .args(["-ec", "packaging/demo \"$0\" 2>&1 | packaging/screen"])
        .arg(programs)
        .current_dir(sources()));
    let kept = fs::read_to_string(sources().join("docs/demo.svg")).unwrap();
    assert!(
        drawn == kept,
        "`make screen` would draw another one: {drawn}"
    );
}
