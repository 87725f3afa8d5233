//! An added input: a path that a caller names besides those of a profile.
//!
//! It is no pattern, and may have any bytes. It is a part of the question that is asked, so that
//! the answer can be judged later by the same inputs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::files::root::Root;
use crate::ground::text::Printable;
use crate::observe::entry::Entry;
use crate::observe::observation::Observation;
use crate::observe::profile::Profile;

/// The name of a profile without a name, which no other profile can have. So it has no stamp.
pub(crate) const UNNAMED: &str = "-";

/// A path that a caller adds to a profile's inputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Added {
    /// A module directory.
    Directory(PathBuf),
    /// A further file.
    File(PathBuf),
}

impl Profile {
    /// A profile without a name, without a stamp, and with these inputs alone.
    #[doc(hidden)] // Only the programs use it.
    pub fn unnamed(root: &Root, added: Vec<Added>) -> Profile {
        Profile::of_nothing(UNNAMED, root).with_added(added)
    }

    /// This profile, with these added inputs in the place of all earlier ones. Each path is
    /// absolute.
    #[doc(hidden)] // Only the programs use it.
    pub fn with_added(mut self, mut added: Vec<Added>) -> Profile {
        added.sort();
        added.dedup();
        self.added = added;
        self
    }

    pub(crate) fn added_directories(&self) -> impl Iterator<Item = &Path> {
        self.added.iter().filter_map(|added| match added {
            Added::Directory(path) => Some(path.as_path()),
            Added::File(_) => None,
        })
    }

    pub(crate) fn added_files(&self) -> impl Iterator<Item = &Path> {
        self.added.iter().filter_map(|added| match added {
            Added::File(path) => Some(path.as_path()),
            Added::Directory(_) => None,
        })
    }

    /// The warnings about inputs that the profile names and that an observation of it lacks, one
    /// sentence each.
    pub(crate) fn unseen(&self, seen: &Observation) -> Vec<String> {
        let unseen = |added: &Added| match added {
            Added::Directory(path) => {
                let is_missing = seen.directory(path).is_none();
                is_missing.then(|| self.missing("directory", path))
            }
            Added::File(path) => match entry_of(&seen.files, path) {
                None => Some(self.missing("file", path)),
                Some(entry) if entry.file_type().is_dir() => {
                    let path = self.root().outside(path);
                    let path = Printable(path.as_os_str());
                    Some(format!(
                        "{path} is a directory, so the files in it do not count; \
                         name it by --dir"
                    ))
                }
                Some(_) => None,
            },
        };
        let is_nothing =
            seen.directories.is_empty() && seen.programs.is_empty() && seen.files.is_empty();
        let nothing = (is_nothing && self.name() != UNNAMED).then(|| {
            format!(
                "nothing that the profile “{}” names is on this host, so no plug-in makes the \
                 answer stale; correct the profile, or name another one",
                self.name()
            )
        });
        let unseen = self.added.iter().filter_map(unseen);
        nothing.into_iter().chain(unseen).collect()
    }

    fn missing(&self, kind: &str, path: &Path) -> String {
        let path = self.root().outside(path);
        let path = Printable(path.as_os_str());
        format!("there is no {kind} {path}; check its name, or ignore this until it comes")
    }
}

fn entry_of<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    let index = entries.binary_search_by(|entry| entry.name.as_path().cmp(path));
    Some(&entries[index.ok()?])
}

/// Writes added inputs as text. A zero byte ends each, because no path has one in it.
pub(crate) fn to_text(added: &[Added]) -> OsString {
    let mut text = OsString::new();
    for added in added {
        let (kind, path) = match added {
            Added::Directory(path) => (DIRECTORY, path),
            Added::File(path) => (FILE, path),
        };
        text.push(kind);
        text.push(path);
        text.push("\0");
    }
    text
}

const DIRECTORY: &str = "directory=";
const FILE: &str = "file=";

/// Reads the text of [`to_text`]; `None` if it is another text.
pub(crate) fn of_text(text: &OsStr) -> Option<Vec<Added>> {
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let read = |item: &[u8]| {
        let item = item.strip_suffix(b"\0")?;
        match item.strip_prefix(DIRECTORY.as_bytes()) {
            Some(directory) => Some(Added::Directory(path(directory))),
            None => Some(Added::File(path(item.strip_prefix(FILE.as_bytes())?))),
        }
    };
    let items = text.as_bytes().split_inclusive(|byte| *byte == 0);
    items.map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_inputs_with_any_bytes_are_read_as_they_were_written() {
        let odd = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let added = vec![
            Added::Directory(odd(b"/a b\xff*=\n")),
            Added::File(odd(b"/directory=/x")),
        ];
        assert_eq!(of_text(&to_text(&added)), Some(added));
        assert_eq!(of_text(OsStr::new("")), Some(Vec::new()));
        for other in ["/usr/bin/date", "file=/a", "other=/a\0"] {
            assert_eq!(of_text(OsStr::new(other)), None, "{other}");
        }
    }
}
