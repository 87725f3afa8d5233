//! A hostile user, what that user must not reach, and programs that stop at a chosen system call.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Gid, Pid, Signal, Uid, kill_process};

/// The hostile user, and the only group of theirs.
pub const USER: u32 = 65534;

/// Longer than any documented bound: a program that runs so long waits for ever.
pub const FOR_EVER: Duration = Duration::from_secs(25);

/// The longest run of a touch or a trigger, as the documents promise it.
pub const TRIGGER_BOUND: Duration = Duration::from_secs(5);

/// How much longer a program may take on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// Runs a program that must end within `bound`.
///
/// Whatever the program waits for makes every run slow. A busy machine does that now and then.
#[track_caller]
pub fn within(bound: Duration, mut run: impl FnMut() -> Ran) -> Ran {
    let mut last = run();
    for _ in 0..2 {
        if last.took <= bound + SLACK {
            break;
        }
        last = run();
    }
    assert!(
        last.took <= bound + SLACK,
        "longer than {bound:?}: {last:?}"
    );
    last
}

/// Runs `act` in a thread that has only the hostile user's rights.
pub fn as_user<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let with_their_rights = || {
        let (user, group) = (Uid::from_raw(USER), Gid::from_raw(USER));
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::thread::set_thread_res_gid(group, group, group).unwrap();
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        act()
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(with_their_rights);
        thread
            .join()
            .unwrap_or_else(|cause| std::panic::resume_unwind(cause))
    })
}

pub fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
}

/// All facts of a tree but the atimes: a program that only reads may move those.
pub fn listing(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut facts = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let kind = stat.file_type();
        let content = if kind.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            String::new()
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_fifo() || stat.len() > 1 << 20 {
            String::new()
        } else {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned()
        };
        let fact = format!(
            "inode {} mode {:o} owner {}:{} links {} size {} mtime {}.{} ctime {}.{}: {content}",
            stat.ino(),
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.nlink(),
            stat.len(),
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
        );
        facts.insert(path, fact);
    }
    facts
}

/// Fails if the tree is not as it was.
#[track_caller]
pub fn assert_unchanged(before: &BTreeMap<PathBuf, String>, top: &Path, context: &str) {
    let after = listing(top);
    let paths: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed = paths
        .into_iter()
        .filter(|path| before.get(*path) != after.get(*path));
    let changed: Vec<String> = changed
        .map(|path| {
            let (old, new) = (before.get(path), after.get(path));
            format!("{}\n    was {old:?}\n    is  {new:?}", path.display())
        })
        .collect();
    assert!(
        changed.is_empty(),
        "{context}: changed outside:\n{}",
        changed.join("\n")
    );
}

/// What a program did, and for how long it ran.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Ran {
    /// Runs a program without strace.
    #[track_caller]
    pub fn of(command: Command) -> Ran {
        Running::start(command).finish(|_| ())
    }
}

/// A program that is running, and writes into files.
struct Running {
    command: Command,
    child: Child,
    start: Instant,
    out: File,
    err: File,
}

impl Running {
    fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null());
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(out.try_clone().unwrap());
        command.stderr(err.try_clone().unwrap());
        Running {
            child: command.spawn().unwrap(),
            command,
            start: Instant::now(),
            out,
            err,
        }
    }

    /// Calls `meanwhile` every millisecond until the program ends.
    #[track_caller]
    fn finish(mut self, mut meanwhile: impl FnMut(u32)) -> Ran {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            meanwhile(self.child.id());
            if self.start.elapsed() > FOR_EVER {
                for child in children(self.child.id()) {
                    let _ = kill_process(child, Signal::KILL);
                }
                let _ = self.child.kill();
                let _ = self.child.wait();
                let (command, err) = (&self.command, text(&mut self.err));
                panic!("it still runs after {FOR_EVER:?}: {command:?}: {err}");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        Ran {
            status,
            out: text(&mut self.out),
            err: text(&mut self.err),
            took: self.start.elapsed(),
        }
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn children(parent: u32) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let list = list.unwrap_or_default();
    let ids = list.split_whitespace().filter_map(|id| id.parse().ok());
    ids.filter_map(Pid::from_raw).collect()
}

/// The system calls between which a name can come to lead elsewhere.
const CALLS: &str = "openat,newfstatat,statx,mkdirat,renameat,renameat2,unlinkat,readlinkat,\
    utimensat,fchmod,fchmodat,flock,access,faccessat,faccessat2,getdents64";

/// The program under strace(1), which injects `what` into each of [`CALLS`].
fn traced(program: &Command, log: &Path, what: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o"]).arg(log);
    strace.arg(format!("--trace=execve,{CALLS}"));
    strace.arg(format!("--inject={CALLS}:{what}"));
    strace.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    strace.current_dir("/");
    strace
}

/// A program's own calls, in the text of strace(1), with their numbers.
pub fn own_calls(program: &Command) -> Vec<(usize, String)> {
    let log = tempfile::NamedTempFile::new().unwrap();
    Ran::of(traced(program, log.path(), "signal=STOP:when=65535"));
    let log = fs::read_to_string(log.path()).unwrap();
    let main = log.split_once(' ').unwrap().0;
    let (mut number, mut calls) = (0, Vec::new());
    for line in log.lines() {
        let call = line.strip_prefix(main).unwrap_or_default().trim_start();
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        if name == "execve" || arguments.contains("ld.so.cache") || arguments.contains(".so.") {
            calls.clear(); // What the loader does comes before the program.
        }
        if CALLS.split(',').any(|known| known == name) {
            number += 1;
            calls.push((number, call.to_owned()));
        }
    }
    assert!(!calls.is_empty(), "{log}");
    calls
}

/// Runs a program, and stops it right after its calls `number` and `number + 1`. It goes on when
/// `at` returns, which gets the count of the stops. Call 0 is its start.
///
/// However slow this machine is, `at` is never too late.
#[track_caller]
pub fn stopped_at(program: &Command, number: usize, mut at: impl FnMut(usize) + Send) -> Ran {
    if number == 0 {
        at(1);
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let when = format!("signal=STOP:when={}..{}", number.max(1), number + 1);
    let mut stops = usize::from(number == 0);
    let mut seen = 0;
    let running = Running::start(traced(program, log.path(), &when));
    running.finish(|strace| {
        let Some(main) = children(strace).first().copied() else {
            return;
        };
        // The whole process stops, whichever of its threads made the call.
        let log = fs::read_to_string(log.path()).unwrap_or_default();
        let id = main.as_raw_nonzero().to_string();
        let is_stop =
            |line: &&str| line.starts_with(&id) && line.ends_with("stopped by SIGSTOP ---");
        let now = log.lines().filter(is_stop).count();
        if now > seen {
            seen = now;
            stops += 1;
            at(stops);
            kill_process(main, Signal::CONT).unwrap();
        }
    })
}
