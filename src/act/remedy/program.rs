//! A program that a remedy runs. Only root or the caller can have put it there, and it ends in
//! time.
//!
//! The program gets no standard input and a fixed `PATH`. Of the caller's variables it gets only
//! those that name a user's own directories. It runs in a process group of its own. At the end of
//! its time the whole group is killed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::act::remedy::find::Found;
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::ground::environment::variable;
use crate::ground::error::Error;
use crate::ground::text::one_line;
use crate::ground::time::Deadline;
use crate::observe::foreign_cache::Program;
use crate::stamp::stamp::Owner;

/// The directories of programs. A name is looked for there.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The most bytes of output that are kept in memory. Earlier ones are dropped.
const MOST_OUTPUT: usize = 64 << 10;

/// The most lines of output that are kept for people: the last ones.
const MOST_LINES: usize = 8;

/// The time between the request to end (SIGTERM) and the kill.
const GRACE: Duration = Duration::from_secs(2);

/// The longest time between two polls of a process, if the kernel cannot report its end.
const PAUSE: Duration = Duration::from_millis(20);

/// The variables that name a user's own directories.
const OF_USER: [&str; 8] = [
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_DIRS",
    "XDG_DATA_DIRS",
];

/// How a program ended.
pub(crate) enum End {
    Exited(ExitStatus),
    /// It was killed at the end of its time.
    TooLong,
}

/// Finds the programs that `program` names. To find none is no error.
///
/// # Errors
/// If somebody else could replace one, or if it cannot be started.
pub(crate) fn find(root: &Root, program: &Program) -> Result<Vec<PathBuf>, Error> {
    let name = match program {
        Program::Name(name) => name,
        Program::Path(glob) => {
            let found = Found::search(root, std::slice::from_ref(glob));
            if let Some(theirs) = found.theirs.into_iter().next() {
                let (path, owner) = (theirs.path, theirs.owner);
                return Err(Error::Untrusted {
                    attempt: "run the remedy",
                    culprit: path.clone(),
                    path,
                    problem: format!("belongs to user {owner}"),
                });
            }
            if let Some(error) = found.errors.into_iter().next() {
                return Err(error);
            }
            let paths = found.files.into_iter().map(|file| file.path);
            let paths: Vec<PathBuf> = paths.collect();
            for path in &paths {
                check(root, path)?;
            }
            return Ok(paths);
        }
    };
    for directory in PATH.split(':') {
        let path = Path::new(directory).join(name);
        if check(root, &path)? {
            return Ok(vec![path]);
        }
    }
    Ok(Vec::new())
}

/// Whether there is a program at `path`.
///
/// # Errors
/// If somebody else could replace it, or if it cannot be started.
fn check(root: &Root, path: &Path) -> Result<bool, Error> {
    const ATTEMPT: &str = "run the remedy";
    let remedy = "name a program that can be started";
    let refused = |cause: io::Error| Error::system(ATTEMPT, path, cause, remedy);
    let place = match root.place(path, Steps::Trusted) {
        Ok(place) => place,
        Err(stop) if stop.is_missing() => return Ok(false),
        Err(stop @ Stop::Untrusted { .. }) => {
            return Err(stop.into_error(ATTEMPT, root.outside(path), remedy));
        }
        Err(stop) => return Err(refused(stop.into())),
    };
    let stat = rustix::fs::fstat(place).map_err(|errno| refused(errno.into()))?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(refused(io::Error::other("it is not a regular file")));
    }
    match mode.intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH) {
        true => Ok(true),
        false => Err(refused(Errno::ACCESS.into())),
    }
}

/// Runs a program to its end, or to the end of its time. Returns the last lines of its output, too.
///
/// # Errors
/// If it cannot be started or waited for.
pub(crate) fn run(
    program: &Path,
    arguments: &[String],
    owner: Owner,
    time_limit: Duration,
) -> io::Result<(End, Vec<String>)> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/").process_group(0);
    command.env_clear().envs(environment(owner));
    command.stdin(File::open("/dev/null").map_or_else(|_| Stdio::null(), Stdio::from));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Everybody must be able to read the system's caches, whatever umask root has.
    let umask =
        (owner == Owner::System).then(|| rustix::process::umask(Mode::from_raw_mode(0o022)));
    let child = command.spawn();
    umask.map(rustix::process::umask);
    let mut child = child?;
    let pipes = [
        child.stdout.take().map(OwnedFd::from),
        child.stderr.take().map(OwnedFd::from),
    ];
    let mut running = Running {
        end: pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok(),
        child,
        pipes: pipes.into_iter().flatten().collect(),
        output: VecDeque::new(),
    };
    let status = running.watch(Deadline::after(time_limit))?;
    let end = match status {
        Some(status) => End::Exited(status),
        None => {
            running.kill()?;
            End::TooLong
        }
    };
    running.drain();
    Ok((end, last_lines(running.output)))
}

fn environment(owner: Owner) -> Vec<(&'static str, OsString)> {
    let mut variables = vec![("PATH", PATH.into()), ("LC_ALL", "C.UTF-8".into())];
    if owner == Owner::User {
        let own = OF_USER
            .iter()
            .filter_map(|name| Some((*name, variable(name)?)));
        variables.extend(own);
    }
    variables
}

/// A program that runs.
struct Running {
    child: Child,
    /// Becomes readable when the program ends. `None` if the kernel has no such descriptor.
    end: Option<OwnedFd>,
    pipes: Vec<OwnedFd>,
    output: VecDeque<u8>,
}

impl Running {
    /// Waits for the program's end, and reads its output meanwhile. `None` at the `deadline`.
    ///
    /// A process that the program leaves behind may hold its output open. Nothing waits for that.
    fn watch(&mut self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let left = deadline.left();
            if left.is_zero() {
                return Ok(None);
            }
            let pause = if self.end.is_some() {
                left
            } else {
                left.min(PAUSE)
            };
            self.read(pause)?;
        }
    }

    /// Waits for output or for the end of the program. Reads the output, and returns its length.
    fn read(&mut self, pause: Duration) -> io::Result<usize> {
        let watched = self.pipes.iter().chain(&self.end);
        let mut watched: Vec<PollFd> = watched.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let timeout = Timespec {
            tv_sec: pause.as_secs() as i64,
            tv_nsec: pause.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut watched, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = watched.iter().map(|fd| !fd.revents().is_empty());
        let ready: Vec<bool> = ready.by_ref().take(self.pipes.len()).collect();
        let (mut ready, mut total) = (ready.into_iter(), 0);
        let output = &mut self.output;
        self.pipes.retain(|pipe| {
            if ready.next() != Some(true) {
                return true;
            }
            let mut buffer = [0; 16 << 10];
            match rustix::io::read(pipe.as_fd(), &mut buffer) {
                Ok(0) => false,
                Ok(length) => {
                    total += length;
                    output.extend(&buffer[..length]);
                    let surplus = output.len().saturating_sub(MOST_OUTPUT);
                    output.drain(..surplus);
                    true
                }
                Err(Errno::INTR | Errno::AGAIN) => true,
                Err(_) => false,
            }
        });
        Ok(total)
    }

    /// Reads the rest in the pipes. The limit is for other processes that write on without end.
    fn drain(&mut self) {
        self.end = None;
        let mut total = 0;
        while total < 2 * MOST_OUTPUT {
            match self.read(Duration::ZERO) {
                Ok(length @ 1..) => total += length,
                _ => return,
            }
        }
    }

    /// Ends the whole process group.
    ///
    /// It does not wait long for a process that the kernel cannot end, as on a hanging disk.
    fn kill(&mut self) -> io::Result<()> {
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::TERM);
        let ended = self.watch(Deadline::after(GRACE))?;
        // The group outlives the program if it left others behind.
        let _ = kill_process_group(group, Signal::KILL);
        if ended.is_none() {
            self.watch(Deadline::after(GRACE))?;
        }
        Ok(())
    }
}

/// The last lines of an output, as printable text.
fn last_lines(output: VecDeque<u8>) -> Vec<String> {
    let output: Vec<u8> = output.into();
    let text = String::from_utf8_lossy(&output);
    let lines = text.lines().rev().filter(|line| !line.trim().is_empty());
    let mut lines: Vec<String> = lines.take(MOST_LINES).map(one_line).collect();
    lines.reverse();
    lines
}
