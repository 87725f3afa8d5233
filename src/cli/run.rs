//! `modstamp run`: a command's cached output.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Context;
use clap::ValueHint;
use modstamp::{Cache, Error, Outcome, Profile, Root, Stream, Verdict};

use super::{Which, say};

/// Print CMD's cached output while it is fresh; otherwise run CMD, and cache what it prints
///
/// The cache tells commands apart by program, arguments and working directory. CMD gets no standard
/// input. An output is cached only if CMD succeeds and nothing changes while it runs.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: CMD's own, or 128 and the signal's number if one ended it; 127 if CMD is not found, 126 if it cannot be started, 1 on another error, 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// The directory of the cache  [default: ~/.cache/modstamp, or $XDG_CACHE_HOME/modstamp]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    cache: Option<PathBuf>,
    /// Say on standard error whether CMD was run, and why
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    which: Which,
    /// The command
    #[arg(value_name = "CMD", last = true, required = true, num_args = 1.., value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        let (cache, profile) = match self.prepare() {
            Ok(prepared) => prepared,
            Err(error) => return run_without_a_cache(&mut command, &error),
        };
        match cache.run(&profile, &mut command, print) {
            Ok(outcome) => {
                if self.explain {
                    explain(&outcome);
                }
                ExitCode::from(as_a_shell_has_it(outcome.status))
            }
            Err(error) => fail(&error),
        }
    }

    fn prepare(&self) -> anyhow::Result<(Cache, Profile)> {
        let profile = self.which.load()?;
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
}

/// A cache that cannot be had is no reason to withhold the answer.
fn run_without_a_cache(command: &mut Command, error: &anyhow::Error) -> ExitCode {
    say(
        "warning: ",
        format_args!("{error:#}; running the command without a cache"),
    );
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

fn explain(outcome: &Outcome) {
    match &outcome.verdict {
        None => say("", "asked: no answer was cached"),
        Some(Verdict::Fresh) => say("", "served from the cache: nothing changed"),
        Some(verdict) => {
            for line in verdict.reasons_for_people(Verdict::MOST_LINES) {
                say("asked again: ", line);
            }
        }
    }
    if let Some(why) = &outcome.not_kept {
        say("not kept: ", why);
    }
}
