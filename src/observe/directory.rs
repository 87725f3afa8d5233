//! A module directory at one moment, and all that is in it.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::observe::content::{Content, digest_of_name};
use crate::observe::entry::{Entry, Rights};

/// A module directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) name: PathBuf,
    pub(crate) rights: Rights,
    pub(crate) state: DirectoryState,
}

/// The outcome of a look at a module directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DirectoryState {
    Walked(Modules),
    /// Another name of a directory that was walked, with the digest of the name it was walked by.
    Alias([u8; 16]),
    /// The number of the error that the system gave.
    Unreadable(i32),
}

/// All that is in a module directory, at any depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Modules {
    /// The sum of the fingerprints of all entries. Equal sums prove that nothing in the directory
    /// is different. `None` if one of the entries is no evidence.
    pub(crate) sum: Option<u64>,
    /// The fingerprint of the directory itself, which moves with every name that comes or goes.
    /// It only shows a disturbed probe: a redeploy moves it, too. `None` in a witness without it.
    pub(crate) own: Option<u64>,
    /// Shared with the older observation that had the same sum.
    pub(crate) entries: Arc<Vec<Entry>>,
}

impl Directory {
    /// A directory that a look failed on.
    pub(crate) fn unreadable(name: PathBuf, errno: Errno) -> Directory {
        Directory {
            name,
            rights: Rights::unknown(FileType::Directory),
            state: DirectoryState::Unreadable(errno.raw_os_error()),
        }
    }

    /// What is in it, if it was walked by this name.
    pub(crate) fn modules(&self) -> Option<&Modules> {
        match &self.state {
            DirectoryState::Walked(modules) => Some(modules),
            DirectoryState::Alias(_) | DirectoryState::Unreadable(_) => None,
        }
    }

    /// The entries in it: none, unless it was walked by this name.
    pub(crate) fn entries(&self) -> &[Entry] {
        self.modules().map_or(&[], |modules| &modules.entries)
    }

    /// The sum in [`Modules`]; `None` if there is none.
    pub(crate) fn sum(&self) -> Option<u64> {
        self.modules()?.sum
    }

    /// The fingerprint of the directory itself; `None` if nobody took it.
    pub(crate) fn own(&self) -> Option<u64> {
        self.modules()?.own
    }

    /// Whether it was walked by another name.
    pub(crate) fn is_alias(&self) -> bool {
        matches!(self.state, DirectoryState::Alias(_))
    }

    /// The digest of the name that it was walked by.
    pub(crate) fn digest(&self) -> [u8; 16] {
        match self.state {
            DirectoryState::Alias(digest) => digest,
            _ => digest_of_name(&self.name),
        }
    }

    /// Its own content, as a witness's text has it.
    pub(crate) fn content(&self) -> Content {
        match self.state {
            DirectoryState::Walked(_) => Content::Nothing,
            DirectoryState::Alias(digest) => Content::Digest(digest),
            DirectoryState::Unreadable(errno) => Content::Unreadable(errno),
        }
    }
}

impl DirectoryState {
    /// The modules in the directory, if it was walked by this name.
    pub(crate) fn modules_mut(&mut self) -> Option<&mut Modules> {
        match self {
            DirectoryState::Walked(modules) => Some(modules),
            DirectoryState::Alias(_) | DirectoryState::Unreadable(_) => None,
        }
    }
}

impl Modules {
    /// Whether stat alone proves that nothing in the directory is different now.
    pub(crate) fn are_proven_same(&self, now: &Modules) -> bool {
        self.sum.is_some() && self.sum == now.sum
    }

    /// The number of modules. A directory below is not one.
    pub(crate) fn count(&self) -> usize {
        let entries = self.entries.iter();
        entries.filter(|entry| !entry.file_type().is_dir()).count()
    }

    /// Drops the sum if something in the directory could not be read. Otherwise an equal sum would
    /// keep every later check from reading that entry again.
    pub(crate) fn keep_sum_honest(&mut self) {
        if self.entries.iter().any(Entry::is_unreadable) {
            self.sum = None;
        }
    }
}
