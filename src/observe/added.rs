//! An added input: a path that a caller names besides those of a profile.
//!
//! The path is not a pattern, and may have any bytes. The stored question includes it, so that the
//! answer can be judged later by the same inputs.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A path that a caller adds to a profile's inputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Added {
    /// A module directory.
    Directory(PathBuf),
    /// A further file.
    File(PathBuf),
}

/// The state of an added input at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddedState {
    /// A directory, with the number of files in it, at any depth.
    Directory(usize),
    /// A file.
    File,
    /// Nothing is there.
    Missing,
    /// Nobody could look.
    Unknown,
}

impl fmt::Display for AddedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddedState::Directory(1) => f.write_str("1 file"),
            AddedState::Directory(count) => write!(f, "{count} files"),
            AddedState::File => f.write_str("found"),
            AddedState::Missing => f.write_str("missing"),
            AddedState::Unknown => f.write_str("not known"),
        }
    }
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
