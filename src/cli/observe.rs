//! `modstamp observe`: a witness, before a probe.

use std::path::PathBuf;

use clap::ValueHint;
use modstamp::Witness;

use super::{ExitCode, Which, end, print, read_stored, say};

/// Print a witness: a record of all that a cached answer depends on
///
/// Take it before you ask for the answer, and store both. “modstamp check” later tells whether the
/// answer still holds.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if observed, 1 if not, 2 if the arguments are wrong")]
pub struct Arguments {
    /// An older witness. Only files that changed since then are read again
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Observe for the answer of this program alone: other programs of the profile do not count
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    program: Option<PathBuf>,
    /// Add a text of your own, such as your version: with another text, the answer is stale
    #[arg(long, value_name = "TEXT")]
    tag: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.observe(), 1)
    }

    fn observe(self) -> anyhow::Result<ExitCode> {
        let mut profile = self.which.load()?;
        if let Some(program) = &self.program {
            profile = profile.of_program(std::path::absolute(program)?);
        }
        if let Some(tag) = &self.tag {
            profile = profile.tagged(tag);
        }
        let witness = match self.older()? {
            Some(older) => profile.observe_again(&older)?,
            None => profile.observe()?,
        };
        for warning in witness.warnings(&profile) {
            say("warning: ", warning);
        }
        print(witness)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The older witness. `None` if none is named, or if the file holds none.
    fn older(&self) -> anyhow::Result<Option<Witness>> {
        let Some(file) = &self.trust else {
            return Ok(None);
        };
        let older = Witness::from_bytes(&read_stored(file)?);
        let older = older.inspect_err(|error| {
            say(
                "warning: ",
                format_args!("{error}; so every content is read"),
            );
        });
        Ok(older.ok())
    }
}
