//! `modstamp check`: a stored witness against the inputs of now.

use std::path::PathBuf;
use std::process::ExitCode;

use modstamp::{Verdict, Witness};

use super::status::shown;
use super::{Which, end, print, print_json, read_stored};

/// Tell whether the answer of a stored witness still holds, and if not, why
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if fresh, 1 if stale, 2 if the check was not possible or the arguments are wrong"
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
        let verdict = match Witness::from_bytes(&read_stored(&self.file)?) {
            Ok(witness) => witness.check(&profile)?,
            Err(error) => Verdict::from(error),
        };
        match self.json {
            true => print_json(&verdict)?,
            false => print(sentences(&verdict))?,
        }
        Ok(ExitCode::from(u8::from(!verdict.is_fresh())))
    }
}

fn sentences(verdict: &Verdict) -> String {
    if verdict.is_fresh() {
        return "fresh\n".to_owned();
    }
    let lines = verdict.reasons_with_times(Verdict::MOST_LINES, shown);
    lines
        .iter()
        .map(|line| format!("stale: {line}\n"))
        .collect()
}
