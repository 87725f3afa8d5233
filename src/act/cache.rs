//! The cache of what commands print, each with the witness that it was asked under.
//!
//! An answer is one file, named by the hash of what was asked, and replaced by rename, so that a reader finds a whole
//! one or none:
//!
//! ```text
//! modstamp-cache 1 WITNESS-BYTES STDOUT-BYTES STDERR-BYTES
//! WORKING-DIRECTORY ROOT PROFILE PROGRAM ARGUMENT …
//! the witness, the standard output and the standard error, one behind the other
//! ```
//!
//! An answer is believed only if nobody but its reader and root could have written its file. So
//! another user's file in a directory such as `/tmp` costs a probe, and is never served.
//!
//! Callers that ask the same at once take turns by a lock on a file beside it; all but the first then find the answer.
//! The kernel ends a lock with its holder, so that a caller that is killed keeps nobody waiting.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{Access, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::files::lock::{Lock, open_private};
use crate::files::root::{Root, Steps};
use crate::files::trust::{can_others_add, why_not_believed};
use crate::ground::error::{Error, Result};
use crate::ground::text::Escaped;
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;

/// A directory of cached answers, which belongs to one user.
#[derive(Debug)]
pub struct Cache {
    directory: OwnedFd,
    path: PathBuf,
    /// Whether others can add files to it.
    is_shared: bool,
}

/// How a command was answered.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status, as a shell gives it: 128 and the signal's number where it was killed.
    pub status: u8,
    /// The verdict on the answer that was cached before; `None` where there was none. An answer that
    /// somebody else could have written is stale.
    pub verdict: Option<Verdict>,
    /// Why the new answer was not kept, where it was not.
    pub not_kept: Option<String>,
}

/// What is cached of one command.
struct Answer {
    question: String,
    /// As it was stored, or why it cannot be read.
    witness: std::result::Result<Witness, String>,
    /// At the first byte of the standard output.
    file: File,
    output_bytes: u64,
    error_bytes: u64,
}

impl Cache {
    /// Where a user's answers are by default: `$XDG_CACHE_HOME/modstamp`, or `~/.cache/modstamp`. `None` without a home.
    pub fn default_path() -> Option<PathBuf> {
        Some(
            crate::ground::environment::home_directory("XDG_CACHE_HOME", ".cache")?
                .join("modstamp"),
        )
    }

    /// Whether there is a cache at an absolute `path` in `root`.
    pub fn exists(root: &Root, path: &Path) -> bool {
        root.place(path, Steps::Any).is_ok()
    }

    /// Opens the cache at an absolute `path` in `root`, and makes it, for the caller alone, where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made or written, or where somebody else could bend the way to it.
    pub fn open(root: &Root, path: &Path) -> Result<Cache> {
        let outside = root.outside(path);
        let (attempt, remedy) = ("use the cache", "name a directory of your own by --cache");
        let (directory, _) = root
            .make_directory(path, Mode::RWXU)
            .map_err(|stop| stop.into_error(attempt, outside.clone(), remedy))?;
        rustix::fs::accessat(&directory, c".", Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(|errno| Error::system(attempt, &outside, errno, remedy))?;
        let stat = rustix::fs::fstat(&directory)
            .map_err(|errno| Error::system(attempt, &outside, errno, remedy))?;
        Ok(Cache {
            directory,
            path: outside,
            is_shared: can_others_add(&stat),
        })
    }

    /// Answers `command` from the cache while nothing that `profile` names is different from when it was asked, and
    /// asks it otherwise. Its output goes to this process's standard output and standard error either way.
    ///
    /// Only its program, arguments and working directory tell one question from another, and it gets no standard input.
    /// An answer is kept only if the command succeeds and nothing changed while it ran.
    ///
    /// # Errors
    /// Where the command cannot be started, or where what it printed cannot be passed on ([`Error::Output`]). That a
    /// reader has left is no error.
    pub fn run(&self, profile: &Profile, command: &mut Command) -> Result<Outcome> {
        let program = find_program(command.get_program()).ok_or_else(|| {
            Error::system(
                "start the command",
                command.get_program(),
                rustix::io::Errno::NOENT,
                "name a program that is in the PATH, or its path",
            )
        })?;
        let question = Question::new(profile, &program, command);
        let look = |older: Option<&Witness>| -> Result<Inputs> {
            let mut inputs = Inputs::of(profile, older.map(|older| &older.observation))?;
            inputs.add_command(&program)?;
            Ok(inputs)
        };

        let find = || match self.find(&question.name) {
            Some(Ok(answer)) if answer.question != question.text => None,
            found => found,
        };
        let (mut answer, mut now);
        let mut verdict = None;
        let (mut turn, mut waited) = (None, false);
        loop {
            let found = find();
            let refused = match &found {
                Some(Err(problem)) => Some(Verdict::unreadable(problem)),
                _ => None,
            };
            answer = found.and_then(std::result::Result::ok);
            let older = answer.as_ref().and_then(Answer::witness);
            now = look(older)?;
            let judged = answer.as_ref().map(|answer| answer.judge(&now));
            verdict = judged.or(refused).or(verdict);
            if waited || verdict == Some(Verdict::Fresh) {
                break;
            }
            // Somebody else may be asking: wait, and look whether that settled it.
            turn = self.take_turn(&question.name);
            waited = true;
        }
        let older = answer.as_ref().and_then(Answer::witness);
        if let (Some(Verdict::Fresh), Some(older), Some(answer)) = (&verdict, older, &answer) {
            if older.can_learn_from(&now) {
                // Only what proves the answer is new; next time stat will do.
                now.trust(&older.observation);
                let _ = self.keep(&question, &now.witness(), answer);
            }
            answer.serve().map_err(Error::Output)?;
            return Ok(Outcome {
                status: 0,
                verdict,
                not_kept: None,
            });
        }

        // Observe, then probe, then store.
        if now.wait_if_racy() {
            // What the verdict read may have changed again within that tick.
            now = look(older)?;
        }
        if let Some(older) = older {
            now.trust(&older.observation);
        }
        let before = now.witness();
        let (status, probed) = self.probe(command, &question)?;
        let kept = match probed {
            _ if status != 0 => Err("the command failed".to_owned()),
            Err(error) => Err(format!(
                "its output could not be written to {}: {error}",
                self.path.display()
            )),
            Ok(answer) => match before.disturbed(&look(None)?) {
                Some(why) => Err(why.to_string()),
                None => self.keep(&question, &before, &answer).map_err(|error| {
                    let file = self.path.join(&question.name);
                    format!("{} could not be written: {error}", file.display())
                }),
            },
        };
        drop(turn);
        Ok(Outcome {
            status,
            verdict,
            not_kept: kept.err(),
        })
    }

    /// Every cached command with the verdict on its answer, sorted by command.
    ///
    /// # Errors
    /// As [`Profile::inputs`].
    pub fn verdicts(&self, profile: &Profile) -> Result<Vec<(String, Verdict)>> {
        let mut found = Vec::new();
        let now = profile.inputs()?;
        let names = self.names().into_iter().filter(|name| name.len() == 16);
        for name in names {
            let answer = match self.find(&name) {
                None => continue,
                Some(Ok(answer)) => answer,
                Some(Err(problem)) => {
                    // Its command is not believed, either.
                    let file = self.path.join(name);
                    found.push((
                        Escaped(file.as_os_str()).to_string(),
                        Verdict::unreadable(&problem),
                    ));
                    continue;
                }
            };
            let Some(witness) = answer.witness() else {
                found.push((answer.command_line(), answer.judge(&now)));
                continue;
            };
            if witness.profile() != profile.name() {
                continue;
            }
            let mut now = now.clone();
            for command in &witness.observation.commands {
                now.add_command(&command.name)?;
            }
            let verdict = witness.judge(&now);
            found.push((answer.command_line(), verdict));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// The answer in the file `name`, or why that is not believed; `None` if there is no whole one.
    fn find(&self, name: &str) -> Option<std::result::Result<Answer, String>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let problem = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Ok(fd) => match self.why_not_believed(&fd) {
                None => return Answer::read(File::from(fd)).ok().flatten().map(Ok),
                Some(problem) => problem,
            },
            Err(Errno::NOENT) => return None,
            Err(Errno::LOOP) => "is a symbolic link".to_owned(),
            Err(errno) => format!("cannot be read: {errno}"),
        };
        Some(Err(format!(
            "{} {problem}, so its answer is not believed; \
             remove it, or name a directory of your own by --cache",
            self.path.join(name).display()
        )))
    }

    /// Why somebody else could have written an opened file of the cache, or given it its name.
    fn why_not_believed(&self, file: impl AsFd) -> Option<String> {
        let stat = match rustix::fs::fstat(&file) {
            Ok(stat) => stat,
            Err(errno) => return Some(format!("cannot be looked at: {errno}")),
        };
        // Others may link any file here, such as one of the caller's that they filled, unless
        // `fs.protected_hardlinks` is set (proc_sys_fs(5)).
        let is_linked = self.is_shared && stat.st_nlink > 1;
        let problem = || is_linked.then(|| format!("has {} names", stat.st_nlink));
        why_not_believed(&stat).or_else(problem)
    }

    /// Waits until nobody else asks the same; `None` where that cannot be had, and then nobody is waited for.
    fn take_turn(&self, name: &str) -> Option<Lock> {
        let file = open_private(&self.directory, format!("{name}.lock")).ok()?;
        // A lock that has another name may be held for another purpose, and for ever.
        self.why_not_believed(&file).is_none().then_some(())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .ok()?;
        // What one that was killed had begun to write. One that only learns may write without a turn: that is lost then.
        let begun = format!(".{name}.");
        for name in self.names().iter().filter(|name| name.starts_with(&begun)) {
            let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty());
        }
        Some(Lock(file))
    }

    /// The names of all files in it.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if let Ok(directory) = rustix::fs::openat(&self.directory, c".", flags, Mode::empty()) {
            let _ = crate::files::directory::for_each_name(directory.as_fd(), |name| {
                names.push(name.to_string_lossy().into_owned());
            });
        }
        names
    }

    /// Runs the command, passes on what it prints and takes it down. Returns its status, and the answer or why it could
    /// not be taken down.
    fn probe(
        &self,
        command: &mut Command,
        question: &Question,
    ) -> Result<(u8, io::Result<Answer>)> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child: Child = command.spawn().map_err(|error| {
            let remedy = "name a program that you may run";
            Error::system("start the command", command.get_program(), error, remedy)
        })?;
        let (mut output, mut error) = (self.scratch(question), self.scratch(question));
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let passed_on = std::thread::scope(|scope| {
            let errors = scope.spawn(|| pass_on(err, rustix::stdio::stderr(), &mut error));
            let passed_on = pass_on(out, rustix::stdio::stdout(), &mut output);
            let panicked = |_| Err(io::Error::other("a thread ended early"));
            passed_on.and(errors.join().unwrap_or_else(panicked))
        });
        let status = child.wait().map_err(|error| {
            Error::system(
                "wait for the command",
                command.get_program(),
                error,
                "run it again",
            )
        })?;
        passed_on.map_err(Error::Output)?;
        let signal = || 128 + status.signal().unwrap_or_default();
        let status = u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX);
        let join = || -> io::Result<Answer> {
            let (mut file, mut error) = (output?, error?);
            let output_bytes = file.stream_position()?;
            let error_bytes = error.stream_position()?;
            error.rewind()?;
            io::copy(&mut error, &mut file)?;
            file.rewind()?;
            Ok(Answer {
                question: question.text.clone(),
                witness: Err("it is not kept yet".to_owned()),
                file,
                output_bytes,
                error_bytes,
            })
        };
        Ok((status, join()))
    }

    /// An empty file that nobody else sees and that is gone with its descriptor.
    fn scratch(&self, question: &Question) -> io::Result<File> {
        let name = format!(".{}.{}", question.name, std::process::id());
        let file = self.create(&name)?;
        rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())?;
        Ok(file)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let _ = rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()); // left by one that was killed
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.directory, name, flags, mode)?.into())
    }

    fn keep(&self, question: &Question, witness: &Witness, answer: &Answer) -> io::Result<()> {
        let name = format!(".{}.{}.new", question.name, std::process::id());
        let witness = witness.to_string();
        let Answer {
            output_bytes,
            error_bytes,
            ..
        } = answer;
        let write = || -> io::Result<()> {
            let mut file = self.create(&name)?;
            write!(
                file,
                "modstamp-cache 1 {} {output_bytes} {error_bytes}\n{}\n{witness}",
                witness.len(),
                question.text
            )?;
            let mut from = answer.file.try_clone()?;
            let start = from.stream_position()?;
            let copied = io::copy(&mut from, &mut file);
            from.seek(io::SeekFrom::Start(start))?; // A clone shares its position with the original.
            copied?;
            file.sync_data()?;
            Ok(rustix::fs::renameat(
                &self.directory,
                &name,
                &self.directory,
                &question.name,
            )?)
        };
        write().inspect_err(|_| {
            let _ = rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty());
        })
    }
}

impl Answer {
    /// Reads all but the output; `None` where the file is not a whole answer.
    fn read(mut file: File) -> io::Result<Option<Answer>> {
        let size = file.metadata()?.len();
        // A small witness whole. The output is not read but copied.
        let mut bytes = Vec::with_capacity(8 * 1024);
        let read_to = |bytes: &mut Vec<u8>, length: usize| {
            let more = length.saturating_sub(bytes.len()) as u64;
            (&file)
                .take(more)
                .read_to_end(bytes)
                .map(|_| bytes.len() >= length)
        };
        read_to(&mut bytes, 8 * 1024)?;
        let mut head = head(&bytes);
        if head.is_none() && size > bytes.len() as u64 {
            // A command line may be long: `getconf ARG_MAX`.
            read_to(&mut bytes, 8 << 20)?;
            head = self::head(&bytes);
        }
        let Some(mut head) = head.filter(|head| head.total() == Some(size)) else {
            return Ok(None);
        };
        if !read_to(&mut bytes, head.end)? {
            return Ok(None);
        }
        file.seek(io::SeekFrom::Start(head.end as u64))?;
        let witness = &bytes[head.end - head.witness_bytes..head.end];
        Ok(Some(Answer {
            question: std::mem::take(&mut head.question),
            witness: Witness::from_bytes(witness).map_err(|error| error.to_string()),
            file,
            output_bytes: head.output_bytes,
            error_bytes: head.error_bytes,
        }))
    }

    fn witness(&self) -> Option<&Witness> {
        self.witness.as_ref().ok()
    }

    /// The command as it was asked: the program's path and its arguments.
    fn command_line(&self) -> String {
        self.question
            .splitn(4, ' ')
            .nth(3)
            .unwrap_or_default()
            .to_owned()
    }

    fn judge(&self, now: &Inputs) -> Verdict {
        match &self.witness {
            Ok(witness) => witness.judge(now),
            Err(problem) => Verdict::unreadable(problem),
        }
    }

    /// Prints what the command printed.
    fn serve(&self) -> io::Result<()> {
        let copy = |to: BorrowedFd<'_>, bytes: u64| -> io::Result<()> {
            let mut to = File::from(to.try_clone_to_owned()?);
            let copied = io::copy(&mut (&self.file).take(bytes), &mut to);
            unless_left(copied.map(|_| ()))
        };
        if self.output_bytes > 0 {
            copy(rustix::stdio::stdout(), self.output_bytes)?;
        }
        if self.error_bytes > 0 {
            let end = io::SeekFrom::End(-(self.error_bytes as i64));
            (&self.file).seek(end)?;
            copy(rustix::stdio::stderr(), self.error_bytes)?;
        }
        Ok(())
    }
}

/// The first lines of an answer.
struct Head {
    question: String,
    witness_bytes: usize,
    output_bytes: u64,
    error_bytes: u64,
    /// Where the witness ends and the output begins.
    end: usize,
}

impl Head {
    /// The size of the whole file.
    fn total(&self) -> Option<u64> {
        let output = self.output_bytes.checked_add(self.error_bytes)?;
        output.checked_add(self.end as u64)
    }
}

fn head(bytes: &[u8]) -> Option<Head> {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (first, second) = (lines.next()?, lines.next()?);
    lines.next()?;
    let numbers = std::str::from_utf8(first)
        .ok()?
        .strip_prefix("modstamp-cache 1 ")?;
    let mut numbers = numbers.split(' ');
    let witness_bytes: usize = numbers.next()?.parse().ok()?;
    let start = first.len() + second.len() + 2;
    Some(Head {
        question: std::str::from_utf8(second).ok()?.to_owned(),
        witness_bytes,
        output_bytes: numbers.next()?.parse().ok()?,
        error_bytes: numbers.next()?.parse().ok()?,
        // A witness is some 100 bytes an entry: more than this is not one.
        end: start
            .checked_add(witness_bytes)
            .filter(|end| *end < 1 << 30)?,
    })
}

/// Copies what the command prints to where it would have gone, and into `file`; goes on where `file` cannot be written.
/// Stops reading, as the reader would, where ours has left. The error is that of passing it on.
fn pass_on(
    from: Option<impl Read>,
    to: BorrowedFd<'_>,
    file: &mut io::Result<File>,
) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Err(errno) = crate::files::replace::write_all(to, &buffer[..length]) {
            *file = Err(errno.into());
            return unless_left(Err(errno.into()));
        }
        if let Ok(open) = file {
            if let Err(error) = open.write_all(&buffer[..length]) {
                *file = Err(error);
            }
        }
    }
}

/// A reader that has left has seen what it wanted.
fn unless_left(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The program that a shell would start, as an absolute path.
fn find_program(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    // Without one, execvp(3) looks in these.
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let found = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| rustix::fs::access(file, Access::EXEC_OK).is_ok() && file.is_file());
    std::path::absolute(found?).ok() // A directory of the path may be a relative one, or “”.
}

/// What tells one question from another: as text, and as the name of the file that the answer is in.
struct Question {
    text: String,
    name: String,
}

impl Question {
    fn new(profile: &Profile, program: &Path, command: &Command) -> Question {
        let directory = std::env::current_dir().unwrap_or_default();
        let root = profile.root().outside(Path::new("/"));
        let words = [
            directory.as_os_str(),
            root.as_os_str(),
            OsStr::new(profile.name()),
            program.as_os_str(),
        ];
        let words = words.into_iter().chain(command.get_args());
        let text = words
            .map(|word| Escaped(word).to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let name = format!(
            "{:016x}",
            crate::observe::evidence::hash(0, text.as_bytes())
        );
        Question { text, name }
    }
}
