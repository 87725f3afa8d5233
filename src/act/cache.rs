//! A cache of commands' output, each with the witness that was taken before the command ran.
//!
//! An answer's file is named by the hash of its question.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};

use crate::act::bound::is_name_of_answer;
use crate::act::command::{self, Transcript};
use crate::act::inquiry::{Ask, Inquiry, Standing};
use crate::act::not_kept::NotKept;
use crate::act::shelf::{Finding, Holds, Shelf};
use crate::act::stored::Stored;
use crate::act::stream::Stream;
use crate::files::root::Root;
use crate::ground::environment::home_directory;
use crate::ground::error::{Error, Result};
use crate::ground::text::Escaped;
use crate::judge::reason::Reason;
use crate::judge::verdict::Verdict;
use crate::observe::added::{Added, AddedState};
use crate::observe::evidence::hash;
use crate::observe::inputs::Inputs;
use crate::observe::profile::{Profile, UNNAMED};

/// One user's directory of cached command output.
///
/// ```no_run
/// # fn main() -> modstamp::Result<()> {
/// use std::process::Command;
/// use modstamp::{Cache, Profile, Root};
///
/// let profile = Profile::load("qemu")?;
/// let cache = Cache::open(&Root::system()?, "/var/cache/app".as_ref())?;
/// let mut command = Command::new("qemu-system-x86_64");
/// let (output, outcome) = cache.output(&profile, command.args(["-device", "help"]))?;
/// println!("{} bytes", output.stdout.len());
/// for reason in outcome.verdict.iter().flat_map(|verdict| verdict.reasons()) {
///     println!("asked again: {reason}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cache {
    shelf: Shelf,
}

/// Tells how a command was answered.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status. A stored answer is that of a command that succeeded.
    pub status: ExitStatus,
    /// The verdict on the stored answer; `None` if there was none.
    pub verdict: Option<Verdict>,
    /// Why the command's answer was not kept; `None` if it was, or if the stored one was fresh.
    pub not_kept: Option<NotKept>,
    /// The warnings for people about inputs that the profile names and that were not found, one
    /// sentence each.
    pub warnings: Vec<String>,
}

/// A command with a cached answer, and the verdict on that answer.
#[derive(Debug)]
pub struct CachedCommand {
    /// The program's path and arguments, escaped; or the answer's file, if that answer cannot be
    /// used.
    pub command: String,
    /// Whether the answer still holds.
    pub verdict: Verdict,
    #[doc(hidden)] // Only the programs use it.
    pub asked_with: AskedWith,
}

/// What tells a cached answer from others of the same command and profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskedWith {
    /// The directory that the command started in.
    pub working_directory: PathBuf,
    /// The inputs that the caller added, with their states now.
    pub inputs: Vec<(Added, AddedState)>,
    /// The variables that the caller set, as “NAME=value”, or removed, as “NAME”.
    pub variables: Vec<OsString>,
}

impl Cache {
    /// The caller's own cache: `$XDG_CACHE_HOME/modstamp`, or `~/.cache/modstamp`. `None` if the
    /// caller has no home.
    pub fn default_path() -> Option<PathBuf> {
        Some(home_directory("XDG_CACHE_HOME", ".cache")?.join("modstamp"))
    }

    /// Opens the cache at an absolute `path` in `root`. If it is missing, makes it for the caller
    /// alone.
    ///
    /// # Errors
    /// If it cannot be made or written, or if somebody else could bend the way to it.
    pub fn open(root: &Root, path: &Path) -> Result<Cache> {
        let shelf = Shelf::open(root, path, Holds::Answers)?;
        shelf.demand_writable()?;
        Ok(Cache { shelf })
    }

    /// Like [`Cache::open`], but makes nothing: `None` if the caller has no cache there.
    ///
    /// # Errors
    /// If somebody else could bend the way to it, or the system fails.
    pub fn existing(root: &Root, path: &Path) -> Result<Option<Cache>> {
        let shelf = Shelf::existing(root, path, Holds::Answers)?;
        Ok(shelf.map(|shelf| Cache { shelf }))
    }

    /// Passes on the stored output of `command` while it is fresh by `profile`. Otherwise runs the
    /// command, and passes on its output as it comes.
    ///
    /// `pass_on` gets each piece with its stream. If it fails because its reader left
    /// ([`io::ErrorKind::BrokenPipe`]), that stream ends for the command, too, which is no error.
    ///
    /// The program, its arguments, the working directory and the variables that `command` sets tell
    /// one question from another. If the system cannot tell the working directory, the answer is not
    /// kept. The command gets no standard input. Its answer is kept only if it
    /// succeeds and nothing changes while it runs. Concurrent callers share one run.
    ///
    /// If the profile names the program, its other programs do not count. The caches that the
    /// profile names count: the command may take its answer from one of its own that is stale. So
    /// they are made good before it runs, like by [`Profile::update`], but without commands and
    /// without libvirt. The answer is not kept if one of them is stale even then.
    ///
    /// The answers in a cache take 256 MiB at most. A larger answer is not kept, and the oldest
    /// ones make room for a new one.
    ///
    /// # Errors
    /// If the command cannot be started, or if its output cannot be passed on ([`Error::Output`]).
    /// Also if the stored output can no longer be read after a part was passed on
    /// ([`Error::CutOff`]).
    pub fn run(
        &self,
        profile: &Profile,
        command: &mut Command,
        pass_on: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> Result<Outcome> {
        let program = command::program_of(command)?;
        self.ask(Ask::IfNeeded, profile, &program, command, pass_on)
    }

    /// Like [`Cache::run`], but `ask` tells when the command runs, and `program` is the path of its
    /// program.
    ///
    /// # Errors
    /// Like [`Cache::run`].
    #[doc(hidden)] // Only the programs use it.
    pub fn ask(
        &self,
        ask: Ask,
        profile: &Profile,
        program: &Path,
        command: &mut Command,
        mut pass_on: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> Result<Outcome> {
        let directory = match command::directory(command) {
            Ok(directory) => directory,
            Err(why) => return run_unkept(command, why, pass_on),
        };
        let whole = profile;
        let profile = &*profile.with_caches_as_files();
        let is_named = profile.root().is_system() && profile.names_program(program);
        let narrowed = is_named.then(|| profile.clone().of_program(program));
        let profile = narrowed.as_ref().unwrap_or(profile);
        let question = command::question(profile, &directory, program, command);
        let inquiry = Inquiry {
            profile,
            whole,
            command: Some(program),
            ask,
            name: OsString::from(format!("{:016x}", hash(0, question.as_bytes()))),
            question,
            shelf: &self.shelf,
        };
        let (verdict, due) = match inquiry.look_up() {
            Standing::Due(verdict, due) => (verdict, due),
            Standing::Fresh(stored) => match serve(&stored, &mut pass_on) {
                Ok(()) => {
                    return Ok(Outcome {
                        status: ExitStatus::default(),
                        verdict: Some(Verdict::Fresh),
                        not_kept: None,
                        warnings: profile.unseen(&stored.witness.observation),
                    });
                }
                Err(Unserved::Refused(error)) => return Err(Error::Output(error)),
                Err(Unserved::CutOff(cause)) => {
                    let path = self.shelf.path_of(&inquiry.name);
                    return Err(Error::CutOff { path, cause });
                }
                Err(Unserved::Unread(error)) => {
                    let why = self.shelf.not_read(&inquiry.name, error);
                    return run_unkept(command, why, pass_on);
                }
            },
        };
        let seen = due.observation();
        let warnings = seen.map_or_else(Vec::new, |seen| profile.unseen(seen));
        let transcript = Transcript::new(&self.shelf, &inquiry.name);
        let ran = command::run(command, transcript, &mut pass_on)?;
        let kept = ran.output.and_then(|output| due.keep(&output.parts()));
        Ok(Outcome {
            status: ran.status,
            verdict,
            not_kept: kept.err(),
            warnings,
        })
    }

    /// Like [`Cache::run`], but collects the output.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub fn output(&self, profile: &Profile, command: &mut Command) -> Result<(Output, Outcome)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let outcome = self.run(profile, command, |stream, bytes| {
            match stream {
                Stream::Stdout => stdout.extend_from_slice(bytes),
                Stream::Stderr => stderr.extend_from_slice(bytes),
            }
            Ok(())
        })?;
        let output = Output {
            status: outcome.status,
            stdout,
            stderr,
        };
        Ok((output, outcome))
    }

    /// Judges every cached answer. Returns the commands, sorted, with the verdicts.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn verdicts(&self, profile: &Profile) -> Result<Vec<CachedCommand>> {
        let profile = &*profile.with_caches_as_files();
        let now = profile.inputs()?;
        let names = self.shelf.names()?.into_iter();
        let mut found = Vec::new();
        for name in names.filter(|name| is_name_of_answer(name)) {
            found.extend(self.verdict(OsStr::new(&name), profile, &now)?);
        }
        found.sort_by(|a, b| (&a.command, &a.asked_with).cmp(&(&b.command, &b.asked_with)));
        Ok(found)
    }

    /// The profile without a name, with the added inputs of all its answers. `None` if it has no
    /// answer.
    ///
    /// # Errors
    /// If the cache cannot be listed.
    #[doc(hidden)] // Only the programs use it.
    pub fn unnamed_profile(&self, root: &Root) -> Result<Option<Profile>> {
        let mut added = Vec::new();
        for name in self
            .shelf
            .names()?
            .iter()
            .filter(|name| is_name_of_answer(name))
        {
            if let Finding::Answer(stored) = self.shelf.find(name) {
                if stored.witness.profile() == UNNAMED {
                    added.extend(command::added_inputs(&stored.question));
                }
            }
        }
        Ok((!added.is_empty()).then(|| Profile::unnamed(root, added)))
    }

    /// Judges one answer. `None` if it is another profile's, or gone.
    fn verdict(
        &self,
        name: &OsStr,
        profile: &Profile,
        now: &Inputs,
    ) -> Result<Option<CachedCommand>> {
        let stored = match self.shelf.find(name) {
            Finding::Answer(stored) if stored.witness.profile() == profile.name() => stored,
            Finding::Useless(why) => {
                // The command in it is not believed, either.
                let file = self.shelf.path_of(name);
                return Ok(Some(CachedCommand {
                    command: Escaped(file.as_os_str()).to_string(),
                    verdict: Verdict::Stale(vec![Reason::UselessAnswer { error: why }]),
                    asked_with: AskedWith::default(),
                }));
            }
            Finding::Answer(_) | Finding::Nothing | Finding::LeftAlone(_) => return Ok(None),
        };
        let added = command::added_inputs(&stored.question);
        let mut now = match added == profile.added {
            true => now.clone(),
            false => profile.clone().with_added(added.clone()).inputs()?,
        };
        let states = added.iter().map(|added| now.observation().state_of(added));
        let asked_with = AskedWith {
            working_directory: command::working_directory(&stored.question),
            inputs: added.iter().cloned().zip(states).collect(),
            variables: command::variables_of(&stored.question),
        };
        for command in &stored.witness.observation.commands {
            now = now.with_command(&command.name)?;
        }
        Ok(Some(CachedCommand {
            command: command::command_line(&stored.question),
            verdict: stored.witness.judge(&now),
            asked_with,
        }))
    }
}

/// Runs a command without a look at what is stored.
fn run_unkept(
    command: &mut Command,
    why: NotKept,
    pass_on: impl FnMut(Stream, &[u8]) -> io::Result<()>,
) -> Result<Outcome> {
    let ran = command::run(command, Err(why), pass_on)?;
    Ok(Outcome {
        status: ran.status,
        verdict: None,
        not_kept: ran.output.err(),
        warnings: Vec::new(),
    })
}

/// Why a stored answer was not served.
#[derive(Debug)]
enum Unserved {
    /// It cannot be read. Nothing was passed on.
    Unread(io::Error),
    /// It cannot be read to its end. A part of it was passed on.
    CutOff(io::Error),
    /// Its reader does not take it.
    Refused(io::Error),
}

/// Passes a stored answer on. If the reader of one stream leaves, the other is still served.
fn serve(
    stored: &Stored,
    mut pass_on: impl FnMut(Stream, &[u8]) -> io::Result<()>,
) -> std::result::Result<(), Unserved> {
    let parts = stored.parts();
    let mut unserved: fn(io::Error) -> Unserved = Unserved::Unread;
    for (stream, part) in [
        (Stream::Stdout, parts.stdout),
        (Stream::Stderr, parts.stderr),
    ] {
        let passed_on = part.pass_on(|bytes| {
            unserved = Unserved::Refused;
            pass_on(stream, bytes)?;
            unserved = Unserved::CutOff;
            Ok(())
        });
        match passed_on {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => unserved = Unserved::CutOff,
            Err(error) => return Err(unserved(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::stored::{Contents, Part, Parts};
    use crate::judge::witness::Witness;

    /// An answer that was whole when it was found, and was cut to `length` bytes since.
    fn cut_to(length: u64) -> Box<Stored> {
        let (out, file) = (vec![b'x'; 200_000], tempfile::tempfile().unwrap());
        let witness: Witness = "modstamp-witness 1 qemu\nend 1\n".parse().unwrap();
        let parts = Parts {
            stdout: Part::Bytes(&out),
            stderr: Part::Bytes(b""),
        };
        Stored::write(&file, "a question", &witness, &parts).unwrap();
        let size = file.metadata().unwrap().len();
        let again = file.try_clone().unwrap();
        let Contents::Answer(stored) = Stored::read(file, size).unwrap() else {
            panic!("the answer is whole");
        };
        again.set_len(length).unwrap();
        stored
    }

    #[test]
    fn an_answer_that_can_no_longer_be_read_is_asked_for_again_unless_some_was_passed_on() {
        let ignore = |_: Stream, _: &[u8]| Ok(());
        assert!(serve(&cut_to(300_000), ignore).is_ok());
        let unread = serve(&cut_to(100), ignore);
        assert!(matches!(unread, Err(Unserved::Unread(_))), "{unread:?}");
        let cut_off = serve(&cut_to(150_000), ignore);
        assert!(matches!(cut_off, Err(Unserved::CutOff(_))), "{cut_off:?}");
        let full = |_: Stream, _: &[u8]| Err(io::ErrorKind::StorageFull.into());
        let refused = serve(&cut_to(300_000), full);
        assert!(matches!(refused, Err(Unserved::Refused(_))), "{refused:?}");
    }
}
