//! A reason: one cause of a stale verdict, as data and as a sentence.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::ground::text::{Printable, path_text};
use crate::ground::time::Mtime;
use crate::observe::input::Input;
use crate::stamp::stamp::Owner;

/// One cause of a stale verdict, as data. Its [`Display`](fmt::Display) is the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A stamp has another mtime. `None` if there was, or is, no stamp.
    Stamp {
        /// Whose stamp.
        owner: Owner,
        /// The mtime in the witness.
        old: Option<Mtime>,
        /// The mtime now.
        new: Option<Mtime>,
    },
    /// A stamp's mtime cannot be known, now or when the witness was taken.
    UnknownStamp {
        /// Whose stamp.
        owner: Owner,
        /// What stands in the way.
        error: String,
    },
    /// Something is there now that was not there before.
    Added(Subject),
    /// Something that was there is gone.
    Removed(Subject),
    /// Something is different.
    Changed {
        /// What changed.
        #[serde(flatten)]
        subject: Subject,
        /// In which respect.
        what: Aspect,
        /// Its value in the witness.
        old: String,
        /// Its value now.
        new: String,
    },
    /// Something cannot be read, now or when the witness was taken.
    Unknown {
        /// What cannot be read.
        #[serde(flatten)]
        subject: Subject,
        /// The error that the system gave.
        error: String,
    },
    /// Something was touched since the witness was taken, and the witness lacks its content.
    NotRead(Subject),
    /// Something was touched, or changed and changed back, during the probe. The answer may have
    /// seen either state.
    Disturbed(Subject),
    /// A variable that names module directories has another value.
    Variable {
        /// The variable.
        name: String,
        /// Its value in the witness. `None` if it was not set.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// The witness is of another profile.
    Profile {
        /// The profile of the witness.
        old: String,
        /// The profile of the question.
        new: String,
    },
    /// The witness is missing, torn, of a later version, or no witness.
    Witness {
        /// What is wrong with it.
        error: String,
    },
    /// Nothing was kept that tells what the modules were at the last touch.
    NothingKept,
    /// The stored answer is torn, of another version, or to another question, or somebody else
    /// could have written it.
    UselessAnswer {
        /// The file, what is wrong with it, and what to do.
        error: String,
    },
    /// libvirt cached the answer, and no refresh is known that it could come after.
    NeverRefreshed,
    /// libvirt cached the answer before the last refresh.
    BeforeRefresh,
    /// A module directory has another mtime than the last refresh left. So libvirt may have cached
    /// the answer before or after it.
    SinceRefresh,
    /// The answer is in a user's cache, and the last refresh could move no time. So it is known of
    /// the system's cache alone which answers are older.
    NotOwnCache,
    /// A file of libvirt's cache cannot be read.
    CacheFile {
        /// A sentence about the file.
        error: String,
    },
    /// It was touched since the last refresh, or changed and changed back. libvirt may have probed
    /// in between.
    TouchedSinceRefresh(Subject),
}

/// What a reason is about: something at a path.
///
/// In JSON, bytes of a name that are not UTF-8 become “\u{fffd}”.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// What it is to the profile.
    pub input: Input,
    /// Its name for people: a module's below its module directory, a program's without directory.
    #[serde(serialize_with = "path_text")]
    pub name: PathBuf,
    /// Its path in the root directory.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
}

/// In which respect something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Aspect {
    /// `file`, `directory`, `link`, …
    Type,
    /// The permission bits, in octal.
    Permissions,
    /// The owning user and group, by number.
    Owner,
    /// The size of a file, in bytes.
    Size,
    /// The digest of a file's bytes, or of a link's text and its target.
    Content,
}

impl Subject {
    /// What is at `path`; a module's `directory` is the module directory that it is in.
    pub(crate) fn new(input: Input, directory: Option<&Path>, path: &Path) -> Subject {
        let name = match directory {
            Some(directory) => path.strip_prefix(directory).ok(),
            None => path.file_name().map(Path::new),
        };
        Subject {
            input,
            name: name.unwrap_or(path).to_owned(),
            path: path.to_owned(),
        }
    }

    /// The subject as people call it: a module by its name, all else by its path.
    fn title(&self) -> String {
        let name = match self.input {
            Input::Module => &self.name,
            _ => &self.path,
        };
        format!("{} {}", self.input, shown(name))
    }

    /// Where it is, for what is not called by its path.
    fn place(&self, preposition: &str) -> String {
        let directory = self.path.ancestors().nth(self.name.components().count());
        match (self.input, directory) {
            (Input::Module, Some(directory)) => format!(" {preposition} {}", shown(directory)),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |value: &Option<String>| match value {
            Some(value) => format!("“{}”", Printable(value.as_ref())),
            None => "not set".to_owned(),
        };
        match self {
            Reason::Stamp { owner, old, new } => match (old, new) {
                (Some(old), Some(new)) => {
                    write!(f, "{owner} stamp touched: its time was {old}, now {new}")
                }
                (None, Some(new)) => {
                    write!(
                        f,
                        "{owner} stamp touched for the first time: its time is {new}"
                    )
                }
                (_, None) => write!(f, "{owner} stamp gone"),
            },
            Reason::UnknownStamp { owner, error } => write!(f, "{owner} stamp not known: {error}"),
            Reason::Added(subject) => write!(f, "{} added{}", subject.title(), subject.place("to")),
            Reason::Removed(subject) => {
                write!(f, "{} removed{}", subject.title(), subject.place("from"))
            }
            Reason::Changed {
                subject,
                what,
                old,
                new,
            } => {
                write!(f, "{}{} changed: ", subject.title(), subject.place("in"))?;
                match what {
                    Aspect::Content => f.write_str("its content differs"),
                    Aspect::Type => write!(f, "it was a {old}, now a {new}"),
                    Aspect::Permissions => write!(f, "its permissions were {old}, now {new}"),
                    Aspect::Owner => write!(f, "its owner was {old}, now {new}"),
                    Aspect::Size => write!(f, "its size was {old} bytes, now {new} bytes"),
                }
            }
            Reason::Unknown { subject, error } => {
                write!(
                    f,
                    "{}{} not known: {error}",
                    subject.title(),
                    subject.place("in")
                )
            }
            Reason::NotRead(subject) => write!(
                f,
                "{}{} not known: it was touched, and what was in it before was not read",
                subject.title(),
                subject.place("in")
            ),
            Reason::Disturbed(subject) => write!(
                f,
                "{} was touched during the probe, or changed and changed back",
                subject.title()
            ),
            Reason::Variable { name, old, new } => {
                let (old, new) = (or(old), or(new));
                let name = Printable(name.as_ref());
                write!(f, "variable {name} changed: it was {old}, now {new}")
            }
            Reason::Profile { old, new } => write!(
                f,
                "the witness is of the profile {}, and the question about {new}",
                Printable(old.as_ref())
            ),
            Reason::Witness { error }
            | Reason::UselessAnswer { error }
            | Reason::CacheFile { error } => {
                write!(f, "{}", Printable(error.as_ref()))
            }
            Reason::NothingKept => {
                f.write_str("what the modules were at the last touch is not known")
            }
            Reason::NeverRefreshed => f.write_str("modstamp has not refreshed libvirt yet"),
            Reason::BeforeRefresh => f.write_str("cached before the last refresh"),
            Reason::SinceRefresh => f.write_str(
                "a module directory changed since the last refresh, run “modstamp libvirt refresh”",
            ),
            Reason::NotOwnCache => {
                f.write_str("nothing could be moved, so only the system's own cache can be told")
            }
            Reason::TouchedSinceRefresh(subject) => write!(
                f,
                "{}{} not known: touched since the last refresh, run “modstamp libvirt refresh”",
                subject.title(),
                subject.place("in")
            ),
        }
    }
}

/// A path as a terminal may have it.
fn shown(path: &Path) -> Printable<'_> {
    Printable(path.as_os_str())
}
