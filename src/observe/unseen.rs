//! Inputs that a profile names and that a look at the host did not find.

use std::path::Path;

use crate::ground::text::Printable;
use crate::observe::added::{Added, AddedState};
use crate::observe::entry::Entry;
use crate::observe::observation::Observation;
use crate::observe::profile::{Profile, UNNAMED};

impl Profile {
    /// The warnings about inputs that the profile names and `seen` lacks, one sentence each.
    pub(crate) fn unseen(&self, seen: &Observation) -> Vec<String> {
        let unseen = |added: &Added| match (seen.state_of(added), added) {
            (AddedState::Missing, Added::Directory(path)) => Some(self.missing("directory", path)),
            (AddedState::Missing, Added::File(path)) => Some(self.missing("file", path)),
            (AddedState::Directory(_) | AddedState::File | AddedState::Unknown, _) => None,
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

impl Observation {
    /// The state of an input that a caller added to the profile.
    pub(crate) fn state_of(&self, added: &Added) -> AddedState {
        let (Added::Directory(path) | Added::File(path)) = added;
        match (self.directory(path), self.modules_at(path)) {
            (Some(_), Some(modules)) => AddedState::Directory(modules.count()),
            (Some(_), None) => AddedState::Unknown,
            (None, _) => match entry_of(&self.files, path) {
                None => AddedState::Missing,
                Some(entry) if entry.is_unreadable() => AddedState::Unknown,
                Some(_) => AddedState::File,
            },
        }
    }
}

fn entry_of<'a>(entries: &'a [Entry], path: &Path) -> Option<&'a Entry> {
    let index = entries.binary_search_by(|entry| entry.name.as_path().cmp(path));
    Some(&entries[index.ok()?])
}
