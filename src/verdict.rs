//! The verdict: a stored witness against the inputs of now, and every reason why it is stale.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use serde::Serialize;

use crate::entry::{Content, Entry};
use crate::inputs::{Inputs, StampState, is_same};
use crate::witness::Printable;
use crate::{Mtime, Owner, Root, Witness};

/// Whether a cached answer still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing that the answer depends on is different.
    Fresh,
    /// Something is, or cannot be known to be the same. There is at least one reason.
    Stale(Vec<Reason>),
}

/// One cause of a stale verdict. Its [`Display`](fmt::Display) is the sentence for people; with serde it is data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A stamp's mtime is another one; `None` where there was, or is, no stamp.
    Stamp {
        /// Whose stamp.
        owner: Owner,
        /// What the witness has.
        old: Option<Mtime>,
        /// What it is now.
        new: Option<Mtime>,
    },
    /// Something is there that was not.
    Added {
        /// What it is.
        input: Input,
        /// Where it is.
        #[serde(serialize_with = "path_text")]
        path: PathBuf,
    },
    /// Something that was there is gone.
    Removed {
        /// What it was.
        input: Input,
        /// Where it was.
        #[serde(serialize_with = "path_text")]
        path: PathBuf,
    },
    /// Something is there as it was, but not the same.
    Changed {
        /// What it is.
        input: Input,
        /// Where it is.
        #[serde(serialize_with = "path_text")]
        path: PathBuf,
        /// In which respect it differs.
        what: Aspect,
        /// How that was.
        old: String,
        /// How that is.
        new: String,
    },
    /// Something could not be read, when the witness was taken or now.
    Unreadable {
        /// What it is.
        input: Input,
        /// Where it is.
        #[serde(serialize_with = "path_text")]
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// An environment variable that names a module directory is set to something else.
    Variable {
        /// The variable.
        name: String,
        /// What it was; `None` where it was not set.
        old: Option<String>,
        /// What it is.
        new: Option<String>,
    },
    /// The witness is of another profile.
    Profile {
        /// The witness's profile.
        old: String,
        /// The one that was asked about.
        new: String,
    },
    /// The witness itself cannot be read.
    Witness {
        /// Why.
        problem: String,
    },
}

/// What a path is to the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Input {
    /// The stamp.
    Stamp,
    /// A directory that modules are loaded from.
    ModuleDirectory,
    /// Something in a module directory.
    Module,
    /// A program that loads modules.
    Program,
    /// A further file of the profile.
    File,
    /// The program whose output is cached.
    Command,
}

/// In which respect something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Aspect {
    /// File, directory, link, …
    Type,
    /// The permission bits.
    Permissions,
    /// The owning user and group.
    Owner,
    /// The size of a file.
    Size,
    /// The bytes of a file; the target of a link and what is in it.
    Content,
}

impl Verdict {
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

    /// The reasons as sentences, at most `most` of them, and then how many more there are.
    pub fn reasons_for_people(&self, most: usize) -> Vec<String> {
        let reasons = self.reasons();
        let mut lines: Vec<String> = reasons.iter().take(most).map(Reason::to_string).collect();
        if reasons.len() > most {
            lines.push(format!(
                "and {} more; --json shows all",
                reasons.len() - most
            ));
        }
        lines
    }

    /// The verdict on a stored witness that is still text, and may be anything.
    ///
    /// What is not a whole witness is stale, with that as the reason.
    pub fn of_text(text: &[u8], now: &Inputs) -> Verdict {
        match Witness::from_bytes(text) {
            Ok(witness) => witness.judge(now),
            Err(error) => Verdict::unreadable(&error.to_string()),
        }
    }

    /// The verdict on what cannot be read as a witness.
    pub(crate) fn unreadable(problem: &str) -> Verdict {
        let problem = problem.to_owned();
        Verdict::Stale(vec![Reason::Witness { problem }])
    }

    pub(crate) fn of(witness: &Witness, now: &Inputs) -> Verdict {
        let mut reasons = Reasons(Vec::new());
        let (then, root) = (&witness.observed, &now.root);
        let now = &now.observed;
        if then.profile != now.profile {
            return Verdict::Stale(vec![Reason::Profile {
                old: then.profile.clone(),
                new: now.profile.clone(),
            }]);
        }
        reasons.stamps(&then.stamps, &now.stamps);
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
                let top = Some(now.entry.name.as_path());
                for (then, now) in merge(&then.modules, &now.modules, |entry| &entry.name) {
                    reasons.entry(Input::Module, root, then, now, top);
                }
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
        if let (false, Ok(root)) = (
            then.commands.is_empty() && now.commands.is_empty(),
            Root::system(),
        ) {
            for (then, now) in merge(&then.commands, &now.commands, |entry| &entry.name) {
                reasons.entry(Input::Command, &root, then, now, None);
            }
        }
        match reasons.0.is_empty() {
            true => Verdict::Fresh,
            false => Verdict::Stale(reasons.0),
        }
    }
}

struct Reasons(Vec<Reason>);

impl Reasons {
    fn stamps(&mut self, then: &[(Owner, StampState)], now: &[(Owner, StampState)]) {
        for owner in [Owner::System, Owner::User] {
            let state = |stamps: &[(Owner, StampState)]| {
                let found = stamps.iter().find(|(whose, _)| *whose == owner);
                found.map_or(StampState::Absent, |(_, state)| *state)
            };
            let mtime = |state| match state {
                StampState::At(mtime) => Some(mtime),
                _ => None,
            };
            let (then, now) = (state(then), state(now));
            if [then, now].contains(&StampState::Unreadable) {
                let when = match now {
                    StampState::Unreadable => "it cannot be read, or is not a regular file",
                    _ => "it could not be read when the witness was taken",
                };
                self.0.push(Reason::Unreadable {
                    input: Input::Stamp,
                    path: PathBuf::from(owner.to_string()),
                    error: when.to_owned(),
                });
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
        let value = |of: &[(String, Option<OsString>)], name: &str| {
            let found = of.iter().find(|(other, _)| other == name);
            found.and_then(|(_, value)| value.clone())
        };
        let mut names: Vec<&String> = then.iter().chain(now).map(|(name, _)| name).collect();
        names.sort();
        names.dedup();
        for name in names {
            let (old, new) = (value(then, name), value(now, name));
            if old != new {
                let text = |value: OsString| value.to_string_lossy().into_owned();
                self.0.push(Reason::Variable {
                    name: name.clone(),
                    old: old.map(text),
                    new: new.map(text),
                });
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
        let (then, now) = match (then, now) {
            (Some(then), Some(now)) => (then, now),
            (None, Some(now)) => {
                return self.0.push(Reason::Added {
                    input,
                    path: path(now),
                });
            }
            (Some(then), None) => {
                return self.0.push(Reason::Removed {
                    input,
                    path: path(then),
                });
            }
            (None, None) => return,
        };
        if is_same(then, now) {
            return;
        }
        let mut changed = |what, old: String, new: String| {
            let path = path(now);
            self.0.push(Reason::Changed {
                input,
                path,
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
            return changed(
                Aspect::Size,
                format!("{} bytes", then.size),
                format!("{} bytes", now.size),
            );
        }
        let old = then.content.get().copied().unwrap_or(Content::Nothing);
        let new = now.content(root, || path(now));
        let error = match (old, new) {
            (_, Content::Unreadable(errno)) => error_text(errno),
            (Content::Unreadable(errno), _) => {
                format!("{}, when the witness was taken", error_text(errno))
            }
            _ if old == new => return,
            _ => return changed(Aspect::Content, old.to_string(), new.to_string()),
        };
        let path = path(now);
        self.0.push(Reason::Unreadable { input, path, error });
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

/// A path as JSON has it: what is not UTF-8 in it stands as “\u{fffd}”.
fn path_text<S: serde::Serializer>(path: &Path, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&path.display())
}

/// A path as a terminal may have it.
fn shown(path: &Path) -> Printable<'_> {
    Printable(path.as_os_str())
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

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Input::Stamp => "stamp",
            Input::ModuleDirectory => "module directory",
            Input::Module => "module",
            Input::Program => "program",
            Input::File => "file",
            Input::Command => "command",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |value: &Option<String>| match value {
            Some(value) => format!("“{value}”"),
            None => "not set".to_owned(),
        };
        match self {
            Reason::Stamp {
                owner,
                old: Some(old),
                new: Some(new),
            } => {
                write!(f, "{owner} stamp touched: its time was {old} and is {new}")
            }
            Reason::Stamp {
                owner,
                new: Some(new),
                ..
            } => {
                write!(
                    f,
                    "{owner} stamp touched for the first time: its time is {new}"
                )
            }
            Reason::Stamp { owner, .. } => write!(f, "{owner} stamp gone"),
            Reason::Added { input, path } => write!(f, "{input} {} added", shown(path)),
            Reason::Removed { input, path } => write!(f, "{input} {} removed", shown(path)),
            Reason::Changed {
                input,
                path,
                what: Aspect::Content,
                ..
            } => {
                write!(f, "{input} {} changed: its content differs", shown(path))
            }
            Reason::Changed {
                input,
                path,
                what,
                old,
                new,
            } => {
                let what = match what {
                    Aspect::Type => "it was a",
                    Aspect::Permissions => "its permissions were",
                    Aspect::Owner => "its owner was",
                    Aspect::Size => "its size was",
                    Aspect::Content => "its content was",
                };
                let is = if what == "it was a" { "is a" } else { "now" };
                write!(
                    f,
                    "{input} {} changed: {what} {old}, {is} {new}",
                    shown(path)
                )
            }
            Reason::Unreadable {
                input: Input::Stamp,
                path,
                error,
            } => {
                write!(f, "{} stamp not known: {error}", shown(path))
            }
            Reason::Unreadable { input, path, error } => {
                write!(f, "{input} {} not known: {error}", shown(path))
            }
            Reason::Variable { name, old, new } => {
                write!(
                    f,
                    "variable {name} changed: it was {}, now {}",
                    or(old),
                    or(new)
                )
            }
            Reason::Profile { old, new } => {
                write!(
                    f,
                    "the witness is of the profile {old}, and the question about {new}"
                )
            }
            Reason::Witness { problem } => f.write_str(problem),
        }
    }
}
