//! `modstamp observe`: a witness, before a probe.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Which, end, print, say, stored_witness};

/// Print a witness of all that a cached answer depends on; take it before you probe, store it with the answer
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if observed, 1 if not, 2 if the arguments are wrong")]
pub struct Arguments {
    /// An older witness: only what changed since is read again
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
        let older = self.trust.as_deref().map(stored_witness).transpose()?;
        print(match older {
            Some(Ok(older)) => profile.observe_again(&older)?,
            Some(Err(error)) => {
                say("warning: all is read: ", error);
                profile.observe()?
            }
            None => profile.observe()?,
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
