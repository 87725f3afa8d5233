//! `modstamp doctor`: whether triggers, units, profiles, paths and rights are as they should be.

use modstamp::doctor::{Examination, Finding, Health, Note, Unseen, examine};
use serde_json::json;

use super::{ExitCode, Place, end, print, print_json};

/// Check triggers, units, profiles, stamps, paths and rights
///
/// Each finding has three lines: what was seen, why it matters, and a command that mends it. The
/// doctor changes nothing itself. It asks rpm and systemd only about the running system. Below
/// another root it only reads files.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is well, or if there is nothing to check; 1 if something needs mending; 2 if nothing was found, but something could not be checked, or if the arguments are wrong"
)]
pub struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.doctor(), 2)
    }

    fn doctor(self) -> anyhow::Result<ExitCode> {
        let root = self.place.root()?;
        let examination = examine(&root, &[]);
        let health = examination.health();
        match self.json {
            true => print_json(&json!({
                "version": 1,
                "well": is_well(&examination),
                "checks": examination.checks,
                "findings": examination.findings,
                "notes": examination.notes,
                "unseen": examination.unseen,
            }))?,
            false => print(text(&examination))?,
        }
        Ok(ExitCode::from(match health {
            Health::Well | Health::Unused => 0,
            Health::Ill => 1,
            Health::NotKnown => 2,
        }))
    }
}

/// Whether nothing needs mending, and all could be looked at.
pub fn is_well(examination: &Examination) -> bool {
    matches!(examination.health(), Health::Well | Health::Unused)
}

/// Three lines for each finding, two for each unseen place and each note, and a last line.
fn text(examination: &Examination) -> String {
    let findings = examination.findings.iter();
    let findings = findings.map(
        |Finding {
             check,
             seen,
             why,
             remedy,
             inside,
         }| {
            let remedy = placed(remedy, inside);
            format!("problem ({check}): {seen}\n  why it matters: {why}\n  {remedy}\n")
        },
    );
    let unseen = examination.unseen.iter();
    let unseen = unseen.map(
        |Unseen {
             check,
             seen,
             remedy,
             inside,
         }| {
            let remedy = placed(remedy, inside);
            format!("could not check ({check}): {seen}\n  {remedy}\n")
        },
    );
    let notes = examination.notes.iter();
    let notes = notes.map(|Note { check, seen, why }| format!("note ({check}): {seen}\n  {why}\n"));
    let all: String = findings.chain(unseen).chain(notes).collect();
    all + &summary(examination)
}

/// A remedy, with the system that it is for.
///
/// Outside, a link in another root could lead the command to a file of this system. chroot(1) would
/// start programs that anybody may have made.
fn placed(remedy: &str, inside: &Option<String>) -> String {
    match inside {
        Some(_) => format!("inside that system: {remedy}"),
        None => remedy.to_owned(),
    }
}

fn summary(examination: &Examination) -> String {
    let checks = counted(examination.checks, "check");
    let problems = counted(examination.problems(), "problem");
    let unseen = examination.unseen.len();
    match examination.health() {
        Health::Well => format!("all is well: {checks}\n"),
        Health::Unused => format!("there is nothing to check: {UNUSED}\n"),
        Health::Ill | Health::NotKnown if unseen > 0 => {
            let unseen = counted(unseen, "place");
            format!("{problems} found, and {unseen} not checked: {checks}\n")
        }
        Health::Ill | Health::NotKnown => format!("{problems} found: {checks}\n"),
    }
}

/// Why an unused host has nothing to check, as a clause.
pub const UNUSED: &str = "no profile's program or module directory is installed";

/// A number of things, such as "2 problems".
pub fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
