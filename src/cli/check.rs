//! `modstamp check`: a stored witness against now.

use std::path::PathBuf;
use std::process::ExitCode;

use modstamp::Verdict;

use super::{MOST_LINES, Which, end, print, stored_witness};

/// Judge a stored witness by what is there now
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if fresh, 1 if stale, 2 if it could not be asked or the arguments are wrong"
)]
pub struct Arguments {
    /// The file that holds the witness; “-” for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the verdict and every reason as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.check(), 2)
    }

    fn check(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let verdict = match stored_witness(&self.file)? {
            Ok(witness) => witness.check(&profile)?,
            Err(error) => Verdict::from(error),
        };
        print(match self.json {
            true => serde_json::to_string(&verdict)? + "\n",
            false => sentences(&verdict),
        })?;
        Ok(ExitCode::from(u8::from(!verdict.is_fresh())))
    }
}

fn sentences(verdict: &Verdict) -> String {
    if verdict.is_fresh() {
        return "fresh\n".to_owned();
    }
    verdict
        .reasons_for_people(MOST_LINES)
        .iter()
        .map(|line| format!("stale: {line}\n"))
        .collect()
}
