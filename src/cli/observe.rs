//! `modstamp observe`: a witness, before a probe.

use std::process::ExitCode;

use super::{Which, end, print};

/// Print a witness of all that a cached answer depends on; take it before you probe, store it with the answer
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.observe(), 1)
    }

    fn observe(self) -> anyhow::Result<ExitCode> {
        print(&self.which.load()?.observe()?.to_string())?;
        Ok(ExitCode::SUCCESS)
    }
}
