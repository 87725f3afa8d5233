//! `modstamp check`: a stored witness against now.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use modstamp::Verdict;

use super::{MOST_LINES, Which, end, print};

/// A witness is some 100 bytes an input. What is larger than this is not one.
const MOST_BYTES: u64 = 256 << 20;

/// Judge a stored witness by what is there now; the exit status is 0 fresh, 1 stale, 2 could not be asked
#[derive(clap::Args)]
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
        let mut text = Vec::new();
        if self.file.as_os_str() == "-" {
            let read = std::io::stdin().take(MOST_BYTES).read_to_end(&mut text);
            read.context("cannot read the witness from standard input")?;
        } else {
            let read = fs_err::File::open(&self.file)
                .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
            read.context("cannot read the witness; name a file that “modstamp observe” filled")?;
        }
        let verdict = Verdict::of_text(&text, &profile.inputs()?);
        print(&match self.json {
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
