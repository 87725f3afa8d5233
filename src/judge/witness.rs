//! A witness: the observation that a consumer takes before it probes, and stores with the answer.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::ground::error::{Error, Result};
use crate::judge::reason::{Reason, Subject};
use crate::judge::verdict::Verdict;
use crate::judge::witness_text;
use crate::observe::content::Content;
use crate::observe::entry::Entry;
use crate::observe::input::Input;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;

/// What a profile's inputs were at one moment.
///
/// [`Profile::observe`] makes it. [`Display`](fmt::Display) stores it as text, and [`FromStr`]
/// reads that. With serde it is a string.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Witness {
    pub(crate) observation: Observation,
}

impl Profile {
    /// Observes all inputs and their contents. Call it *before* the probe, and store the witness
    /// with the answer.
    ///
    /// If something changed within the current clock tick, it waits until that tick is over. So no
    /// later change can look like an earlier one. That takes some milliseconds. It takes up to
    /// three seconds if the file system keeps whole seconds, or if the stamp is a little ahead of
    /// the clock.
    ///
    /// If there is more than 8 MiB to read, up to three threads help, each with one file at a time.
    /// Like that of [`Profile::inputs`], they end before the call returns.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn observe(&self) -> Result<Witness> {
        let observation = self.inputs()?.read(Depth::All, &[]);
        Ok(Witness { observation })
    }

    /// Like [`Profile::observe`], of one program's answer: the other programs do not count, so an
    /// upgrade of one of them makes nothing stale.
    ///
    /// [`Witness::check`] then looks at that program alone. `program` is an absolute path in the
    /// root directory. The profile need not name it.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn observe_for(&self, program: impl Into<PathBuf>) -> Result<Witness> {
        self.clone().of_program(program).observe()
    }

    /// Like [`Profile::observe`], but reads only what changed since an `older` witness, by its stat
    /// identity.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn observe_again(&self, older: &Witness) -> Result<Witness> {
        self.refuse_empty(self.name())?;
        let older = &older.observation;
        let observation = Inputs::of(self, Some(older))?.read(Depth::All, &[older]);
        Ok(Witness { observation })
    }
}

impl Inputs {
    /// Reads the contents of all inputs into a witness, like [`Profile::observe`].
    pub fn witness(&self) -> Witness {
        let observation = self.clone().read(Depth::All, &[]);
        Witness { observation }
    }
}

impl Witness {
    /// Reads a witness from bytes that may be anything.
    ///
    /// # Errors
    /// [`Error::Witness`] if they are no whole witness of this version or an earlier one. It says
    /// what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Witness> {
        let text = std::str::from_utf8(bytes);
        text.map_err(|_| Error::Witness("it is not text in UTF-8".to_owned()))?
            .parse()
    }

    /// The name of the witness's profile.
    pub fn profile(&self) -> &str {
        &self.observation.profile
    }

    /// The program that the witness is of; `None` if it is of all programs of its profile.
    pub fn program(&self) -> Option<&Path> {
        self.observation.program.as_deref()
    }

    /// The consumer's text in the witness; `None` if it gave none.
    pub fn tag(&self) -> Option<&str> {
        self.observation.tag.as_deref()
    }

    /// The warnings about inputs that `profile` names and this observation lacks.
    #[doc(hidden)] // Only the programs use it.
    pub fn warnings(&self, profile: &Profile) -> Vec<String> {
        profile.unseen(&self.observation)
    }

    /// Judges this witness by the profile's inputs of now. To judge many by one look, call
    /// [`Profile::inputs`] once and [`Witness::judge`] for each.
    ///
    /// A witness of one program is judged by that program alone.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn check(&self, profile: &Profile) -> Result<Verdict> {
        profile.refuse_empty(profile.name())?;
        let profile = self.looked_at_by(profile);
        Ok(self.judge(&Inputs::of(&profile, Some(&self.observation))?))
    }

    /// The profile by which a look judges this witness: a witness of one program is judged by that
    /// program alone.
    pub(crate) fn looked_at_by<'a>(&self, profile: &'a Profile) -> Cow<'a, Profile> {
        match (&self.observation.program, &profile.program) {
            (Some(program), None) => Cow::Owned(profile.clone().of_program(program)),
            _ => Cow::Borrowed(profile),
        }
    }

    /// Judges this witness by inputs that the caller already looked at.
    ///
    /// A witness of one program needs a look at that program, or at all programs of the profile.
    pub fn judge(&self, now: &Inputs) -> Verdict {
        Verdict::of(&self.observation, now)
    }

    /// The profile as this witness was observed by: with its program and its tag.
    #[cfg(feature = "ffi")]
    pub(crate) fn question(&self, profile: &Profile) -> Profile {
        let mut question = profile.clone();
        question.program = self.observation.program.clone();
        question.tag = self.observation.tag.clone();
        question
    }

    /// Judges this witness by the stamps alone, at the cost of a stat each. It is for a consumer
    /// that has no time to look at all modules.
    ///
    /// It sees only changes after which a trigger, `modstamp update` or a person touched a stamp.
    pub fn check_stamps(&self, profile: &Profile) -> Verdict {
        Verdict::of_stamps(&self.observation, profile)
    }

    /// The reason why the answer of a probe must not be stored; `None` if it may be stored.
    ///
    /// `after` is a look at the inputs after the probe. If the witness is stale by then, its first
    /// reason is returned. [`Reason::Disturbed`] says that something was changed and changed back.
    /// The answer may reflect that change, and no later check can detect it.
    ///
    /// Call it on the witness that [`Profile::observe`] gave, or on its text. With an old witness,
    /// a redeploy or a reboot counts as a disturbance, too: it moves stat identities.
    pub fn disturbed(&self, after: &Inputs) -> Option<Reason> {
        if let Some(reason) = self.judge(after).reasons().first() {
            return Some(reason.clone());
        }
        // A fresh witness has the names of now.
        let after = after.narrowed_to(&self.observation);
        let (then, now) = (&self.observation, after.observation());
        let mut entries = then.entries().zip(now.entries());
        let touched = entries.find_map(|((input, top, then), (_, _, now))| {
            let is_touched = then.identity.fingerprint() != now.identity.fingerprint();
            let path = top.map_or(then.name.clone(), |top| top.join(&then.name));
            is_touched.then(|| Subject::new(input, top, &path))
        });
        let mut directories = then.directories.iter().zip(&now.directories);
        let touched_directory = || {
            let (touched, _) = directories.find(|(then, now)| then.own() != now.own())?;
            Some(Subject::new(Input::ModuleDirectory, None, &touched.name))
        };
        touched.or_else(touched_directory).map(Reason::Disturbed)
    }

    /// The reasons that are new: it omits inputs that were unreadable then, and are now, for the
    /// same cause. Those would stay whatever is done.
    pub(crate) fn news(&self, now: &Inputs) -> Vec<Reason> {
        let is_old = |reason: &Reason| match reason {
            Reason::Unknown { subject, .. } => {
                let then = state(&self.observation, subject);
                let is_unreadable = matches!(then, Some((Content::Unreadable(_), _)));
                is_unreadable && then == state(now.observation(), subject)
            }
            _ => false,
        };
        let mut reasons = self.judge(now).reasons().to_vec();
        reasons.retain(|reason| !is_old(reason));
        reasons
    }

    /// A better witness of the same contents, so that later looks need not read them. `None` if it
    /// would save nothing, or if something changed meanwhile.
    ///
    /// This witness has to be fresh by the inputs of `now`.
    pub(crate) fn completed(&self, profile: &Profile, now: &Inputs) -> Option<Witness> {
        (self.lacks_contents() || self.can_learn_from(now)).then_some(())?;
        let observation = now.clone().read(Depth::All, &[&self.observation]);
        let witness = Witness { observation };
        let again = Inputs::of(profile, Some(&witness.observation)).ok()?;
        witness.disturbed(&again).is_none().then_some(witness)
    }

    fn lacks_contents(&self) -> bool {
        let mut entries = self.observation.entries();
        entries.any(|(_, _, entry)| entry.content == Content::Unread)
    }

    /// Whether the inputs of `now` have evidence that this witness lacks. It is fresh by them.
    pub(crate) fn can_learn_from(&self, now: &Inputs) -> bool {
        let now = now.narrowed_to(&self.observation);
        let (then, now) = (&self.observation, now.observation());
        let mut entries = then.entries().zip(now.entries());
        let mut directories = then.directories.iter().zip(&now.directories);
        let mut searched = now.searched.iter();
        entries.any(|((_, _, then), (_, _, now))| {
            now.identity.evidence().is_some() && !then.is_proven_same(now)
        }) || directories.any(|(then, now)| now.sum().is_some() && then.sum() != now.sum())
            || searched.any(|searched| !then.searched.contains(searched))
            || now.host.processor.is_some() && now.host.processor != then.host.processor
            || can_learn_places(then, now)
    }
}

/// Whether `now` has evidence for its list of libraries that `then` lacks.
fn can_learn_places(then: &Observation, now: &Observation) -> bool {
    let (Some(then), Some(now)) = (&then.libraries, &now.libraries) else {
        return false;
    };
    let mut looked = now.looked.iter();
    looked.any(|looked| looked.identity.evidence().is_some() && !then.looked.contains(looked))
}

/// The content and the fingerprint of a reason's subject; `None` if it is not there.
fn state(observation: &Observation, subject: &Subject) -> Option<(Content, Option<u64>)> {
    let state = |entries: &[Entry], name: &Path| {
        let index = entries.binary_search_by(|entry| entry.name.as_path().cmp(name));
        let entry = &entries[index.ok()?];
        Some((entry.content, entry.identity.fingerprint()))
    };
    match subject.input {
        Input::ModuleDirectory => {
            let directory = observation.directory(&subject.path)?;
            Some((directory.content(), None))
        }
        Input::Module => observation.directories.iter().find_map(|directory| {
            let name = subject.path.strip_prefix(&directory.name).ok()?;
            let modules = observation.modules_at(&directory.name)?;
            state(&modules.entries, name)
        }),
        Input::Program => state(&observation.programs, &subject.path),
        Input::File => state(&observation.files, &subject.path),
        Input::Command => state(&observation.commands, &subject.path),
        Input::Library => state(observation.libraries(), &subject.path),
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        witness_text::write(f, &self.observation)
    }
}

impl FromStr for Witness {
    type Err = Error;

    /// Reads a witness of this version or an earlier one.
    ///
    /// # Errors
    /// Like [`Witness::from_bytes`].
    fn from_str(text: &str) -> Result<Witness> {
        let observation = witness_text::parse(text)?;
        Ok(Witness { observation })
    }
}

impl From<Witness> for String {
    fn from(witness: Witness) -> String {
        witness.to_string()
    }
}

impl TryFrom<String> for Witness {
    type Error = Error;

    fn try_from(text: String) -> Result<Witness> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::files::root::Root;

    /// The mark in a witness of a directory that is too deep, and that of a failed disk.
    const TOO_DEEP: &str = " !40 ";
    const FAILED_DISK: &str = " !5 ";

    #[test]
    fn an_input_that_is_unreadable_for_another_cause_than_before_is_news() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = format!("usr/lib64/qemu/{}", "a/".repeat(40));
        fs::create_dir_all(scratch.path().join(deep)).unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let profile = Profile::built_in("qemu", &root).unwrap();
        let witness = profile.observe().unwrap();
        let now = profile.inputs().unwrap();
        assert!(witness.news(&now).is_empty(), "{:?}", witness.news(&now));
        let text = witness.to_string();
        assert_eq!(text.matches(TOO_DEEP).count(), 1, "{text}");
        let witness: Witness = text.replace(TOO_DEEP, FAILED_DISK).parse().unwrap();
        let news = witness.news(&now);
        assert!(matches!(news[..], [Reason::Unknown { .. }]), "{news:?}");
    }

    /// The error of a witness with that first line and one more.
    fn refusal(first: &str, line: &str) -> String {
        let text = format!("{first}\n{line}\nend 2\n");
        Witness::from_bytes(text.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_variable_without_a_whole_value_is_no_line_of_a_witness() {
        let witness = |value: &str| {
            let text = format!("modstamp-witness 1 qemu\nvariable A {value}\nend 2\n");
            Witness::from_bytes(text.as_bytes())
        };
        for whole in ["-", "=", "=/opt"] {
            assert!(witness(whole).is_ok(), "{whole}");
        }
        for torn in ["", "/opt", "--"] {
            assert!(witness(torn).is_err(), "{torn}");
        }
    }

    #[test]
    fn a_witness_of_a_later_version_is_told_from_one_without_a_version() {
        let stamp = "stamp system -";
        assert!(refusal("modstamp-witness 3 qemu", stamp).contains("of version 3"));
        assert!(refusal("modstamp-witness 0 qemu", stamp).contains("“0” is not a version"));
    }

    #[test]
    fn a_witness_has_the_name_of_its_profile() {
        let observation = Observation {
            profile: "qemu".to_owned(),
            ..Observation::default()
        };
        let witness = Witness { observation };
        assert_eq!(witness.profile(), "qemu");
        let stored = String::from(witness.clone());
        assert_eq!(stored, witness.to_string());
    }
}
