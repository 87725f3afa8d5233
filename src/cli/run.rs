//! `modstamp run`: a command's cached output.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, bail};
use clap::ValueHint;
use modstamp::{
    Added, Ask, Cache, Error, NotKept, Outcome, Profile, Root, Stream, Verdict, printable,
    program_of,
};

use super::time::shown;
use super::{DEFAULT, ExitCode, Place, load, say};

/// Print CMD's cached output if it is still right; otherwise run CMD, and cache its output
///
/// Tell by --dir, --file or --profile what CMD's output depends on. If any of that changes, or the
/// program file of CMD itself, CMD runs again. Its output is cached only if CMD succeeds, and
/// nothing changes meanwhile.
///
/// The same CMD has an output of its own for each working directory, and for other values of --dir,
/// --file, --env and --profile. CMD gets no standard input. A cache holds 256 MiB of output at most,
/// and the oldest is removed first.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: CMD's own, or 128 and the signal's number if one ended it; 127 if CMD is not found, 126 if it cannot be started, 1 on another error, 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// The directory of the cache  [default: $XDG_CACHE_HOME/modstamp, or ~/.cache/modstamp]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    cache: Option<PathBuf>,
    /// Say on standard error whether CMD was run, and why
    #[arg(long)]
    explain: bool,
    /// Run CMD in any case, and cache the new output
    #[arg(long)]
    force: bool,
    /// Run CMD again if anything in DIR changes, at any depth. May be repeated. With --root, DIR is
    /// below that
    #[arg(long = "dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    directories: Vec<PathBuf>,
    /// Run CMD again if FILE changes. May be repeated. With --root, FILE is below that
    #[arg(long = "file", value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// Keep a separate output for each value of the environment variable NAME. May be repeated
    #[arg(long = "env", value_name = "NAME", value_parser = variable)]
    variables: Vec<String>,
    /// Run CMD again if anything changes that the profile names: a name, or the path of a profile's
    /// file (a value with a “/” in it)  [default: qemu, if CMD is one of QEMU's programs, and there
    /// is neither --dir nor --file]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    #[command(flatten)]
    place: Place,
    /// The command and its arguments
    #[arg(value_name = "CMD", last = true, required = true, num_args = 1.., value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        for name in &self.variables {
            match std::env::var_os(name) {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let program = program_of(&command);
        let (cache, profile) = match self.prepare(program.as_deref().ok()) {
            Ok(prepared) => prepared,
            Err(error) => return run_without_a_cache(&mut command, &error),
        };
        let program = match program {
            Ok(program) => program,
            Err(error) => return fail(&error),
        };
        let ask = match self.force {
            true => Ask::Anew,
            false => Ask::IfNeeded,
        };
        match cache.ask(ask, &profile, &program, &mut command, print) {
            Ok(outcome) => {
                for warning in &outcome.warnings {
                    say("warning: ", warning);
                }
                if self.explain {
                    explain(ask, &outcome);
                }
                ExitCode::from(as_a_shell_has_it(outcome.status))
            }
            Err(error) => fail(&error),
        }
    }

    /// `program` is the path of CMD. If it cannot be found, a later error says so.
    fn prepare(&self, program: Option<&Path>) -> anyhow::Result<(Cache, Profile)> {
        let root = self.place.root()?;
        let added = self.added(&root)?;
        let profile = match (&self.profile, added.is_empty()) {
            (Some(name), _) => load(name, &root)?.with_added(added),
            (None, false) => Profile::unnamed(&root, added),
            (None, true) => {
                let profile = load(DEFAULT, &root)?;
                if !program.is_none_or(|program| profile.has_program(program)) {
                    bail!(
                        "{} is not a program of the profile “{DEFAULT}”, which is the default; \
                         name its inputs by --dir, --file or --profile",
                        printable(self.command[0].as_ref())
                    );
                }
                profile
            }
        };
        let cache = match &self.cache {
            Some(path) => Cache::open(&Root::system()?, &std::path::absolute(path)?)?,
            None => {
                let path = Cache::default_path().context(
                    "there is no home directory to keep answers in; name one by --cache",
                )?;
                Cache::open(profile.root(), &path)?
            }
        };
        Ok((cache, profile))
    }

    /// The inputs of --dir and --file, as absolute paths in the root directory.
    fn added(&self, root: &Root) -> anyhow::Result<Vec<Added>> {
        let directories = self.directories.iter();
        let directories = directories.map(|path| Ok(Added::Directory(absolute(path, root)?)));
        let files = self.files.iter();
        let files = files.map(|path| Ok(Added::File(absolute(path, root)?)));
        directories.chain(files).collect()
    }
}

/// The absolute path of an input. A relative one begins at the working directory, or at the root
/// directory that --root names.
fn absolute(path: &Path, root: &Root) -> anyhow::Result<PathBuf> {
    let path = match root.is_system() {
        true => std::path::absolute(path).with_context(|| {
            let path = printable(path);
            format!("cannot find {path} from the working directory; name it by its absolute path")
        })?,
        false => Path::new("/").join(path),
    };
    Ok(path.components().collect())
}

/// Reads the name of an environment variable.
fn variable(name: &str) -> Result<String, String> {
    match name.is_empty() || name.contains('=') {
        true => Err(
            "this is not a variable's name; write only the NAME, and set it before “run”".into(),
        ),
        false => Ok(name.to_owned()),
    }
}

/// A cache that cannot be had is no reason to withhold the answer.
fn run_without_a_cache(command: &mut Command, error: &anyhow::Error) -> ExitCode {
    let mut sentence = format!("{error:#}");
    sentence += match sentence.ends_with('?') {
        true => " Running the command without a cache",
        false => "; running the command without a cache",
    };
    say("warning: ", sentence);
    let cause = command.exec(); // It returns only if it fails.
    fail(&Error::System {
        attempt: "start the command",
        path: command.get_program().into(),
        cause,
        remedy: "name a program that you may run",
    })
}

/// Passes on a piece of CMD's output.
fn print(stream: Stream, bytes: &[u8]) -> io::Result<()> {
    match stream {
        Stream::Stderr => io::stderr().write_all(bytes),
        Stream::Stdout => {
            let mut out = io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()
        }
    }
}

/// Says why there is no output. The exit status is like env(1)'s: 127 if CMD is not found, 126 if
/// it cannot be started, 1 on another error.
fn fail(error: &Error) -> ExitCode {
    say("", error);
    ExitCode::from(match error {
        Error::System { cause, .. } if cause.kind() == ErrorKind::NotFound => 127,
        Error::System { .. } => 126,
        _ => 1,
    })
}

/// CMD's own exit status, or 128 and the number of the signal that ended it.
fn as_a_shell_has_it(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or_default();
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX)
}

fn explain(ask: Ask, outcome: &Outcome) {
    match &outcome.verdict {
        None if ask == Ask::Anew => say("", "asked again: --force"),
        None => say("", "asked: no answer was cached"),
        Some(Verdict::Fresh) => say("", "served from the cache: nothing changed"),
        Some(verdict) => {
            for line in verdict.reasons_with_times(Verdict::MOST_LINES, shown) {
                say("asked again: ", line);
            }
        }
    }
    match &outcome.not_kept {
        Some(NotKept::Disturbed(reason)) => say("not kept: ", reason.sentence(shown)),
        Some(why) => say("not kept: ", why),
        None => {}
    }
}
