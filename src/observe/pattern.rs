//! The patterns by which a profile names its inputs: paths with wildcards, and variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::ground::environment::variable;

/// One item of a profile's module directories.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A path, perhaps with wildcards.
    Glob(Glob),
    /// The name of an environment variable. Its value is one directory, or several with
    /// “:” between them.
    Variable(String),
}

/// An absolute path. Each of its names may hold `*`, `?` and `[…]`, as in glob(7).
#[derive(Debug, Clone)]
pub(crate) struct Glob(pub(crate) Vec<glob::Pattern>);

/// The fault of an item. It continues the sentence “… holds “ITEM”, ”.
type Fault = String;

/// Like the item that [`Source::parse`] parses.
#[cfg(feature = "cli")]
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Glob(Glob(names)) => names.iter().try_for_each(|name| write!(f, "/{name}")),
            Source::Variable(name) => write!(f, "${name}"),
        }
    }
}

impl Source {
    /// Parses an item of `module-directories`.
    pub(crate) fn parse(text: &str) -> Result<Source, Fault> {
        let Some(name) = text.strip_prefix('$') else {
            return Glob::parse(text).map(Source::Glob);
        };
        let may_be_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(may_be_in_name) {
            return Err("which names no environment variable; write \"$NAME\" alone".into());
        }
        Ok(Source::Variable(name.to_owned()))
    }

    /// Whether `path` is one of these directories, or lies in one.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        match self {
            Source::Glob(glob) => glob.covers(path),
            Source::Variable(name) => named_by(name).any(|directory| path.starts_with(directory)),
        }
    }
}

impl Glob {
    /// Parses an item of `programs` or `files`.
    pub(crate) fn parse(text: &str) -> Result<Glob, Fault> {
        if text.starts_with('$') {
            return Err("a variable, which only module-directories may name; write a path".into());
        }
        if !text.starts_with('/') {
            return Err("a relative path; begin it with “/”".into());
        }
        let names = text.split('/').filter(|name| !name.is_empty());
        let patterns: Vec<glob::Pattern> = names.map(parse_name).collect::<Result<_, Fault>>()?;
        if patterns.is_empty() {
            return Err("the root directory; name one below it".into());
        }
        Ok(Glob(patterns))
    }

    /// The path up to the first name with a wildcard, and the patterns from there on.
    pub(crate) fn split(&self) -> (PathBuf, &[glob::Pattern]) {
        let plain = self.0.iter().position(is_wild).unwrap_or(self.0.len());
        let (plain, rest) = self.0.split_at(plain);
        let names = plain.iter().map(glob::Pattern::as_str);
        (Path::new("/").join(names.collect::<PathBuf>()), rest)
    }

    /// Whether the glob matches `path` or a directory above it.
    pub(crate) fn covers(&self, path: &Path) -> bool {
        let mut names = path.iter().filter(|name| *name != "/");
        let mut patterns = self.0.iter();
        patterns.all(|pattern| names.next().is_some_and(|name| is_match(pattern, name)))
    }

    /// Whether the glob matches `path` itself.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        // An absolute path's first component is “/”.
        path.iter().count() == self.0.len() + 1 && self.covers(path)
    }
}

fn parse_name(name: &str) -> Result<glob::Pattern, Fault> {
    if name == "." || name == ".." {
        return Err(format!("a path with “{name}”; write it without"));
    }
    if name.contains("**") {
        return Err("a bad pattern: “*” matches within one name, “**” is not known".into());
    }
    glob::Pattern::new(name).map_err(|error| format!("a bad pattern: {}; see glob(7)", error.msg))
}

/// Whether a pattern can match more than one name.
pub(crate) fn is_wild(pattern: &glob::Pattern) -> bool {
    pattern.as_str().contains(['*', '?', '['])
}

/// Whether a pattern matches a name. As in a shell, `*` does not match a leading dot.
pub(crate) fn is_match(pattern: &glob::Pattern, name: &OsStr) -> bool {
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        ..glob::MatchOptions::new()
    };
    pattern.matches_with(&name.to_string_lossy(), options)
}

/// The directories that the environment variable `name` names.
///
/// Its value is a list separated by “:”, like PATH. Some programs take the value as one path, so
/// the whole value counts, too.
pub(crate) fn named_by(name: &str) -> impl Iterator<Item = PathBuf> {
    let value = variable(name).unwrap_or_default();
    let items: Vec<PathBuf> = std::env::split_paths(&value).collect();
    let whole = (items.len() > 1 && value.as_bytes().starts_with(b"/")).then(|| value.into());
    let named = items.into_iter().chain(whole);
    named.filter(|path| !path.as_os_str().is_empty())
}
