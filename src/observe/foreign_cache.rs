//! A foreign cache: files in which another program keeps its answers, and the remedy that makes
//! them good.
//!
//! The other program knows nothing of modstamp. A profile names each of its caches by a table
//! `[[cache]]`.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::ground::error::Result;
use crate::observe::package_manager::Manager;
use crate::observe::pattern::{Glob, Source};
use crate::observe::profile_text::Text;
use crate::stamp::stamp::Owner;

/// The time limit of a command if the profile sets none.
const USUAL_TIME_LIMIT: Duration = Duration::from_secs(60);

/// The longest time limit that a profile can set, in seconds.
const LONGEST_TIME_LIMIT: i64 = 3600;

/// Stands in a command for each directory that a file of the cache may be in.
pub(crate) const DIRECTORY: &str = "{directory}";

/// A cache of another program.
#[derive(Debug, Clone)]
pub(crate) struct ForeignCache {
    /// Empty for libvirt, whose own rule knows its files.
    pub(crate) files: Vec<Source>,
    pub(crate) remedy: Remedy,
    /// The package managers whose own triggers rebuild it.
    pub(crate) packages_rebuild: Vec<Manager>,
}

/// How a cache is made good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// modstamp removes its files, and the other program rebuilds them.
    Remove,
    Command(Command),
    /// modstamp moves the times that libvirt compares, so that every libvirt probes again.
    Libvirt,
}

/// A command that makes a cache good. No shell reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) program: Program,
    pub(crate) arguments: Vec<String>,
    pub(crate) time_limit: Duration,
}

/// The program of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// A name in the system's directories of programs.
    Name(String),
    /// Each program that the path matches.
    Path(Glob),
}

impl ForeignCache {
    /// A cache whose remedy is libvirt's rule.
    pub(crate) fn of_libvirt() -> ForeignCache {
        ForeignCache {
            files: Vec::new(),
            remedy: Remedy::Libvirt,
            packages_rebuild: Vec::new(),
        }
    }

    /// The part of the cache that `owner` makes good: for a user, files in the user's own
    /// directories. `None` if there is none.
    pub(crate) fn part_of(&self, owner: Owner) -> Option<ForeignCache> {
        let is_own = |file: &&Source| file.is_of_user() == (owner == Owner::User);
        let files: Vec<Source> = self.files.iter().filter(is_own).cloned().collect();
        (!files.is_empty()).then(|| ForeignCache {
            files,
            ..self.clone()
        })
    }

    /// Parses the value of the key `cache`.
    pub(crate) fn parse_all(
        text: &Text<'_>,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<ForeignCache>> {
        let wrong = |at: usize, kind: &str| {
            let problem = format!("“cache” is of type {kind}; write a table for each, [[cache]]");
            text.error(at, problem)
        };
        let DeValue::Array(items) = value.get_ref() else {
            return Err(wrong(key.span().start, value.get_ref().type_str()));
        };
        let parse = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
            DeValue::Table(table) => ForeignCache::parse(text, item.span().start, table),
            other => Err(wrong(item.span().start, other.type_str())),
        };
        items.iter().map(parse).collect()
    }

    /// Parses a table that begins at the byte `at`.
    fn parse(text: &Text<'_>, at: usize, table: &DeTable<'_>) -> Result<ForeignCache> {
        let (mut files, mut remedy, mut time_limit) = (Vec::new(), None, None);
        let mut by_packages = None;
        for (key, value) in table {
            let name: &str = key.get_ref();
            match name {
                "files" => files = text.list(key, value, Source::parse)?,
                "remedy" => remedy = Some(Remedy::parse(text, key, value)?),
                "packages-rebuild" => by_packages = Some((key, parse_managers(text, key, value)?)),
                "time-limit" => time_limit = Some((key, parse_time_limit(text, key, value)?)),
                _ => {
                    let problem = format!(
                        "there is no key “{name}” of a cache; the keys are files, remedy, \
                         packages-rebuild, time-limit"
                    );
                    return Err(text.error(key.span().start, problem));
                }
            }
        }
        let Some(mut remedy) = remedy else {
            let problem = "this cache has no remedy; write remedy = \"remove\", or a command as a \
                           list, remedy = [\"PROGRAM\", \"ARGUMENT\"]";
            return Err(text.error(at, problem.to_owned()));
        };
        match (&remedy, files.is_empty()) {
            (Remedy::Remove | Remedy::Command(_), true) => {
                let problem = "this cache names no files; write files = [\"/var/cache/…\"]";
                return Err(text.error(at, problem.to_owned()));
            }
            (Remedy::Libvirt, false) => {
                let problem = "this cache names files, and libvirt's rule knows its own; leave \
                               out the key “files”";
                return Err(text.error(at, problem.to_owned()));
            }
            _ => {}
        }
        match (&mut remedy, time_limit) {
            (Remedy::Command(command), Some((_, limit))) => command.time_limit = limit,
            (_, Some((key, _))) => {
                let problem = "“time-limit” is for a command; leave it out";
                return Err(text.error(key.span().start, problem.to_owned()));
            }
            (_, None) => {}
        }
        if let (Some((key, _)), false) = (&by_packages, matches!(remedy, Remedy::Command(_))) {
            let problem = "“packages-rebuild” is for a command; leave it out";
            return Err(text.error(key.span().start, problem.to_owned()));
        }
        Ok(ForeignCache {
            files,
            remedy,
            packages_rebuild: by_packages.map_or_else(Vec::new, |(_, managers)| managers),
        })
    }
}

impl Remedy {
    fn parse(
        text: &Text<'_>,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Remedy> {
        let problem = match value.get_ref() {
            DeValue::String(word) if &**word == "remove" => return Ok(Remedy::Remove),
            DeValue::String(word) if &**word == "libvirt" => return Ok(Remedy::Libvirt),
            DeValue::String(word) => format!("“remedy” is “{word}”"),
            DeValue::Array(_) => {
                let words = text.list(key, value, |word| Ok(word.to_owned()))?;
                return Command::parse(words)
                    .map(Remedy::Command)
                    .map_err(|problem| text.error(key.span().start, problem));
            }
            other => format!("“remedy” is of type {}", other.type_str()),
        };
        let problem = format!(
            "{problem}; write \"remove\", \"libvirt\", or a command as a list, \
             [\"PROGRAM\", \"ARGUMENT\"]"
        );
        Err(text.error(key.span().start, problem))
    }
}

impl Command {
    fn parse(words: Vec<String>) -> std::result::Result<Command, String> {
        let mut words = words.into_iter();
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            return Err("“remedy” names no program; write [\"PROGRAM\", \"ARGUMENT\"]".to_owned());
        };
        let program = match program.contains('/') {
            false => Program::Name(program),
            true => Program::Path(Glob::parse(&program).map_err(|fault| {
                format!(
                    "“remedy” holds the program “{program}”, {fault}, or write a name without “/”"
                )
            })?),
        };
        let arguments: Vec<String> = words.collect();
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err("“remedy” holds a zero byte; no argument can have one".to_owned());
        }
        Ok(Command {
            program,
            arguments,
            time_limit: USUAL_TIME_LIMIT,
        })
    }

    /// Whether the command runs once for each directory that a file of the cache may be in.
    pub(crate) fn takes_directory(&self) -> bool {
        self.arguments.iter().any(|it| it.contains(DIRECTORY))
    }
}

fn parse_managers(
    text: &Text<'_>,
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Vec<Manager>> {
    match value.get_ref() {
        DeValue::Array(_) => text.list(key, value, Manager::parse),
        other => {
            let kind = other.type_str();
            let problem = format!(
                "“packages-rebuild” is of type {kind}; write the package managers, \
                 packages-rebuild = [\"dpkg\"]"
            );
            Err(text.error(key.span().start, problem))
        }
    }
}

fn parse_time_limit(
    text: &Text<'_>,
    key: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
) -> Result<Duration> {
    let seconds = match value.get_ref() {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    };
    match seconds.filter(|seconds| (1..=LONGEST_TIME_LIMIT).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs(seconds as u64)),
        None => {
            let problem =
                format!("“time-limit” is no number of seconds from 1 to {LONGEST_TIME_LIMIT}");
            Err(text.error(
                key.span().start,
                format!("{problem}; write time-limit = 60"),
            ))
        }
    }
}

/// The files, as the profile names them.
impl fmt::Display for ForeignCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<String> = self.files.iter().map(ToString::to_string).collect();
        f.write_str(&files.join(", "))
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Remove => f.write_str("remove"),
            Remedy::Libvirt => f.write_str("libvirt"),
            Remedy::Command(command) => command.fmt(f),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Program::Name(name) => f.write_str(name)?,
            Program::Path(path) => path.fmt(f)?,
        }
        let mut arguments = self.arguments.iter();
        arguments.try_for_each(|argument| write!(f, " {argument}"))
    }
}
