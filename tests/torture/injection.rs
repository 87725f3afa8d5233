//! Faults that strace(1) injects into the system calls of a program, and the calls that it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// A run that takes longer hangs. The longest documented wait is that for a lock.
const PATIENCE: Duration = Duration::from_secs(30);

/// A touch looks at the modules for two seconds at most.
const SLOW: Duration = Duration::from_secs(2);

/// The most faulty calls of a run that are shown.
const MOST_SHOWN: usize = 4;

/// The calls of one name that a trace counts under one number: one of each thread.
#[derive(Debug, Clone)]
pub struct Point {
    pub name: String,
    /// The value of strace's `when`.
    pub number: u32,
    /// The arguments in each thread.
    pub arguments: Vec<String>,
}

/// One fault.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call fails once.
    Fails(Point, &'static str),
    /// That call and all later ones of its name fail.
    FailsFrom(Point, &'static str),
    /// A signal ends the program just before the call.
    Killed(Point),
}

/// What a run of a program left.
pub struct Ran {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
    /// The faulty calls, as strace shows them.
    pub faulty: Vec<Injected>,
    /// Whether it took so long that a touch gives up its look at the modules.
    pub is_slow: bool,
}

/// A call that a fault hit.
#[derive(Debug)]
pub struct Injected {
    pub call: String,
    /// Whether the process had become another program, such as the command of `modstamp run`.
    pub is_foreign: bool,
}

impl Ran {
    /// Whether a fault hit the run.
    pub fn is_hit(&self) -> bool {
        let is_killed = self.signal == Some(9) || self.code == Some(128 + 9);
        is_killed || !self.faulty.is_empty()
    }
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { code, signal, .. } = self;
        let (out, err) = (String::from_utf8_lossy(&self.out), &self.err);
        write!(
            f,
            "code {code:?}, signal {signal:?}, out {out:.400?}, err {err:?}"
        )?;
        let faulty = self.faulty.iter().take(MOST_SHOWN);
        faulty
            .map(|call| &call.call)
            .try_for_each(|call| write!(f, "\n      {call}"))
    }
}

impl fmt::Display for Fault {
    /// The value of strace's option `--inject`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Fails(Point { name, number, .. }, error) => {
                write!(f, "{name}:error={error}:when={number}")
            }
            Fault::FailsFrom(Point { name, number, .. }, error) => {
                write!(f, "{name}:error={error}:when={number}+")
            }
            Fault::Killed(Point { name, number, .. }) => {
                write!(f, "{name}:signal=KILL:when={number}")
            }
        }
    }
}

/// Runs a command plainly.
pub fn run(command: &Command, input: &Path, scratch: &Path) -> Ran {
    finish(copy(command, command.get_program()), input, scratch)
}

/// Runs a command with faults, each a value of strace's `--inject`.
pub fn run_with(command: &Command, faults: &[String], input: &Path, scratch: &Path) -> Ran {
    let log = scratch.join("trace");
    let names = faults.iter().filter_map(|fault| fault.split(':').next());
    let names: Vec<&str> = names.chain(["execve"]).collect();
    let mut traced = under_strace(command, &log);
    // It is quicker, but strace 6.1 then delivers no signal.
    if !faults.iter().any(|fault| fault.contains(":signal=")) {
        traced.arg("--seccomp-bpf");
    }
    traced.arg(format!("--trace={}", names.join(",")));
    traced.args(faults.iter().map(|fault| format!("--inject={fault}")));
    traced.arg("--").arg(command.get_program());
    traced.args(command.get_args());
    let mut ran = finish(traced, input, scratch);
    ran.faulty = injected(&read(&log), own_starts(command));
    ran
}

/// The calls that a run makes, from the first line of its log on that has `start`.
///
/// strace counts the calls of each thread alone. A second `getppid` ends the calls that count.
pub fn points(command: &Command, start: &str, input: &Path, scratch: &Path) -> Vec<Point> {
    let log = scratch.join("trace");
    let ran = run_traced(command, &log, input, scratch);
    let log = read(&log);
    assert!(
        log.contains(start),
        "{command:?} never came to {start}: {ran:?}"
    );
    points_of(&log, start, own_starts(command))
}

/// Runs a command, and logs all calls of it and of all that it starts.
pub fn run_traced(command: &Command, log: &Path, input: &Path, scratch: &Path) -> Ran {
    let mut traced = under_strace(command, log);
    traced.arg("--").arg(command.get_program());
    traced.args(command.get_args());
    finish(traced, input, scratch)
}

/// Every call, as its process, its name and the rest of the line.
pub fn calls(log: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    log.lines().filter_map(|line| {
        let (process, rest) = line.split_once(' ')?;
        let (name, rest) = rest.trim_start().split_once('(')?;
        let is_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
        name.bytes().all(is_name).then_some((process, name, rest))
    })
}

fn points_of(log: &str, start: &str, own: usize) -> Vec<Point> {
    let foreign = foreign(log, own);
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut points: BTreeMap<(String, u32), BTreeSet<String>> = BTreeMap::new();
    let mut is_started = false;
    let mut loader: BTreeMap<&str, u32> = BTreeMap::new();
    let at = |text: &str| text.as_ptr().addr() - log.as_ptr().addr();
    for (process, name, rest) in calls(log) {
        let count = counts.entry((process, name)).or_default();
        *count += 1;
        let is_mark = format!("{name}({rest}").contains(start);
        if is_started && is_mark && name == "getppid" {
            break; // The C program is done with the library.
        }
        is_started |= is_mark;
        if !is_started {
            loader.insert(name, *count);
            continue;
        }
        // A fault in a thread's first calls would hit the loader's, which have the same numbers.
        let is_loaders = loader.get(name).is_some_and(|loaders| *count <= *loaders);
        let is_foreign = foreign.get(process).is_some_and(|from| *from < at(rest));
        if !is_foreign && !is_loaders {
            let texts = points.entry((name.to_owned(), *count)).or_default();
            texts.insert(rest.to_owned());
        }
    }
    let point = |((name, number), texts): (_, BTreeSet<String>)| Point {
        name,
        number,
        arguments: texts.into_iter().collect(),
    };
    points.into_iter().map(point).collect()
}

/// Where in the log each process became another program than the one that is tried. The process
/// that strace started becomes that one by its first `own` calls of execve.
fn foreign(log: &str, own: usize) -> BTreeMap<&str, usize> {
    let main = log.split(' ').next().unwrap_or_default();
    let mut at = 0;
    let mut own_so_far = 0;
    let mut found = BTreeMap::new();
    for line in log.split_inclusive('\n') {
        let process = line.split(' ').next().unwrap_or_default();
        if line.contains("execve") && line.ends_with(" = 0\n") {
            own_so_far += usize::from(process == main);
            if process != main || own_so_far > own {
                found.entry(process).or_insert(at);
            }
        }
        at += line.len();
    }
    found
}

/// chroot(8) becomes the program that it starts.
fn own_starts(command: &Command) -> usize {
    match command.get_program() == "chroot" {
        true => 2,
        false => 1,
    }
}

fn injected(log: &str, own: usize) -> Vec<Injected> {
    let foreign = foreign(log, own);
    let mut at = 0;
    let mut found = Vec::new();
    for line in log.split_inclusive('\n') {
        if line.contains("(INJECTED)") {
            let (process, call) = line.split_once(' ').unwrap_or_default();
            found.push(Injected {
                call: call.trim().to_owned(),
                is_foreign: foreign.get(process).is_some_and(|from| *from < at),
            });
        }
        at += line.len();
    }
    found
}

/// The beginning of a command that traces another one.
fn under_strace(command: &Command, log: &Path) -> Command {
    let mut traced = copy_environment(command, Command::new("strace"));
    traced.args([
        "--follow-forks",
        "--string-limit=200",
        "--quiet=all",
        "--output",
    ]);
    traced.arg(log);
    traced
}

fn copy(command: &Command, program: &std::ffi::OsStr) -> Command {
    let mut copy = copy_environment(command, Command::new(program));
    copy.args(command.get_args());
    copy
}

fn copy_environment(from: &Command, mut to: Command) -> Command {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    to
}

/// Runs a command to its end. Kills it if it hangs, with all that it started.
fn finish(mut command: Command, input: &Path, scratch: &Path) -> Ran {
    let [out, err] = ["out", "err"].map(|name| scratch.join(name));
    command.stdin(File::open(input).unwrap());
    command.stdout(File::create(&out).unwrap());
    command.stderr(File::create(&err).unwrap());
    command.process_group(0);
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            None => {
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                break child.wait().unwrap();
            }
        }
    };
    let is_late = start.elapsed() >= PATIENCE;
    Ran {
        code: status.code(),
        signal: status
            .signal()
            .map(|signal| if is_late { 0 } else { signal }),
        out: fs::read(&out).unwrap(),
        err: read(&err),
        faulty: Vec::new(),
        is_slow: start.elapsed() >= SLOW,
    }
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
