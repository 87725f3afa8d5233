//! Random bytes for everything that modstamp reads: the programs of tests/fuzz, in processes of
//! their own.
//!
//! The short form replays each target's corpus, and some ten thousand random mutations of it. In
//! the long form libFuzzer chooses the inputs, `MODSTAMP_FUZZ_SECONDS` for each target. Then the C
//! interface is also replayed under the address sanitizer, which finds lost memory, too.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use support::tally::{self, Promise};
use support::test::{Needs, Test, test};
use support::{kept, run, sources};

/// A target of tests/fuzz.
struct Target {
    name: &'static str,
    /// The random inputs of the short form.
    mutations: u32,
    /// The promise that each input tries to break, besides that of no panic.
    promise: Option<Promise>,
}

const TARGETS: [Target; 11] = [
    Target::new("profile", 10_000, None),
    Target::new("witness", 10_000, Some(Promise::NothingStaleIsFresh)),
    Target::new("answer", 4_000, Some(Promise::OwnAnswersOnly)),
    Target::new("kept-witness", 1_500, Some(Promise::NothingStaleIsFresh)),
    Target::new("record", 10_000, Some(Promise::NothingStaleIsFresh)),
    Target::new("libvirt-xml", 10_000, Some(Promise::NothingStaleIsFresh)),
    Target::new("stamp", 10_000, Some(Promise::StampKept)),
    Target::new("log", 10_000, None),
    Target::new("path-list", 10_000, None),
    Target::new("body", 10_000, None),
    Target::new("c-interface", 10_000, Some(Promise::NothingStaleIsFresh)),
];

impl Target {
    const fn new(name: &'static str, mutations: u32, promise: Option<Promise>) -> Target {
        Target {
            name,
            mutations,
            promise,
        }
    }

    /// Notes the inputs that were tried, and those by which the target's promise was.
    fn tally(&self, tried: u64, judged: u64) {
        println!("fuzz: {}: {tried} inputs", self.name);
        Promise::NoPanic.held_times(tried);
        if let Some(promise) = self.promise {
            promise.held_times(judged);
        }
    }

    /// Has one of the built programs replay the corpus and random mutations of it.
    fn replay(&self, program: &Path) {
        let scratch = scratch();
        let seed = seed();
        let arguments = [&self.mutations.to_string(), &seed];
        let mut command = in_own_state(scratch.path(), program);
        command
            .arg(self.name)
            .arg(corpus(self.name))
            .args(arguments);
        let output = command.output().unwrap();
        let said = said(&output);
        let again = format!("MODSTAMP_SEED={seed} repeats this");
        assert!(output.status.success(), "{}: {again}\n{said}", self.name);
        let number = |word: usize| said.split(' ').nth(word).unwrap().parse().unwrap();
        self.tally(number(1), number(3));
    }

    /// Lets libFuzzer choose the inputs.
    fn guide(&self) {
        let scratch = scratch();
        let [seeds, found] = ["seeds", "found"].map(|name| scratch.path().join(name));
        for directory in [&seeds, &found] {
            std::fs::create_dir(directory).unwrap();
        }
        let findings = kept().join("fuzz");
        let mut command = in_own_state(scratch.path(), &GUIDED);
        command
            .env("MODSTAMP_FUZZ_TARGET", self.name)
            .env("MODSTAMP_FUZZ_SCRATCH", scratch.path())
            .arg(format!("-max_total_time={}", *SECONDS))
            .arg(format!(
                "-artifact_prefix={}/{}-",
                findings.display(),
                self.name
            ))
            .args(["-timeout=30", "-max_len=16384", "-rss_limit_mb=2048"])
            .args(["-verbosity=0", "-print_final_stats=1"])
            .args([&found, &seeds, &corpus(self.name)]);
        let output = command.output().unwrap();
        let said = said(&output);
        let start = said.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
        assert!(output.status.success(), "{}: {}", self.name, &said[start..]);
        let count = said
            .lines()
            .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        let tried = count.expect(&said).trim().parse().unwrap();
        let judged = std::fs::read_to_string(scratch.path().join("judged"));
        self.tally(tried, judged.map_or(0, |text| text.parse().unwrap()));
    }
}

/// The seconds for which libFuzzer tries a target.
static SECONDS: LazyLock<u32> = LazyLock::new(|| {
    let seconds = std::env::var("MODSTAMP_FUZZ_SECONDS");
    seconds.map_or(30, |text| {
        text.parse().expect("MODSTAMP_FUZZ_SECONDS, a number")
    })
});

static PLAIN: LazyLock<PathBuf> = LazyLock::new(|| build("plain"));
static SANITIZED: LazyLock<PathBuf> = LazyLock::new(|| build("sanitized"));
static GUIDED: LazyLock<PathBuf> = LazyLock::new(|| build("guided"));

/// Builds a form of the programs.
fn build(form: &str) -> PathBuf {
    let script = sources().join("tests/fuzz/build");
    let target = kept().join("fuzz");
    run(Command::new(script).arg(form).arg(target))
        .trim()
        .into()
}

/// A command whose home is a scratch directory. Its touches reach no stamp of this machine.
fn in_own_state(scratch: &Path, program: &Path) -> Command {
    let script = r#"mount -t tmpfs none /var/lib; exec "$@""#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", script, "sh"])
        .arg(program);
    for name in [
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "QEMU_MODULE_DIR",
    ] {
        command.env_remove(name);
    }
    command.env_remove("SOURCE_DATE_EPOCH");
    command
        .env("HOME", scratch)
        .env("MODSTAMP_FUZZ_MAY_TOUCH", "1");
    command
}

fn corpus(target: &str) -> PathBuf {
    sources().join("tests/fuzz/corpus").join(target)
}

/// A scratch directory in memory, if that is possible.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn seed() -> String {
    std::env::var("MODSTAMP_SEED").unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_nanos().to_string()
    })
}

fn said(output: &Output) -> String {
    let said = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

pub fn tests() -> Vec<Test> {
    let replay = Needs::root_and(&["cargo", "cc", "mount", "unshare"]);
    let guide = Needs::root_and(&["cargo", "g++", "mount", "unshare"]);
    let is_long = tally::cases(false, true);
    let mut tests: Vec<Test> = Vec::new();
    for target in &TARGETS {
        let name = target.name.replace('-', "_");
        let name = |how| format!("any_{name}_keeps_every_promise::{how}");
        tests.push(test(name("replayed"), &replay, || target.replay(&PLAIN)));
        if is_long {
            tests.push(test(name("guided"), &guide, || target.guide()));
        }
        if is_long && target.name == "c-interface" {
            let sanitized = || target.replay(&SANITIZED);
            tests.push(test(name("sanitized"), &replay, sanitized));
        }
    }
    tests
}
