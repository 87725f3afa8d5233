//! The shared libraries that modules and programs load, as one look found them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::observe::entry::Entry;
use crate::observe::evidence::Identity;

/// The shared libraries that modules and programs load, at any depth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Libraries {
    /// Sorted by name.
    pub(crate) entries: Vec<Entry>,
    /// The needed names that the loader finds nowhere. Sorted.
    pub(crate) missing: Vec<PathBuf>,
    /// The manifests that are no JSON, and so name nothing. Sorted.
    pub(crate) no_json: Vec<PathBuf>,
    /// For each library, found or missing, the first file that needs it.
    pub(crate) needed_by: BTreeMap<PathBuf, PathBuf>,
    /// A hash of which library each need leads to.
    pub(crate) links: u64,
    /// The other paths that the look depends on: directories that were searched, and files that
    /// were no library. Sorted by name.
    ///
    /// If these paths, the libraries and the files that need them are all unchanged, another look
    /// finds the same libraries. It then parses nothing.
    pub(crate) looked: Vec<Looked>,
}

/// A path that a look for libraries depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Looked {
    pub(crate) path: PathBuf,
    /// The identity of the file there, hashed together with the whole question.
    pub(crate) identity: Identity,
}

impl Libraries {
    /// The file that needs a library; `None` if none is known.
    pub(crate) fn needer_of(&self, name: &Path) -> Option<&Path> {
        self.needed_by.get(name).map(PathBuf::as_path)
    }
}
