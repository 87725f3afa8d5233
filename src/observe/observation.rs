//! An observation: every input of a profile as it was at one moment.
//!
//! It is a value, and never changes. A look makes one by stat alone. A read returns a completed
//! one, with contents. A witness stores one as text.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::ground::time::Mtime;
use crate::observe::directory::Directory;
use crate::observe::entry::Entry;
use crate::observe::input::Input;
use crate::observe::stamps::{StampState, Stamps};
use crate::stamp::stamp::Owner;

/// Every input of a profile as it was at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observation {
    /// The profile's name.
    pub(crate) profile: String,
    pub(crate) stamps: Stamps,
    pub(crate) variables: Vec<Variable>,
    /// Sorted by name, as are all lists of entries.
    pub(crate) directories: Vec<Directory>,
    pub(crate) programs: Vec<Entry>,
    pub(crate) files: Vec<Entry>,
    /// The program whose output is cached, by its path outside the root directory.
    pub(crate) commands: Vec<Entry>,
    /// Directories that programs and files were searched in.
    ///
    /// A check that finds one unchanged takes the names from the witness. Without that it would
    /// read all names in `/usr/bin`, and take 2.8 times as long (`qemu`, 1,268 names).
    pub(crate) searched: Vec<Searched>,
}

/// An environment variable, with its value if it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Option<OsString>,
}

/// A pattern that was searched for, with the fingerprint of the directory that it was searched in:
/// evidence that the directory still holds the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Searched {
    pub(crate) pattern: PathBuf,
    pub(crate) directory: u64,
}

impl Observation {
    /// The module directory of that name.
    pub(crate) fn directory(&self, name: &Path) -> Option<&Directory> {
        let by_name = |directory: &Directory| directory.name.as_path().cmp(name);
        let index = self.directories.binary_search_by(by_name).ok()?;
        Some(&self.directories[index])
    }

    /// Every module, program, file and command, each with its module directory.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Input, Option<&Path>, &Entry)> {
        let modules = self.directories.iter().flat_map(|directory| {
            let entries = directory.entries().iter();
            entries.map(|entry| (Input::Module, Some(directory.name.as_path()), entry))
        });
        let others = self.lists().into_iter().flat_map(|(input, entries)| {
            let entries = entries.iter();
            entries.map(move |entry| (input, None, entry))
        });
        modules.chain(others)
    }

    /// The entries that are in no module directory.
    pub(crate) fn lists(&self) -> [(Input, &[Entry]); 3] {
        [
            (Input::Program, &self.programs),
            (Input::File, &self.files),
            (Input::Command, &self.commands),
        ]
    }

    /// This observation, but with a stamp as our own touch left it.
    pub(crate) fn with_stamp(mut self, owner: Owner, mtime: Mtime) -> Observation {
        *self.stamps.of_mut(owner) = StampState::At(mtime);
        self
    }

    /// This observation, but with other stamps.
    #[cfg(feature = "libvirt")]
    pub(crate) fn with_stamps(mut self, stamps: Stamps) -> Observation {
        self.stamps = stamps;
        self
    }
}
