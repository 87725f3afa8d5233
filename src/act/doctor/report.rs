//! The doctor's report: findings, notes, and the places that could not be looked at.
//!
//! Each text is one line of printable characters.

use crate::ground::text::Sentence;

/// Something that needs mending.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The check, such as "stamp-rights".
    pub check: &'static str,
    /// What was seen, as a clause without a full stop.
    pub seen: String,
    /// Why it matters, as a clause.
    pub why: String,
    /// The command that mends it, ready to be pasted into a shell. For another root it begins with
    /// “inside that system: ”.
    pub remedy: String,
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
}

impl Examination {
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
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            check,
            seen: line(seen),
            why: line(why),
            remedy: line(remedy),
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
    pub(crate) fn blind(&mut self, check: &'static str, Blind { seen, remedy }: Blind) {
        let (seen, remedy) = (line(seen), line(remedy));
        if self.unseen.iter().all(|unseen| unseen.seen != seen) {
            self.unseen.push(Unseen {
                check,
                seen,
                remedy,
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
