//! What is in a module directory and is no module: a program's own cache, compiled byte code.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use crate::observe::pattern::{Glob, Named, Source, is_match, parse_names};

/// A pattern of names in module directories that do not count. All that is below such a name does
/// not count, either.
#[derive(Debug, Clone)]
pub(crate) struct Exclude {
    names: Vec<glob::Pattern>,
    /// Whether it is a path from the module directory. Otherwise it is one name at any depth.
    is_path: bool,
    /// The module directories that it is for; `None` if it is for all.
    pub(crate) directories: Option<Vec<Source>>,
}

impl Exclude {
    /// Parses an item of `exclude`. An error continues the sentence “… holds “ITEM”, ”.
    pub(crate) fn parse(text: &str) -> Result<Exclude, String> {
        if text.starts_with(['$', '~', '{']) {
            return Err(
                "no name in a module directory; write \"*.cache\" or \"below/*.cache\"".into(),
            );
        }
        let names = parse_names(text)?;
        match names.is_empty() {
            true => Err("the whole module directory; do not name the directory, instead".into()),
            false => Ok(Exclude {
                names,
                is_path: text.trim_end_matches('/').contains('/'),
                directories: None,
            }),
        }
    }

    /// A file in one of the module directories. `None` if its path does not begin like that of the
    /// directory.
    pub(crate) fn of_file(file: &Source, directory: &Source) -> Option<Exclude> {
        Some(Exclude {
            names: file.names_below(directory)?,
            is_path: true,
            directories: Some(vec![directory.clone()]),
        })
    }

    /// Whether it is for all module directories, or for one of a path that `is_path_of` knows.
    /// `programs` are those of the profile.
    pub(crate) fn is_for(&self, programs: &[Glob], is_path_of: impl Fn(&Glob) -> bool) -> bool {
        let is_it = |named: Named| matches!(named, Named::Absolute(glob) if is_path_of(&glob));
        self.directories.as_ref().is_none_or(|directories| {
            let mut named = directories.iter().flat_map(|it| it.named(programs));
            named.any(is_it)
        })
    }

    /// Whether it is this name at any depth.
    pub(crate) fn matches_name(&self, name: &OsStr) -> bool {
        !self.is_path && is_match(&self.names[0], name)
    }

    /// Whether it is this path below a module directory. Nothing above `path` is excluded.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        if !self.is_path {
            return self.matches_name(path.file_name().unwrap_or(OsStr::new("")));
        }
        let mut names = path.iter();
        let mut patterns = self.names.iter();
        patterns.all(|pattern| names.next().is_some_and(|name| is_match(pattern, name)))
            && names.next().is_none()
    }
}

/// Whether one of them is `path`, or is above it. `path` is relative to a module directory.
pub(crate) fn is_excluded<'e>(
    excludes: impl IntoIterator<Item = &'e Exclude>,
    path: &Path,
) -> bool {
    let is_below = |exclude: &Exclude| path.ancestors().any(|path| exclude.matches(path));
    excludes.into_iter().any(is_below)
}

impl fmt::Display for Exclude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_path && self.names.len() == 1 {
            f.write_str("/")?;
        }
        let names: Vec<&str> = self.names.iter().map(glob::Pattern::as_str).collect();
        f.write_str(&names.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_at_any_depth_and_a_path_from_the_module_directory() {
        let all = ["__pycache__", "*.cache", "/top.dat", "a/*/b"];
        let all: Vec<Exclude> = all
            .iter()
            .map(|text| Exclude::parse(text).unwrap())
            .collect();
        let excluded = |path: &str| is_excluded(&all, Path::new(path));
        for path in [
            "__pycache__",
            "__pycache__/a.pyc",
            "b/__pycache__/c/a.pyc",
            "x.cache",
            "b/x.cache",
            "top.dat",
            "a/any/b",
            "a/any/b/c",
        ] {
            assert!(excluded(path), "{path}");
        }
        for path in [
            "",
            "a",
            "a/any",
            "a/b",
            "b/top.dat",
            "x.so",
            "pycache",
            "c/a/any/b",
            ".x.cache",
        ] {
            assert!(!excluded(path), "{path}");
        }
        let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["__pycache__", "*.cache", "/top.dat", "a/*/b"]);
    }

    #[test]
    fn what_is_no_name_in_a_module_directory_is_refused() {
        for text in ["", "/", "$NAME", "~/a", "..", "a/../b", "[", "**/a"] {
            assert!(Exclude::parse(text).is_err(), "{text}");
        }
    }
}
