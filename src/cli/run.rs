//! `modstamp run`: a command's cached output.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::ValueHint;
use modstamp::{Cache, Error, Outcome, Profile, Root, Verdict};

use super::{Which, say};

/// Print what CMD printed before, while nothing that it depends on is different; run CMD otherwise
///
/// What tells one question from another is the program, its arguments and the working directory. CMD gets no standard
/// input. Only answers of commands that succeed are kept.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: CMD's own, or 128 and the signal's number if one ended it; 127 if CMD is not found, 126 if it cannot be started, 1 on another error, 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// Where answers are kept  [default: ~/.cache/modstamp, or $XDG_CACHE_HOME/modstamp]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    cache: Option<PathBuf>,
    /// Say on standard error whether CMD was asked, and why
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
        match self.prepare() {
            Ok((cache, profile)) => match cache.run(&profile, &mut command) {
                Ok(outcome) => {
                    if self.explain {
                        explain(&outcome);
                    }
                    ExitCode::from(outcome.status)
                }
                Err(error) => {
                    say("", &error);
                    ExitCode::from(status(&error))
                }
            },
            Err(error) => {
                // A cache that cannot be had is no reason not to answer.
                say(
                    "warning: ",
                    format_args!("{error:#}; running the command without a cache"),
                );
                let error = command.exec(); // returns only if it fails
                let error = Error::System {
                    attempt: "start the command",
                    path: self.command[0].clone().into(),
                    cause: error,
                    remedy: "name a program that you may run",
                };
                say("", &error);
                ExitCode::from(status(&error))
            }
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

/// The exit status where CMD has none, as of env(1): 127 not found, 126 not to be started, 1 anything else.
fn status(error: &Error) -> u8 {
    match error {
        Error::System { cause, .. } if cause.kind() == ErrorKind::NotFound => 127,
        Error::System { .. } => 126,
        _ => 1,
    }
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
