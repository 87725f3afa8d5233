//! The doctor's report: findings, notes, and the places that could not be looked at.

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

/// The state of a host, as far as the doctor could see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Well,
    /// Something needs mending.
    Ill,
    /// Nothing that was seen needs mending, but something could not be looked at.
    NotKnown,
}

/// The result of an examination.
#[derive(Debug, Default)]
pub struct Examination {
    /// The number of checks that were made.
    pub checks: usize,
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
            (true, true) => Health::Well,
        }
    }

    pub(crate) fn finding(
        &mut self,
        check: &'static str,
        seen: impl Into<String>,
        why: &str,
        remedy: impl Into<String>,
    ) {
        self.findings.push(Finding {
            check,
            seen: seen.into(),
            why: why.to_owned(),
            remedy: remedy.into(),
        });
    }

    pub(crate) fn note(
        &mut self,
        check: &'static str,
        seen: impl Into<String>,
        why: impl Into<String>,
    ) {
        let (seen, why) = (seen.into(), why.into());
        self.notes.push(Note { check, seen, why });
    }

    pub(crate) fn unseen(
        &mut self,
        check: &'static str,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (seen, remedy) = (seen.into(), remedy.into());
        self.unseen.push(Unseen {
            check,
            seen,
            remedy,
        });
    }
}
