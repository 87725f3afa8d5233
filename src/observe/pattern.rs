//! The patterns by which a profile names its inputs: paths with wildcards, which may begin at a
//! variable or at a program's own directory.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::ground::environment::{home_directory, variable};

/// One item of a profile's lists.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A path, perhaps with wildcards.
    Glob(Glob),
    /// A path below each directory that an environment variable names. Without names below it, the
    /// variable's value is one path, or several, separated by “:”.
    Variable {
        name: String,
        below: Vec<glob::Pattern>,
    },
    /// A path below the directory of each program of the profile, or below one `up` levels above.
    Program {
        up: usize,
        below: Vec<glob::Pattern>,
    },
}

/// An absolute path: a plain one, and names below it that may hold `*`, `?` and `[…]`, as in
/// glob(7).
#[derive(Debug, Clone, Eq)]
pub(crate) struct Glob {
    pub(crate) plain: PathBuf,
    /// The first of them has a wildcard.
    pub(crate) names: Vec<glob::Pattern>,
}

/// Compares the texts, because a comparison of paths splits both. A look compares hundreds.
impl PartialEq for Glob {
    fn eq(&self, other: &Glob) -> bool {
        self.plain.as_os_str() == other.plain.as_os_str() && self.names == other.names
    }
}

/// A path that an item stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named<'a> {
    Absolute(Cow<'a, Glob>),
    /// A relative path in a variable. It depends on the working directory of the program.
    Relative(PathBuf),
}

/// The fault of an item. It continues the sentence “… holds “ITEM”, ”.
type Fault = String;

/// Stands for the directory of each program of the profile.
const PROGRAM: &str = "{program}";

/// Writes the item as [`Source::parse`] reads it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = match self {
            Source::Glob(glob) => return glob.fmt(f),
            Source::Variable { name, below } => {
                write!(f, "${name}")?;
                below
            }
            Source::Program { up, below } => {
                write!(f, "{PROGRAM}{}", "/..".repeat(*up))?;
                below
            }
        };
        below.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plain.display())?;
        self.names.iter().try_for_each(|name| write!(f, "/{name}"))
    }
}

impl Source {
    /// Parses an item of `module-directories` or `files`.
    pub(crate) fn parse(text: &str) -> Result<Source, Fault> {
        let home = text.strip_prefix('~');
        if let Some(below) = home.filter(|below| below.is_empty() || below.starts_with('/')) {
            return Source::of_variable("HOME", below);
        }
        if let Some(rest) = text.strip_prefix(PROGRAM) {
            return Source::of_program(rest);
        }
        match text.strip_prefix('$') {
            Some(rest) => {
                let (name, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                Source::of_variable(name, below)
            }
            None => Glob::parse(text).map(Source::Glob),
        }
    }

    /// Parses an item of `programs`.
    pub(crate) fn parse_program(text: &str) -> Result<Source, Fault> {
        match text.starts_with(PROGRAM) {
            true => Err(format!(
                "which is {PROGRAM} itself; write the program's path"
            )),
            false => Source::parse(text),
        }
    }

    /// Whether the paths begin at the directory of each program.
    pub(crate) fn begins_at_program(&self) -> bool {
        matches!(self, Source::Program { .. })
    }

    /// Whether the paths are a user's own. `$XDG_DATA_DIRS` and `$XDG_CONFIG_DIRS` name the
    /// system's.
    pub(crate) fn is_of_user(&self) -> bool {
        match self {
            Source::Variable { name, .. } => system_default(name).is_none(),
            Source::Glob(_) | Source::Program { .. } => false,
        }
    }

    /// Whether the paths are in the home directory, or in a directory that an XDG variable names in
    /// its place.
    pub(crate) fn is_in_home(&self) -> bool {
        matches!(self, Source::Variable { name, .. } if home_default(name).is_some())
    }

    /// The names that lead from `above` to this item; `None` if this item is not below `above`.
    pub(crate) fn names_below(&self, above: &Source) -> Option<Vec<glob::Pattern>> {
        let (this, above) = match (self, above) {
            (Source::Glob(this), Source::Glob(above)) => (this.all_names(), above.all_names()),
            (
                Source::Variable { name, below },
                Source::Variable {
                    name: other,
                    below: above,
                },
            ) if name == other => (below.clone(), above.clone()),
            (
                Source::Program { up, below },
                Source::Program {
                    up: other,
                    below: above,
                },
            ) if up == other => (below.clone(), above.clone()),
            _ => return None,
        };
        let below = this.strip_prefix(&*above)?;
        (!below.is_empty()).then(|| below.to_owned())
    }

    fn of_variable(name: &str, below: &str) -> Result<Source, Fault> {
        if !is_variable(name) {
            return Err(
                "which names no environment variable; write \"$NAME\" or \"$NAME/…\"".into(),
            );
        }
        Ok(Source::Variable {
            name: name.to_owned(),
            below: parse_names(below)?,
        })
    }

    fn of_program(rest: &str) -> Result<Source, Fault> {
        let (mut up, mut below) = (0, rest);
        while let Some(rest) = below.strip_prefix("/..") {
            (up, below) = (up + 1, rest);
        }
        let names = parse_names(below)?;
        if !below.starts_with('/') || names.is_empty() {
            return Err(format!("no path; write \"{PROGRAM}/../lib/NAME\""));
        }
        Ok(Source::Program { up, below: names })
    }

    /// The paths that this item stands for in the present environment. `programs` are the
    /// profile's.
    pub(crate) fn named(&self, programs: &[Glob]) -> Vec<Named<'_>> {
        match self {
            Source::Glob(glob) => vec![Named::Absolute(Cow::Borrowed(glob))],
            Source::Variable { name, below } => {
                let is_alone = below.is_empty();
                let named = paths_in(name, is_alone).into_iter();
                let named = named.filter_map(|path| match path.is_absolute() {
                    true => Some(Named::Absolute(Cow::Owned(Glob::below(path, below)))),
                    // The XDG Base Directory Specification ignores a relative path.
                    false => is_alone.then_some(Named::Relative(path)),
                });
                named.collect()
            }
            Source::Program { up, below } => {
                let mut above: Vec<Glob> = Vec::new();
                for glob in programs.iter().filter_map(|it| it.above(up + 1)) {
                    if !above.contains(&glob) {
                        above.push(glob);
                    }
                }
                let globs = above.into_iter().map(|glob| glob.join(below));
                globs
                    .map(|glob| Named::Absolute(Cow::Owned(glob)))
                    .collect()
            }
        }
    }

    /// This item without the environment: a variable of the system's stands for its default.
    pub(crate) fn without_variables(&self) -> Vec<Source> {
        let Source::Variable { name, below } = self else {
            return vec![self.clone()];
        };
        let default = system_default(name).into_iter();
        let paths = default.flat_map(|paths| std::env::split_paths(paths));
        paths
            .map(|path| Source::Glob(Glob::below(path, below)))
            .collect()
    }
}

impl Glob {
    /// Parses an absolute path.
    pub(crate) fn parse(text: &str) -> Result<Glob, Fault> {
        if !text.starts_with('/') {
            return Err("a relative path; begin it with “/”".into());
        }
        let mut glob = Glob::plain(PathBuf::from("/"));
        for name in names_in(text) {
            // Most names are plain. They need no pattern.
            match glob.names.is_empty() && !is_wild_name(name) {
                true => glob.plain.push(checked(name)?),
                false => glob.names.push(parse_name(name)?),
            }
        }
        if glob.names.is_empty() && glob.plain.parent().is_none() {
            return Err("the root directory; name one below it".into());
        }
        Ok(glob)
    }

    /// A path without a pattern.
    pub(crate) fn plain(path: PathBuf) -> Glob {
        Glob {
            plain: path,
            names: Vec::new(),
        }
    }

    fn below(plain: PathBuf, names: &[glob::Pattern]) -> Glob {
        Glob::plain(plain).join(names)
    }

    fn join(mut self, names: &[glob::Pattern]) -> Glob {
        for name in names {
            match self.names.is_empty() && !is_wild(name) {
                true => self.plain.push(name.as_str()),
                false => self.names.push(name.clone()),
            }
        }
        self
    }

    /// The names of the whole path.
    fn all_names(&self) -> Vec<glob::Pattern> {
        let plain = self.plain.to_str().unwrap_or_default();
        let mut names = parse_names(plain).unwrap_or_default();
        names.extend_from_slice(&self.names);
        names
    }

    /// The number of names with which this pattern and another one begin alike.
    pub(crate) fn alike(&self, other: &Glob) -> usize {
        let (own, others) = (self.all_names(), other.all_names());
        let pairs = own.iter().zip(&others);
        pairs.take_while(|(own, other)| own == other).count()
    }

    /// The directory that is `levels` above; `None` if there is none.
    pub(crate) fn above(&self, levels: usize) -> Option<Glob> {
        let names = self.names.len().saturating_sub(levels);
        let levels_of_plain = levels.saturating_sub(self.names.len());
        Some(Glob {
            plain: self.plain.ancestors().nth(levels_of_plain)?.to_owned(),
            names: self.names[..names].to_vec(),
        })
    }

    /// Whether the glob matches `path` itself.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        self.rest_of(path).is_some_and(|rest| rest == Path::new(""))
    }

    /// The part of `path` below what the glob matches; `None` if it does not match.
    pub(crate) fn rest_of<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let mut rest = path.strip_prefix(&self.plain).ok()?.components();
        for pattern in &self.names {
            match rest.next()? {
                Component::Normal(name) if is_match(pattern, name) => {}
                _ => return None,
            }
        }
        Some(rest.as_path())
    }
}

/// Parses the names of a path, which “/” separates.
pub(crate) fn parse_names(text: &str) -> Result<Vec<glob::Pattern>, Fault> {
    names_in(text).map(parse_name).collect()
}

fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('/').filter(|name| !name.is_empty())
}

fn parse_name(name: &str) -> Result<glob::Pattern, Fault> {
    let name = checked(name)?;
    if name.contains("**") {
        return Err(
            "a bad pattern: “*” matches within one name, “**” is not known; \
             a directory counts with all that is below it"
                .into(),
        );
    }
    glob::Pattern::new(name).map_err(|error| format!("a bad pattern: {}; see glob(7)", error.msg))
}

/// A name that stands for a file in its directory.
fn checked(name: &str) -> Result<&str, Fault> {
    match name {
        "." | ".." => Err(format!("a path with “{name}”; write it without")),
        _ => Ok(name),
    }
}

/// Whether a pattern can match more than one name.
pub(crate) fn is_wild(pattern: &glob::Pattern) -> bool {
    is_wild_name(pattern.as_str())
}

fn is_wild_name(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// Whether a pattern matches a name. As in a shell, `*` does not match a leading dot.
pub(crate) fn is_match(pattern: &glob::Pattern, name: &OsStr) -> bool {
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..glob::MatchOptions::new()
    };
    match name.to_str() {
        Some(name) => pattern.matches_with(name, options),
        None => pattern.matches_with(&name.to_string_lossy(), options),
    }
}

/// The longest part of a pattern that each matching name contains. A search for this part rules out
/// most names of a large directory.
pub(crate) fn plain_part(pattern: &glob::Pattern) -> &str {
    let text = pattern.as_str();
    let parts = text.split(['*', '?']).filter(|_| !text.contains('['));
    parts.max_by_key(|part| part.len()).unwrap_or_default()
}

/// Whether a text can be the name of an environment variable in a profile.
pub(crate) fn is_variable(name: &str) -> bool {
    let may_be_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(may_be_in_name)
}

/// The default of a variable that names directories of the system, by the XDG Base Directory
/// Specification.
fn system_default(name: &str) -> Option<&'static str> {
    match name {
        "XDG_DATA_DIRS" => Some("/usr/local/share:/usr/share"),
        "XDG_CONFIG_DIRS" => Some("/etc/xdg"),
        _ => None,
    }
}

/// The default of a variable that names a directory of the user, in the home directory.
fn home_default(name: &str) -> Option<&'static str> {
    match name {
        "HOME" => Some(""),
        "XDG_DATA_HOME" => Some(".local/share"),
        "XDG_CONFIG_HOME" => Some(".config"),
        "XDG_STATE_HOME" => Some(".local/state"),
        "XDG_CACHE_HOME" => Some(".cache"),
        _ => None,
    }
}

/// The paths that the variable `name` names, or its default if it is not set or empty.
///
/// Its value is a list separated by “:”, like PATH, unless it is one of the user's directories.
/// Some programs take a value as one path. So the whole value of a variable that stands alone
/// counts, too.
fn paths_in(name: &str, is_alone: bool) -> Vec<PathBuf> {
    if let Some(default) = home_default(name) {
        return home_directory(name, default).into_iter().collect();
    }
    let value = variable(name).filter(|value| !value.is_empty());
    let default = || system_default(name).unwrap_or_default().into();
    let value = value.unwrap_or_else(default);
    let items: Vec<PathBuf> = std::env::split_paths(&value).collect();
    let whole = PathBuf::from(value);
    let is_other = is_alone && items.len() > 1 && whole.is_absolute();
    let paths = items.into_iter().chain(is_other.then_some(whole));
    paths.filter(|path| can_lead(path)).collect()
}

/// Whether the kernel accepts a path at all (PATH_MAX and NAME_MAX, limits.h).
fn can_lead(path: &Path) -> bool {
    let length = path.as_os_str().len();
    (1..4096).contains(&length) && path.iter().all(|name| name.len() <= 255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_that_a_pattern_matches_contains_its_plain_part() {
        for (pattern, part, name) in [
            ("qemu-system-*", "qemu-system-", "qemu-system-arm"),
            ("*-linux-*", "-linux-", "x86_64-linux-gnu"),
            ("a?bc*", "bc", "aébc"),
            ("*", "", ""),
            ("[*]long*", "", "*long"),
            ("a[?bcd]e", "", "a?e"),
        ] {
            let pattern = glob::Pattern::new(pattern).unwrap();
            assert_eq!(plain_part(&pattern), part, "{pattern}");
            assert!(is_match(&pattern, name.as_ref()), "{pattern}");
            assert!(name.contains(part), "{pattern}");
        }
    }
}
