//! An observation: every input of a profile as it was at one moment.
//!
//! It is a value, and never changes. A look makes one by stat alone. A read returns a completed
//! one, with contents. A witness stores one as text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::ground::time::Mtime;
use crate::observe::content::{Content, digest_of_name};
use crate::observe::directory::{Directory, DirectoryState, Modules};
use crate::observe::entry::Entry;
use crate::observe::evidence::hash;
use crate::observe::fact::{Fact, HostFacts, Scope};
use crate::observe::input::Input;
use crate::observe::item::Item;
use crate::observe::libraries::Libraries;
use crate::observe::stamps::{StampState, Stamps};
use crate::stamp::stamp::Owner;

/// Every input of a profile as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observation {
    /// The profile's name.
    pub(crate) profile: String,
    pub(crate) scope: Scope,
    /// The consumer's text.
    pub(crate) tag: Option<String>,
    /// The one program that counts; `None` if all do.
    pub(crate) program: Option<PathBuf>,
    /// What the profile names. Empty in a witness of an earlier version.
    pub(crate) items: Vec<Item>,
    pub(crate) stamps: Stamps,
    /// Environment variables. Sorted by name.
    pub(crate) variables: Vec<Fact>,
    /// What the running host gives.
    pub(crate) host: HostFacts,
    /// Sorted by name, as are all lists of entries.
    pub(crate) directories: Vec<Directory>,
    pub(crate) programs: Vec<Entry>,
    pub(crate) files: Vec<Entry>,
    /// The program whose output is cached, by its path outside the root directory.
    pub(crate) commands: Vec<Entry>,
    /// `None` if the profile does not ask for them.
    pub(crate) libraries: Option<Libraries>,
    /// Directories that programs and files were searched in.
    ///
    /// A check that finds one unchanged takes the names from the witness. Without that it would
    /// read all names in `/usr/bin`, and take 2.8 times as long (`qemu`, 1,268 names).
    pub(crate) searched: Vec<Searched>,
}

/// A pattern that was searched for, with a fingerprint of the directory that it was searched in and
/// of the names that it matched: evidence that it still matches the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Searched {
    pub(crate) pattern: PathBuf,
    pub(crate) fingerprint: u64,
}

impl Searched {
    /// A search in a directory with that stat identity, which found these sorted names.
    ///
    /// The names are part of the fingerprint, so that a text that lost one is no evidence.
    pub(crate) fn new(pattern: PathBuf, directory: u64, names: &[OsString]) -> Searched {
        let names = names.iter();
        let fingerprint = names.fold(directory, |sum, name| hash(sum, name.as_bytes()));
        Searched {
            pattern,
            fingerprint,
        }
    }
}

/// A module directory under one of its names.
pub(crate) struct Named<'a> {
    pub(crate) directory: &'a Directory,
    /// The same directory under the name that it was walked by.
    pub(crate) walked: &'a Directory,
    /// The first of its names, of those that both observations have. Links decide which name it
    /// was walked by, but not which is first.
    first: &'a Path,
}

impl Named<'_> {
    /// The content by which two states of the directory are compared. It does not depend on the
    /// name that the directory was walked by.
    pub(crate) fn content(&self) -> Content {
        match self.directory.state {
            DirectoryState::Unreadable(_) => self.directory.content(),
            // A torn witness lacks the directory that was walked.
            _ if matches!(self.walked.state, DirectoryState::Alias(_)) => self.walked.content(),
            _ if self.first == self.directory.name => Content::Nothing,
            _ => Content::Digest(digest_of_name(self.first)),
        }
    }
}

impl Observation {
    /// The module directories by name, to be compared with those of the `other` observation.
    pub(crate) fn named_directories(&self, other: &Observation) -> Vec<Named<'_>> {
        // BLAKE3 is slow to start. Most hosts have no alias.
        if !self.directories.iter().any(Directory::is_alias) {
            let own = self.directories.iter().map(|directory| Named {
                directory,
                walked: directory,
                first: &directory.name,
            });
            return own.collect();
        }
        let mut first = BTreeMap::new();
        let mut walked = BTreeMap::new();
        for directory in &self.directories {
            let digest = directory.digest();
            if other.directory(&directory.name).is_some() {
                first.entry(digest).or_insert(directory.name.as_path());
            }
            if !directory.is_alias() {
                walked.insert(digest, directory);
            }
        }
        let named = self.directories.iter().map(|directory| {
            let digest = directory.digest();
            Named {
                directory,
                walked: walked.get(&digest).copied().unwrap_or(directory),
                first: first.get(&digest).copied().unwrap_or(&directory.name),
            }
        });
        named.collect()
    }

    /// All that is in the module directory of that name, whichever name it was walked by.
    pub(crate) fn modules_at(&self, name: &Path) -> Option<&Modules> {
        let directory = self.directory(name)?;
        if !directory.is_alias() {
            return directory.modules();
        }
        let digest = directory.digest();
        let mut walked = self.directories.iter().filter(|other| !other.is_alias());
        walked.find(|other| other.digest() == digest)?.modules()
    }

    /// The module directory of that name.
    pub(crate) fn directory(&self, name: &Path) -> Option<&Directory> {
        let by_name = |directory: &Directory| directory.name.as_path().cmp(name);
        let index = self.directories.binary_search_by(by_name).ok()?;
        Some(&self.directories[index])
    }

    /// Every module, program, file, command and library, each with its module directory.
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
    pub(crate) fn lists(&self) -> [(Input, &[Entry]); 4] {
        [
            (Input::Program, &self.programs),
            (Input::File, &self.files),
            (Input::Command, &self.commands),
            (Input::Library, self.libraries()),
        ]
    }

    /// The file that needs the library at a path. `None` for any other input.
    pub(crate) fn needer_of(&self, input: Input, path: &Path) -> Option<&Path> {
        let libraries = self.libraries.as_ref();
        let libraries = libraries.filter(|_| input == Input::Library);
        libraries.and_then(|libraries| libraries.needer_of(path))
    }

    /// The shared libraries that exist.
    pub(crate) fn libraries(&self) -> &[Entry] {
        let libraries = self.libraries.as_ref();
        libraries.map_or(&[], |libraries| &libraries.entries)
    }

    /// This observation, but with a stamp as our own touch left it.
    pub(crate) fn with_stamp(mut self, owner: Owner, mtime: Mtime) -> Observation {
        *self.stamps.of_mut(owner) = StampState::At(mtime);
        self
    }
}
