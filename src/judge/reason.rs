//! A reason: one cause of a stale verdict, as data and as a sentence.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::ground::text::{Printable, Sentence, optional_path_text, path_text};
use crate::ground::time::{Mtime, Precision};
use crate::observe::content::{Content, error_text};
use crate::observe::input::Input;
use crate::observe::inputs::Inputs;
use crate::stamp::stamp::Owner;

/// One cause of a stale verdict, as data. Its [`Display`](fmt::Display) is the sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A stamp has another mtime. `None` if there was, or is, no stamp.
    Stamp {
        /// The stamp's owner.
        owner: Owner,
        /// The mtime in the witness.
        old: Option<Mtime>,
        /// The mtime now.
        new: Option<Mtime>,
    },
    /// A stamp's mtime cannot be known, now or when the witness was taken.
    UnknownStamp {
        /// The stamp's owner.
        owner: Owner,
        /// The obstacle.
        error: String,
    },
    /// Something is there now that was not there before.
    Added(Subject),
    /// Something that was there is gone.
    Removed(Subject),
    /// Something is different.
    Changed {
        /// The thing that changed.
        #[serde(flatten)]
        subject: Subject,
        /// The respect in which it changed.
        what: Aspect,
        /// Its value in the witness.
        old: String,
        /// Its value now.
        new: String,
    },
    /// Something cannot be read, now or when the witness was taken.
    Unknown {
        /// The thing that cannot be read.
        #[serde(flatten)]
        subject: Subject,
        /// The error that the system gave.
        error: String,
    },
    /// Something may have changed since the witness was taken, and the witness lacks its content.
    NotRead(Subject),
    /// During the probe something was touched, or was changed and changed back. The answer may have
    /// seen either state.
    Disturbed(Subject),
    /// A variable that the profile names has another value.
    Variable {
        /// The variable.
        name: String,
        /// Its value in the witness. `None` if it was not set.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// Something that the running host gives has another value.
    Host {
        /// `kernel`, `cpu`, or a path.
        name: String,
        /// Its value in the witness. `None` if the host had no such thing.
        old: Option<String>,
        /// Its value now.
        new: Option<String>,
    },
    /// A variable or a host input cannot be read, now or when the witness was taken.
    UnknownFact {
        /// Its kind.
        kind: FactKind,
        /// Its name.
        name: String,
        /// The error that the system gave.
        error: String,
    },
    /// The profile names a variable or a host input that the witness lacks, or asks for libraries
    /// in a witness without them.
    NotObserved {
        /// Its kind.
        kind: FactKind,
        /// Its name. Libraries have the name of the profile's key.
        name: String,
    },
    /// The profile names paths that it did not name when the witness was taken. Nobody can tell what
    /// was there then.
    NewlyNamed {
        /// What the paths are to the profile. For `Module` the profile no longer excludes the item,
        /// and for `Library` the item is a manifest.
        input: Input,
        /// The item of the profile.
        item: String,
    },
    /// The same modules and programs lead the loader to other libraries than before.
    Links,
    /// The consumer gave another text of its own, such as its version.
    Tag {
        /// The text in the witness. `None` if it has none.
        old: Option<String>,
        /// The text of the question.
        new: Option<String>,
    },
    /// The witness is of another program, or of all.
    Program {
        /// The program of the witness. `None` if it is of all.
        #[serde(serialize_with = "optional_path_text")]
        old: Option<PathBuf>,
        /// The program of the question.
        #[serde(serialize_with = "optional_path_text")]
        new: Option<PathBuf>,
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
        /// The fault.
        error: String,
    },
    /// No witness of the modules at the last touch was kept.
    NothingKept,
    /// The stored answer is torn, is of another version, or answers another question. Or somebody
    /// else could have written it.
    UselessAnswer {
        /// The file, its fault, and the remedy.
        error: String,
    },
    /// libvirt cached the answer, and modstamp has no record of a refresh.
    NeverRefreshed,
    /// libvirt cached the answer, and the record of the last refresh cannot be read or believed.
    UselessRecord {
        /// The file, its fault, and the remedy.
        error: String,
    },
    /// libvirt cached the answer before the last refresh.
    BeforeRefresh,
    /// A module directory has another mtime than the last refresh left. So libvirt may have cached
    /// the answer before that refresh or after it.
    SinceRefresh,
    /// The answer is in a user's cache, and the last refresh could only reach the system's.
    NotOwnCache,
    /// A file of libvirt's cache cannot be read.
    CacheFile {
        /// A sentence about the file.
        error: String,
    },
    /// Since the last refresh something was touched, or was changed and changed back. libvirt may
    /// have probed in between.
    TouchedSinceRefresh(Subject),
}

/// The kind of an input that is a named text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FactKind {
    /// An environment variable.
    Variable,
    /// Something that the running host gives.
    Host,
    /// The shared libraries that modules and programs load.
    Libraries,
}

/// The subject of a reason: something at a path.
///
/// In JSON, bytes of a name that are not UTF-8 become “\u{fffd}”.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its kind of input.
    pub input: Input,
    /// Its name for people. A module's is relative to its module directory; any other's is the last
    /// part of its path.
    #[serde(serialize_with = "path_text")]
    pub name: PathBuf,
    /// Its path in the root directory.
    #[serde(serialize_with = "path_text")]
    pub path: PathBuf,
    /// A library's: the path of a module, program, manifest or library that needs it.
    #[serde(
        serialize_with = "optional_path_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub needed_by: Option<Box<PathBuf>>,
}

/// The respect in which something changed.
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
    /// The digest of a file's bytes, ACL and capabilities; of a link's text and its target; of a
    /// directory's ACL; or of a device's number.
    Content,
}

impl Subject {
    /// The subject at `path`. `directory` is the module directory of a module.
    pub(crate) fn new(input: Input, directory: Option<&Path>, path: &Path) -> Subject {
        let name = match directory {
            Some(directory) => path.strip_prefix(directory).ok(),
            None => path.file_name().map(Path::new),
        };
        Subject {
            input,
            name: name.unwrap_or(path).to_owned(),
            path: path.to_owned(),
            needed_by: None,
        }
    }

    /// This subject, a library, with the file that needs it.
    pub(crate) fn of_needer(mut self, needer: Option<&Path>) -> Subject {
        self.needed_by = needer.map(|path| Box::new(path.to_owned()));
        self
    }

    /// The subject as people call it: a module or a library by its name, all else by its path.
    fn title(&self) -> String {
        let name = match self.input {
            Input::Module | Input::Library => &self.name,
            _ => &self.path,
        };
        format!("{} {}", self.input, shown(name))
    }

    fn write_unknown(&self, f: &mut dyn fmt::Write, why: &str) -> fmt::Result {
        write!(f, "{}{} not known: {why}", self.title(), self.place("in"))
    }

    /// The module directory of a module, whose title lacks it. Empty for all else.
    fn place(&self, preposition: &str) -> String {
        let directory = self.path.ancestors().nth(self.name.components().count());
        match (self.input, directory) {
            (Input::Module, Some(directory)) => format!(" {preposition} {}", shown(directory)),
            _ => String::new(),
        }
    }

    /// The clause that tells the need for a library. Empty for all else.
    fn need(&self) -> String {
        let needer = self.needed_by.as_ref().and_then(|path| path.file_name());
        needer.map_or(String::new(), |name| {
            format!(", which {} needs", Printable(name))
        })
    }
}

impl Reason {
    /// Whether it is about the process that asks, or about the host of now, and not about packages.
    pub(crate) fn is_of_process(&self) -> bool {
        matches!(
            self,
            Reason::Variable { .. }
                | Reason::Host { .. }
                | Reason::UnknownFact { .. }
                | Reason::NotObserved {
                    kind: FactKind::Variable | FactKind::Host,
                    ..
                }
        )
    }
}

impl Inputs {
    /// Names each input that nobody could look at, with the error.
    #[doc(hidden)] // Only the programs use it.
    pub fn unknown(&self) -> Vec<Reason> {
        let now = self.observation();
        let directories = now.directories.iter();
        let directories =
            directories.map(|found| (Input::ModuleDirectory, None, &found.name, found.content()));
        let entries = now
            .entries()
            .map(|(input, top, entry)| (input, top, &entry.name, entry.content));
        let unknown = directories
            .chain(entries)
            .filter_map(|(input, top, name, content)| {
                let Content::Unreadable(errno) = content else {
                    return None;
                };
                let path = top.map_or_else(|| name.clone(), |top| top.join(name));
                let needer = now.needer_of(input, &path);
                Some(Reason::Unknown {
                    subject: Subject::new(input, top, &path).of_needer(needer),
                    error: error_text(errno),
                })
            });
        unknown.collect()
    }
}

impl Reason {
    /// Whether it says that something is not known.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(
            self,
            Reason::UnknownStamp { .. }
                | Reason::UnknownFact { .. }
                | Reason::Unknown { .. }
                | Reason::NotRead(_)
        )
    }
}

/// The sentence. Its times are in UTC.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, Mtime::utc)
    }
}

/// Shows a time in a sentence.
type ShowTime = fn(Mtime, Precision) -> String;

impl Reason {
    /// The sentence, with times as `show` shows them.
    #[doc(hidden)] // Only the programs use it.
    pub fn sentence(&self, show: fn(Mtime, Precision) -> String) -> String {
        let mut sentence = String::new();
        let _ = self.write(&mut sentence, show); // A string takes everything.
        sentence
    }

    fn write(&self, f: &mut dyn fmt::Write, show: ShowTime) -> fmt::Result {
        match self {
            Reason::Stamp { owner, old, new } => write_stamp(f, *owner, *old, *new, show),
            Reason::UnknownStamp { owner, error } => write!(f, "{owner} stamp not known: {error}"),
            Reason::Added(subject) => {
                let (place, need) = (subject.place("to"), subject.need());
                write!(f, "{} added{place}{need}", subject.title())
            }
            Reason::Removed(subject) => {
                let (place, need) = (subject.place("from"), subject.need());
                write!(f, "{} removed{place}{need}", subject.title())
            }
            Reason::Changed {
                subject,
                what,
                old,
                new,
            } => {
                write!(f, "{}{} changed: ", subject.title(), subject.place("in"))?;
                what.write_change(f, old, new)?;
                f.write_str(&subject.need())
            }
            Reason::Unknown { subject, error } => subject.write_unknown(f, error),
            Reason::NotRead(subject) => subject.write_unknown(
                f,
                "it may have changed, and its earlier content was not read",
            ),
            Reason::TouchedSinceRefresh(subject) => {
                subject.write_unknown(f, "touched since the last refresh")
            }
            Reason::Disturbed(subject) => write!(
                f,
                "{} was touched during the probe, or changed and changed back",
                subject.title()
            ),
            Reason::Variable { name, old, new } => {
                let (name, old, new) = (Printable(name.as_ref()), value(old), value(new));
                write!(f, "variable {name} changed: it was {old}, now {new}")
            }
            Reason::Host { name, old, new } => {
                let name = Printable(name.as_ref());
                let value = |it: &Option<String>| match it {
                    Some(text) => format!("“{}”", Printable(text.as_ref())),
                    None => "absent".to_owned(),
                };
                write!(
                    f,
                    "host's {name} changed: it was {}, now {}",
                    value(old),
                    value(new)
                )
            }
            Reason::UnknownFact { kind, name, error } => {
                write!(f, "{kind} {} not known: {error}", Printable(name.as_ref()))
            }
            Reason::NotObserved {
                kind: FactKind::Libraries,
                ..
            } => f.write_str("libraries were not observed, and the profile asks for them now"),
            Reason::Links => {
                f.write_str("the same modules and programs lead to other libraries than before")
            }
            Reason::NotObserved { kind, name } => write!(
                f,
                "{kind} {} was not observed, and the profile names it now",
                Printable(name.as_ref())
            ),
            Reason::NewlyNamed { input, item } => write_newly_named(f, *input, item),
            Reason::Tag { old, new } => {
                let text = |tag: &Option<String>| match tag {
                    Some(tag) => format!("“{}”", Printable(tag.as_ref())),
                    None => "no tag".to_owned(),
                };
                write!(
                    f,
                    "consumer changed: it was {}, now {}",
                    text(old),
                    text(new)
                )
            }
            Reason::Program { old, new } => {
                let text = |program: &Option<PathBuf>| match program {
                    Some(program) => shown(program).to_string(),
                    None => "all programs".to_owned(),
                };
                let (old, new) = (text(old), text(new));
                write!(f, "the witness is of {old}, and the question about {new}")
            }
            Reason::Profile { old, new } => {
                let (old, new) = (Printable(old.as_ref()), Printable(new.as_ref()));
                write!(
                    f,
                    "the witness is of the profile {old}, and the question about {new}"
                )
            }
            Reason::Witness { error }
            | Reason::UselessAnswer { error }
            | Reason::UselessRecord { error }
            | Reason::CacheFile { error } => write!(f, "{}", Sentence(error)),
            Reason::NothingKept => {
                f.write_str("no record of the modules at the last touch was kept")
            }
            Reason::NeverRefreshed => f.write_str("modstamp has not refreshed libvirt yet"),
            Reason::BeforeRefresh => f.write_str("cached before the last refresh"),
            Reason::SinceRefresh => {
                f.write_str("a module directory changed since the last refresh")
            }
            Reason::NotOwnCache => {
                f.write_str("the last refresh could only reach the system's own cache")
            }
        }
    }
}

fn write_newly_named(f: &mut dyn fmt::Write, input: Input, item: &str) -> fmt::Result {
    let item = Printable(item.as_ref());
    match input {
        Input::Module => write!(
            f,
            "modules {item} were excluded, and the profile counts them now"
        ),
        Input::Library => write!(
            f,
            "libraries that {item} names were not observed, and the profile asks for them now"
        ),
        _ => write!(
            f,
            "{input} {item} was not observed, and the profile names it now"
        ),
    }
}

fn write_stamp(
    f: &mut dyn fmt::Write,
    owner: Owner,
    old: Option<Mtime>,
    new: Option<Mtime>,
    show: ShowTime,
) -> fmt::Result {
    match (old, new) {
        (Some(old), Some(new)) => {
            let precision = match old.seconds() == new.seconds() {
                true => Precision::Nanosecond,
                false => Precision::Second,
            };
            let (old, new) = (show(old, precision), show(new, precision));
            write!(f, "{owner} stamp touched: its time was {old}, now {new}")
        }
        (None, Some(new)) => {
            let new = show(new, Precision::Second);
            write!(
                f,
                "{owner} stamp touched for the first time: its time is {new}"
            )
        }
        (_, None) => write!(f, "{owner} stamp gone"),
    }
}

impl fmt::Display for FactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FactKind::Variable => "variable",
            FactKind::Host => "host's",
            FactKind::Libraries => "libraries",
        })
    }
}

impl Aspect {
    fn write_change(self, f: &mut dyn fmt::Write, old: &str, new: &str) -> fmt::Result {
        match self {
            Aspect::Content => f.write_str("its content differs"),
            Aspect::Type => write!(f, "it was a {old}, now a {new}"),
            Aspect::Permissions => write!(f, "its permissions were {old}, now {new}"),
            Aspect::Owner => write!(f, "its owner was {old}, now {new}"),
            Aspect::Size => write!(f, "its size was {old} bytes, now {new} bytes"),
        }
    }
}

/// A variable's value as people read it.
fn value(value: &Option<String>) -> String {
    match value {
        Some(value) => format!("“{}”", Printable(value.as_ref())),
        None => "not set".to_owned(),
    }
}

/// A path as it may be shown on a terminal.
fn shown(path: &Path) -> Printable<'_> {
    Printable(path.as_os_str())
}
