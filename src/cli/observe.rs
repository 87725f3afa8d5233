//! `modstamp observe`: a witness, before a probe.

use std::path::PathBuf;
use std::process::ExitCode;

use modstamp::Witness;

use super::{Which, end, print, read_stored, say};

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
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.observe(), 1)
    }

    fn observe(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let witness = match self.older()? {
            Some(older) => profile.observe_again(&older)?,
            None => profile.observe()?,
        };
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
