//! `modstamp check`: a stored witness against the inputs of now.

use std::path::PathBuf;

use anyhow::anyhow;
use modstamp::{Profile, Root, Verdict, Witness, printable};

use super::time::shown;
use super::{ExitCode, Place, end, load, print, print_json, read_stored};

/// Tell whether a cached answer still holds, by the witness stored with it, and if not, why
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if fresh, 1 if stale, 2 if the check was not possible or the arguments are wrong"
)]
pub struct Arguments {
    /// The file with the witness; “-” for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the verdict and every reason as JSON
    #[arg(long)]
    json: bool,
    /// The profile: a name, or the path of a profile's file (a value with a “/” in it)  [default:
    /// that of the witness]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Your own text, such as your version: the answer is stale if it was observed with another one
    /// [default: the text of the witness]
    #[arg(long, value_name = "TEXT")]
    tag: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.check(), 2)
    }

    fn check(self) -> anyhow::Result<ExitCode> {
        let root = self.place.root()?;
        let named = self.profile.as_deref();
        let named = named.map(|name| load(name, &root)).transpose()?;
        let verdict = match Witness::from_bytes(&read_stored(&self.file)?) {
            Ok(witness) => {
                let mut profile = named.map_or_else(|| profile_of(&witness, &root), Ok)?;
                if let Some(tag) = self.tag.as_deref().or(witness.tag()) {
                    profile = profile.tagged(tag);
                }
                witness.check(&profile)?
            }
            Err(error) => Verdict::from(error),
        };
        match self.json {
            true => print_json(&verdict)?,
            false => print(sentences(&verdict))?,
        }
        Ok(ExitCode::from(u8::from(!verdict.is_fresh())))
    }
}

/// The profile that the witness names. A path is no name: anybody may have written it.
fn profile_of(witness: &Witness, root: &Root) -> anyhow::Result<Profile> {
    let name = witness.profile();
    let profile = match name.contains('/') {
        true => Profile::new(name).map_err(Into::into),
        false => load(name, root),
    };
    profile.map_err(|error| {
        let name = printable(name.as_ref());
        anyhow!(
            "the witness is of the profile “{name}”, which cannot be loaded: {error:#}; \
             add --profile NAME, or --profile FILE"
        )
    })
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
