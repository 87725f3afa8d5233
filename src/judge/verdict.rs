//! The verdict: a stored witness against the inputs of now, and every reason why it is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::files::root::Root;
use crate::ground::error::Error;
use crate::judge::reason::{Aspect, Input, Reason, Subject};
use crate::judge::witness::Witness;
use crate::observe::entry::{Content, Entry};
use crate::observe::inputs::{Directory, Inputs, StampState, Stamps, is_same};
use crate::observe::profile::Profile;
use crate::stamp::stamp::Owner;

/// Why something with another stat identity is not known (see `Inputs::outline`).
const NOT_READ: &str = "it was touched, and what was in it before was not read";

/// The version of a verdict as JSON. It moves when a reader of an earlier one could be misled.
const VERSION: u32 = 1;

/// Whether a cached answer still holds.
///
/// With serde it is data: `{"version":1,"fresh":false,"reasons":[…]}`, which `packaging/verdict-1.schema.json` describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that the answer depends on is different.
    Fresh,
    /// Something is, or cannot be known to be the same. There is at least one reason.
    Stale(Vec<Reason>),
}

impl Verdict {
    /// The lines that a verdict takes for a person, for [`Verdict::reasons_for_people`].
    pub const MOST_LINES: usize = 10;

    /// Whether nothing is different.
    pub fn is_fresh(&self) -> bool {
        *self == Verdict::Fresh
    }

    /// Every reason; none where the verdict is fresh.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Verdict::Fresh => &[],
            Verdict::Stale(reasons) => reasons,
        }
    }

    /// The reasons as sentences, in at most `most` lines, of which the last counts the reasons that are left out.
    pub fn reasons_for_people(&self, most: usize) -> Vec<String> {
        let reasons = self.reasons();
        let shown = match reasons.len() {
            all if all <= most => all,
            _ => most.saturating_sub(1),
        };
        let mut lines: Vec<String> = reasons[..shown].iter().map(Reason::to_string).collect();
        if shown < reasons.len() {
            let rest = reasons.len() - shown;
            lines.push(format!("and {rest} more"));
        }
        lines
    }

    /// The verdict on a stored witness that is still text, and may be anything.
    ///
    /// What is not a whole witness is stale, with that as the reason.
    pub fn of_text(text: &[u8], now: &Inputs) -> Verdict {
        match Witness::from_bytes(text) {
            Ok(witness) => witness.judge(now),
            Err(error) => Verdict::from(error),
        }
    }

    /// The verdict on what cannot be read as a witness.
    pub(crate) fn unreadable(error: &str) -> Verdict {
        let error = error.to_owned();
        Verdict::Stale(vec![Reason::Witness { error }])
    }

    pub(crate) fn of_stamps(witness: &Witness, profile: &Profile) -> Verdict {
        if let Some(other) = Verdict::of_other_profile(witness, profile.name()) {
            return other;
        }
        let mut reasons = Reasons(Vec::new());
        reasons.stamps(witness.observation.stamps, Stamps::of(profile));
        reasons.verdict()
    }

    fn of_other_profile(witness: &Witness, profile: &str) -> Option<Verdict> {
        let (old, new) = (witness.profile().to_owned(), profile.to_owned());
        (old != new).then(|| Verdict::Stale(vec![Reason::Profile { old, new }]))
    }

    pub(crate) fn of(witness: &Witness, now: &Inputs) -> Verdict {
        let mut reasons = Reasons(Vec::new());
        let (then, root, command_root) = (&witness.observation, &now.root, &now.command_root);
        let now = &now.observation;
        if let Some(other) = Verdict::of_other_profile(witness, &now.profile) {
            return other;
        }
        reasons.stamps(then.stamps, now.stamps);
        reasons.variables(&then.variables, &now.variables);
        let directories = merge(&then.directories, &now.directories, |directory| {
            &directory.entry.name
        });
        for (then, now) in directories {
            let input = Input::ModuleDirectory;
            reasons.entry(
                input,
                root,
                then.map(|d| &d.entry),
                now.map(|d| &d.entry),
                None,
            );
            if let (Some(then), Some(now)) = (then, now) {
                reasons.modules(root, then, now);
            }
        }
        for (input, then, now) in [
            (Input::Program, &then.programs, &now.programs),
            (Input::File, &then.files, &now.files),
        ] {
            for (then, now) in merge(then, now, |entry| &entry.name) {
                reasons.entry(input, root, then, now, None);
            }
        }
        for (then, now) in merge(&then.commands, &now.commands, |entry| &entry.name) {
            reasons.entry(Input::Command, command_root, then, now, None);
        }
        reasons.verdict()
    }
}

struct Reasons(Vec<Reason>);

impl Reasons {
    fn verdict(self) -> Verdict {
        match self.0.is_empty() {
            true => Verdict::Fresh,
            false => Verdict::Stale(self.0),
        }
    }

    fn stamps(&mut self, then: Stamps, now: Stamps) {
        let mtime = |state| match state {
            StampState::At(mtime) => Some(mtime),
            _ => None,
        };
        for (owner, then, now) in [
            (Owner::System, then.system, now.system),
            (Owner::User, then.user, now.user),
        ] {
            if [then, now].contains(&StampState::Unreadable) {
                let when = match now {
                    StampState::Unreadable => "it cannot be read, or is not a regular file",
                    _ => "it could not be read when the witness was taken",
                };
                let error = when.to_owned();
                self.0.push(Reason::UnknownStamp { owner, error });
            } else if then != now {
                self.0.push(Reason::Stamp {
                    owner,
                    old: mtime(then),
                    new: mtime(now),
                });
            }
        }
    }

    fn variables(
        &mut self,
        then: &[(String, Option<OsString>)],
        now: &[(String, Option<OsString>)],
    ) {
        if then == now {
            return;
        }
        let [then, now] = [then, now].map(|all| {
            let named = all.iter().map(|(name, value)| (name, value.as_ref()));
            named.collect::<BTreeMap<&String, Option<&OsString>>>()
        });
        let names: BTreeSet<&String> = then.keys().chain(now.keys()).copied().collect();
        for name in names {
            let value = |of: &BTreeMap<_, Option<_>>| of.get(name).copied().flatten();
            let (old, new) = (value(&then), value(&now));
            if old != new {
                let text = |value: &OsString| value.to_string_lossy().into_owned();
                self.0.push(Reason::Variable {
                    name: name.clone(),
                    old: old.map(text),
                    new: new.map(text),
                });
            }
        }
    }

    /// What is in a module directory. Below a directory that could not be read, then or now, nothing is known to have come
    /// or gone.
    fn modules(&mut self, root: &Root, then: &Directory, now: &Directory) {
        if now.has_the_same_modules(then) || then.entry.is_unreadable() || now.entry.is_unreadable()
        {
            return;
        }
        let top = Some(now.entry.name.as_path());
        let mut unknown: Option<&Path> = None;
        for (then, now) in merge(&then.modules, &now.modules, |entry| &entry.name) {
            let Some(either) = now.or(then) else { continue };
            if unknown.is_some_and(|unknown| either.name.starts_with(unknown)) {
                continue;
            }
            self.entry(Input::Module, root, then, now, top);
            if [then, now].into_iter().flatten().any(Entry::is_unreadable) {
                unknown = Some(&either.name);
            }
        }
    }

    /// Stat first, content last.
    fn entry(
        &mut self,
        input: Input,
        root: &Root,
        then: Option<&Entry>,
        now: Option<&Entry>,
        top: Option<&Path>,
    ) {
        let path = |entry: &Entry| match top {
            Some(top) => top.join(&entry.name),
            None => entry.name.clone(),
        };
        let subject = |entry: &Entry| Subject::new(input, top, &path(entry));
        let (then, now) = match (then, now) {
            (Some(then), Some(now)) => (then, now),
            (None, Some(now)) => {
                let subject = subject(now);
                return self.0.push(match now.content.get() {
                    Some(Content::Unreadable(errno)) => Reason::Unknown {
                        subject,
                        error: error_text(*errno),
                    },
                    _ => Reason::Added(subject),
                });
            }
            (Some(then), None) => return self.0.push(Reason::Removed(subject(then))),
            (None, None) => return,
        };
        if is_same(then, now) {
            return;
        }
        let mut changed = |what, old: String, new: String| {
            self.0.push(Reason::Changed {
                subject: subject(now),
                what,
                old,
                new,
            });
        };
        if then.file_type() != now.file_type() {
            return changed(Aspect::Type, kind(then).to_owned(), kind(now).to_owned());
        }
        let permissions = |entry: &Entry| format!("{:04o}", entry.mode & 0o7777);
        if then.mode != now.mode && !now.file_type().is_symlink() {
            changed(Aspect::Permissions, permissions(then), permissions(now));
        }
        let owner = |entry: &Entry| format!("{}:{}", entry.uid, entry.gid);
        if owner(then) != owner(now) {
            changed(Aspect::Owner, owner(then), owner(now));
        }
        if now.file_type().is_file() && then.size != now.size {
            return changed(Aspect::Size, then.size.to_string(), now.size.to_string());
        }
        let Some(old) = then.content.get().copied() else {
            let (subject, error) = (subject(now), NOT_READ.to_owned());
            return self.0.push(Reason::Unknown { subject, error });
        };
        let new = now.content(root, || path(now));
        let error = match (old, new) {
            (_, Content::Unreadable(errno)) => error_text(errno),
            (Content::Unreadable(errno), _) => {
                format!("{}, when the witness was taken", error_text(errno))
            }
            _ if old == new => return,
            _ => return changed(Aspect::Content, old.to_string(), new.to_string()),
        };
        let subject = subject(now);
        self.0.push(Reason::Unknown { subject, error });
    }
}

/// Pairs what two sorted lists have of each name.
fn merge<'a, T>(
    then: &'a [T],
    now: &'a [T],
    name: impl Fn(&T) -> &PathBuf,
) -> impl Iterator<Item = (Option<&'a T>, Option<&'a T>)> {
    let (mut then, mut now) = (then.iter().peekable(), now.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (then.peek(), now.peek()) {
            (Some(a), Some(b)) => name(a).cmp(name(b)),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return None,
        };
        Some((
            if order.is_le() { then.next() } else { None },
            if order.is_ge() { now.next() } else { None },
        ))
    })
}

/// What cannot be read as a witness is stale, with that as the reason.
impl From<Error> for Verdict {
    fn from(error: Error) -> Verdict {
        Verdict::unreadable(&error.to_string())
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut verdict = out.serialize_struct("Verdict", 3)?;
        verdict.serialize_field("version", &VERSION)?;
        verdict.serialize_field("fresh", &self.is_fresh())?;
        verdict.serialize_field("reasons", self.reasons())?;
        verdict.end()
    }
}

fn kind(entry: &Entry) -> &'static str {
    match entry.file_type() {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "unknown",
    }
}

fn error_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Nothing => f.write_str("-"),
            Content::Digest(digest) => write!(f, "{:032x}", u128::from_be_bytes(*digest)),
            Content::Unreadable(errno) => f.write_str(&error_text(*errno)),
        }
    }
}
