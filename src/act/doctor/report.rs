//! The doctor's report: findings, notes, and the places that could not be looked at.
//!
//! Each text is one line of printable characters.

use std::path::Path;

use crate::files::root::Root;
use crate::ground::text::{Printable, Sentence};

/// Something that needs mending.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The check, such as "stamp-rights".
    pub check: &'static str,
    /// What was seen, as a clause without a full stop.
    pub seen: String,
    /// Why it matters, as a clause.
    pub why: String,
    /// The command that mends it, ready to be pasted into a shell.
    pub remedy: String,
    /// The root directory of the system inside which the remedy has to be run. `None` for the
    /// running system.
    pub inside: Option<String>,
}

/// Something worth knowing, which needs no mending.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The check, as in a finding.
    pub check: &'static str,
    /// What was seen, as a clause.
    pub seen: String,
    /// What follows from it, as a clause.
    pub why: String,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unseen {
    /// The check, as in a finding.
    pub check: &'static str,
    /// What was not seen, and the cause, as a sentence.
    pub seen: String,
    /// The command that looks there, ready to be pasted into a shell.
    pub remedy: String,
    /// The root directory of the system inside which the remedy has to be run. `None` for the
    /// running system.
    pub inside: Option<String>,
}

/// The commands that mend a finding, each run only if those before it succeed.
pub(crate) struct Remedy(Vec<Step>);

/// One command of a remedy.
pub(crate) enum Step {
    /// A command for root.
    Root(String),
    /// A command for the caller, who owns what it changes.
    Own(String),
    /// Writes lines into a new file of root's. `words` and `file` are quoted for a shell.
    Write { words: String, file: String },
}

impl Remedy {
    pub(crate) fn steps(steps: impl IntoIterator<Item = Step>) -> Remedy {
        Remedy(steps.into_iter().collect())
    }

    /// Commands for root.
    pub(crate) fn of_root<const COUNT: usize>(commands: [String; COUNT]) -> Remedy {
        Remedy(commands.map(Step::Root).into())
    }

    fn text(&self, by: By) -> String {
        let steps: Vec<String> = self.0.iter().map(|step| step.text(by)).collect();
        steps.join(" && ")
    }
}

impl<Text: Into<String>> From<Text> for Remedy {
    fn from(command: Text) -> Remedy {
        Remedy::of_root([command.into()])
    }
}

impl Step {
    fn text(&self, by: By) -> String {
        let (sudo, quiet) = ("sudo ", " > /dev/null");
        match (self, by) {
            (Step::Own(command), _) | (Step::Root(command), By::Root) => command.clone(),
            (Step::Root(command), By::User) => format!("{sudo}{command}"),
            (Step::Write { words, file }, by) => {
                let print = format!("printf '%s\\n' {words}");
                match by {
                    By::Root => format!("{print} > {file}"),
                    // The shell would open the file with the caller's rights.
                    By::User => format!("{print} | {sudo}tee {file}{quiet}"),
                }
            }
        }
    }
}

/// The user that pastes a remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum By {
    /// Root, or somebody inside another system.
    #[default]
    Root,
    User,
}

/// A look that failed. Something may be there, or nothing.
#[derive(Debug)]
pub(crate) struct Blind {
    /// What was not seen, and the cause, as a sentence.
    pub(crate) seen: String,
    /// The command that looks there.
    pub(crate) remedy: String,
}

/// The result of a look. A look that finds nothing is no error.
pub(crate) type Seen<T> = std::result::Result<T, Blind>;

/// The outcome of a check that was not stopped by a failed look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Made,
    /// The host has nothing that the check is for.
    NothingHere,
}

/// The state of a host, as far as the doctor could see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Well,
    /// No profile's program or module directory is on the host, so there is nothing to check.
    Unused,
    /// Something needs mending.
    Ill,
    /// Nothing that was seen needs mending, but something could not be looked at.
    NotKnown,
}

/// The result of an examination.
#[derive(Debug, Default)]
pub struct Examination {
    /// The number of checks that were made. The others do not apply to the host.
    pub checks: usize,
    /// Whether a program or a module directory of any profile was seen.
    pub is_used: bool,
    /// All that needs mending.
    pub findings: Vec<Finding>,
    /// All that is worth knowing.
    pub notes: Vec<Note>,
    /// All that could not be looked at.
    pub unseen: Vec<Unseen>,
    by: By,
    inside: Option<String>,
}

impl Examination {
    /// An examination of the host below `root`, before any check.
    pub(crate) fn of(root: &Root) -> Examination {
        let is_root = rustix::process::geteuid().is_root();
        let top = root.outside(Path::new("/"));
        Examination {
            by: match is_root || !root.is_system() {
                true => By::Root,
                false => By::User,
            },
            inside: (!root.is_system()).then(|| Printable(top.as_os_str()).to_string()),
            ..Examination::default()
        }
    }

    /// The number of findings.
    pub fn problems(&self) -> usize {
        self.findings.len()
    }

    /// The state of the host.
    pub fn health(&self) -> Health {
        match (self.findings.is_empty(), self.unseen.is_empty()) {
            (false, _) => Health::Ill,
            (true, false) => Health::NotKnown,
            (true, true) if self.is_used => Health::Well,
            (true, true) => Health::Unused,
        }
    }

    pub(crate) fn finding(
        &mut self,
        check: &'static str,
        seen: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<Remedy>,
    ) {
        let remedy: Remedy = remedy.into();
        self.findings.push(Finding {
            check,
            seen: line(seen),
            why: line(why),
            remedy: line(remedy.text(self.by)),
            inside: self.inside.clone(),
        });
    }

    pub(crate) fn note(
        &mut self,
        check: &'static str,
        seen: impl Into<String>,
        why: impl Into<String>,
    ) {
        let (seen, why) = (line(seen), line(why));
        self.notes.push(Note { check, seen, why });
    }

    /// Reports a look that failed. Each place is told once, however many checks look there.
    pub(crate) fn blind(&mut self, check: &'static str, blind: Blind) {
        self.unseen(check, blind, None);
    }

    /// Like `blind`, for a place that only a look from inside another root shows.
    pub(crate) fn blind_from_outside(&mut self, check: &'static str, blind: Blind) {
        self.unseen(check, blind, self.inside.clone());
    }

    fn unseen(
        &mut self,
        check: &'static str,
        Blind { seen, remedy }: Blind,
        inside: Option<String>,
    ) {
        let (seen, remedy) = (line(seen), line(remedy));
        if self.unseen.iter().all(|unseen| unseen.seen != seen) {
            self.unseen.push(Unseen {
                check,
                seen,
                remedy,
                inside,
            });
        }
    }

    /// The result of a look. If the look failed, reports that.
    pub(crate) fn seen<T>(&mut self, check: &'static str, look: Seen<T>) -> Option<T> {
        look.map_err(|blind| self.blind(check, blind)).ok()
    }
}

/// A text without line breaks, which would let a name look like a line of the report.
fn line(text: impl Into<String>) -> String {
    Sentence(&text.into()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_is_not_root_gets_a_remedy_by_which_root_does_each_step() {
        let remedy = || {
            Remedy::steps([
                Step::Root("install -d /etc/a".to_owned()),
                Step::Write {
                    words: "'a = 1'".to_owned(),
                    file: "/etc/a/b".to_owned(),
                },
            ])
        };
        let print = r"printf '%s\n' 'a = 1'";
        let text = format!("sudo install -d /etc/a && {print} | sudo tee /etc/a/b > /dev/null");
        assert_eq!(remedy().text(By::User), text);
        let text = format!("install -d /etc/a && {print} > /etc/a/b");
        assert_eq!(remedy().text(By::Root), text);
        let own = Remedy::steps([Step::Own("vi b".to_owned())]);
        assert_eq!(own.text(By::User), "vi b");
        let mut report = Examination {
            by: By::User,
            ..Examination::default()
        };
        report.finding("stamp", "a", "b", "modstamp touch --profile nbdkit");
        let remedy = &report.findings[0].remedy;
        assert_eq!(remedy, "sudo modstamp touch --profile nbdkit");
    }

    #[test]
    fn no_text_from_outside_looks_like_another_line_of_the_report() {
        let mut report = Examination::default();
        report.finding("label", "the label a\n  rm -r /", "a\nb", "a\nb");
        report.note("label", "a\nb", "a\nb");
        let blind = || Blind {
            seen: "a\nb".to_owned(),
            remedy: "a\nb".to_owned(),
        };
        report.blind("label", blind());
        assert_eq!(report.findings[0].seen, "the label a\\x0a  rm -r /");
        assert!(!format!("{report:?}").contains("\\n"), "{report:?}");
    }
}
