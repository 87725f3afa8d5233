//! A command: its question, and its output, which is passed on and copied as it comes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::Access;

use crate::act::bound::MOST_BYTES;
use crate::act::not_kept::NotKept;
use crate::act::shelf::Shelf;
use crate::act::stored::{Part, Parts};
use crate::act::stream::Stream;
use crate::ground::error::Error;
use crate::ground::text::{Escaped, unescape};
use crate::observe::added::{self, Added};
use crate::observe::profile::Profile;

/// As much as a pipe holds: pipe(7).
const PIECE: usize = 64 * 1024;

/// The result of a command that has ended. `output` is an error if the output must not be kept.
pub(crate) struct Ran<'a> {
    pub(crate) status: ExitStatus,
    pub(crate) output: Result<Transcript<'a>, NotKept>,
}

/// The output of a command, each stream in a file of its own.
pub(crate) struct Transcript<'a> {
    shelf: &'a Shelf,
    /// The answer's name on the shelf.
    name: &'a OsStr,
    stdout: Copied,
    stderr: Copied,
}

/// The output of a command to one stream.
struct Copied {
    file: File,
    length: u64,
}

/// The program that a shell would start, as an absolute path.
///
/// # Errors
/// If there is none.
pub fn program_of(command: &Command) -> Result<PathBuf, Error> {
    let name = command.get_program();
    find(name, command).ok_or_else(|| {
        let remedy = "name a program that is in the PATH, or its path";
        Error::system("start the command", name, rustix::io::Errno::NOENT, remedy)
    })
}

fn find(name: &OsStr, command: &Command) -> Option<PathBuf> {
    // A relative path begins at the command's working directory. An empty one is that directory.
    let absolute = |path: PathBuf| match command.get_current_dir() {
        Some(directory) => std::path::absolute(directory.join(path)).ok(),
        None => std::path::absolute(path).ok(),
    };
    if name.as_bytes().contains(&b'/') {
        return absolute(PathBuf::from(name));
    }
    std::env::split_paths(&search_path(command))
        .filter_map(|directory| absolute(directory.join(name)))
        .find(|file| rustix::fs::access(file, Access::EXEC_OK).is_ok() && file.is_file())
}

/// The PATH in which the command is looked for: its own, if its caller sets one.
fn search_path(command: &Command) -> OsString {
    let own = command.get_envs().find(|(name, _)| *name == "PATH");
    let path = match own {
        Some((_, path)) => path.map(OsStr::to_owned),
        None => std::env::var_os("PATH"),
    };
    path.unwrap_or_else(|| "/bin:/usr/bin".into()) // as execvp(3) does without one
}

/// The directory that a command starts in, as an absolute path.
///
/// # Errors
/// If the system cannot tell it. Two such directories must not share an answer.
pub(crate) fn directory(command: &Command) -> Result<PathBuf, NotKept> {
    let found = match command.get_current_dir() {
        Some(directory) => std::path::absolute(directory),
        None => std::env::current_dir(),
    };
    found.map_err(|cause| {
        let remedy = "change to a directory that exists and that you may enter";
        NotKept::NotObserved(Error::system(
            "find the working directory",
            ".",
            cause,
            remedy,
        ))
    })
}

/// The line that tells one command from another. It has these words, in this order:
///
/// 1. the working directory
/// 2. the profile's root
/// 3. the profile's name
/// 4. the variables that the caller sets
/// 5. the inputs that the caller added to the profile
/// 6. the program
/// 7. the arguments
///
/// [`added_inputs`] and [`command_line`] read it.
pub(crate) fn question(
    profile: &Profile,
    directory: &Path,
    program: &Path,
    command: &Command,
) -> String {
    let root = profile.root().outside(Path::new("/"));
    let variables = variables(command);
    let added = added::to_text(&profile.added);
    let words = [
        directory.as_os_str(),
        root.as_os_str(),
        OsStr::new(profile.name()),
        &variables,
        &added,
        program.as_os_str(),
    ];
    let words = words.into_iter().chain(command.get_args());
    let words = words.map(|word| Escaped(word).to_string());
    words.collect::<Vec<_>>().join(" ")
}

/// The variables that the caller of a command sets or removes. A zero byte ends each, because no
/// variable has one in it.
fn variables(command: &Command) -> OsString {
    let mut variables = OsString::new();
    for (name, value) in command.get_envs() {
        variables.push(name);
        if let Some(value) = value {
            variables.push("=");
            variables.push(value);
        }
        variables.push("\0");
    }
    variables
}

/// The inputs that a question adds to its profile's.
pub(crate) fn added_inputs(question: &str) -> Vec<Added> {
    let text = question.split(' ').nth(4).and_then(unescape);
    text.and_then(|text| added::of_text(&text))
        .unwrap_or_default()
}

/// The directory that the command of a question starts in. Empty if the question has none.
pub(crate) fn working_directory(question: &str) -> PathBuf {
    let text = question.split(' ').next().and_then(unescape);
    text.map(PathBuf::from).unwrap_or_default()
}

/// The variables that a question sets, as “NAME=value”, or removes, as “NAME”.
pub(crate) fn variables_of(question: &str) -> Vec<OsString> {
    let text = question.split(' ').nth(3).and_then(unescape);
    let text = text.unwrap_or_default();
    let variables = text.as_bytes().split_inclusive(|byte| *byte == 0);
    let variables = variables.filter_map(|variable| variable.strip_suffix(b"\0"));
    variables
        .map(|variable| OsStr::from_bytes(variable).to_owned())
        .collect()
}

/// The program and the arguments of a question.
pub(crate) fn command_line(question: &str) -> String {
    let words = question.splitn(6, ' ').nth(5);
    words.unwrap_or_default().to_owned()
}

/// Runs a command without standard input. Passes each piece of its output on, and copies it to
/// `transcript`, unless there is none.
///
/// # Errors
/// If the command cannot be started, or if `pass_on` fails ([`Error::Output`]). A reader that left
/// (`EPIPE`) is no error: that stream then ends for the command, too.
pub(crate) fn run<'a>(
    command: &mut Command,
    mut transcript: Result<Transcript<'a>, NotKept>,
    mut pass_on: impl FnMut(Stream, &[u8]) -> io::Result<()>,
) -> Result<Ran<'a>, Error> {
    let streams = command.stdin(no_input()).stdout(Stdio::piped());
    let mut child = streams.stderr(Stdio::piped()).spawn().map_err(|error| {
        let remedy = "name a program that you may run";
        Error::system("start the command", command.get_program(), error, remedy)
    })?;
    drop(child.stdin.take());
    let stdout = child.stdout.take().map(OwnedFd::from);
    let stderr = child.stderr.take().map(OwnedFd::from);
    let pipes = [(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
    let pipes = pipes.into_iter();
    let pipes = pipes.filter_map(|(stream, pipe)| Some((stream, pipe?)));
    let mut failed = None;
    let read = read_all(pipes.collect(), |stream, bytes| {
        if let Err(error) = pass_on(stream, bytes) {
            transcript = Err(NotKept::ReaderLeft);
            if error.kind() != io::ErrorKind::BrokenPipe {
                failed.get_or_insert(error);
            }
            return false;
        }
        if let Ok(written) = &mut transcript {
            if let Err(error) = written.add(stream, bytes) {
                transcript = Err(error);
            }
        }
        true
    });
    let status = child.wait().map_err(|error| {
        let program = command.get_program();
        Error::system("wait for the command", program, error, "run it again")
    })?;
    if let Some(error) = failed.or(read.err()) {
        return Err(Error::Output(error));
    }
    let output = match status.success() {
        true => transcript,
        false => Err(NotKept::Failed),
    };
    Ok(Ran { status, output })
}

/// An input that has ended: `/dev/null`, or a pipe on a host without that device.
fn no_input() -> Stdio {
    File::open("/dev/null").map_or_else(|_| Stdio::piped(), Stdio::from)
}

/// Reads pipes to their ends, in the order in which something comes. Closes a pipe early if `each`
/// returns false.
fn read_all(
    mut pipes: Vec<(Stream, OwnedFd)>,
    mut each: impl FnMut(Stream, &[u8]) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    while !pipes.is_empty() {
        let mut ready = wait_for(&pipes)?.into_iter();
        let mut failed = None;
        pipes.retain(|(stream, pipe)| {
            if ready.next() != Some(true) {
                return true;
            }
            match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut buffer)) {
                Ok(0) => false,
                Ok(length) => each(*stream, &buffer[..length]),
                Err(errno) => {
                    failed = Some(errno);
                    false
                }
            }
        });
        if let Some(errno) = failed {
            return Err(errno.into());
        }
    }
    Ok(())
}

/// Waits until a pipe can be read, or has ended. Returns for each pipe whether that is so.
fn wait_for(pipes: &[(Stream, OwnedFd)]) -> io::Result<Vec<bool>> {
    let pipes = pipes.iter();
    let mut watched: Vec<PollFd> = pipes
        .map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN))
        .collect();
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut watched, None))?;
    let is_ready = |pipe: &PollFd| !pipe.revents().is_empty();
    Ok(watched.iter().map(is_ready).collect())
}

impl<'a> Transcript<'a> {
    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            stdout: self.stdout.part(),
            stderr: self.stderr.part(),
        }
    }

    /// An empty transcript of the answer `name`.
    ///
    /// # Errors
    /// If the shelf takes no file.
    pub(crate) fn new(shelf: &'a Shelf, name: &'a OsStr) -> Result<Transcript<'a>, NotKept> {
        let copy = || {
            Ok(Copied {
                file: shelf.scratch(name)?,
                length: 0,
            })
        };
        let (stdout, stderr) = (copy()?, copy()?);
        Ok(Transcript {
            shelf,
            name,
            stdout,
            stderr,
        })
    }

    fn add(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), NotKept> {
        if self.stdout.length + self.stderr.length + bytes.len() as u64 > MOST_BYTES {
            return Err(NotKept::TooLarge { most: MOST_BYTES });
        }
        let copy = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let written = copy.file.write_all_at(bytes, copy.length);
        written.map_err(|error| self.shelf.not_written(self.name, error))?;
        copy.length += bytes.len() as u64;
        Ok(())
    }
}

impl Copied {
    fn part(&self) -> Part<'_> {
        Part::File(&self.file, 0..self.length)
    }
}
