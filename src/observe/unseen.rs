//! Inputs that a profile names and that a look at the host did not find, or could not use.

use std::path::{Path, PathBuf};

use crate::ground::text::Printable;
use crate::observe::added::{Added, AddedState};
use crate::observe::content::{Content, error_text};
use crate::observe::entry::Entry;
use crate::observe::input::Input;
use crate::observe::inputs::Inputs;
use crate::observe::observation::Observation;
use crate::observe::pattern::{Named, Source};
use crate::observe::profile::{Profile, UNNAMED};

impl Inputs {
    /// The warnings about inputs that `profile` names and this look did not find.
    #[doc(hidden)] // Only the programs use it.
    pub fn warnings(&self, profile: &Profile) -> Vec<String> {
        profile.unseen(self.observation())
    }

    /// The items of the profile's lists that match nothing, each with its list.
    #[doc(hidden)] // Only the programs use it.
    pub fn missing(&self, profile: &Profile) -> Vec<(Input, String)> {
        let mut programs = profile.program_globs();
        programs.extend_from_slice(self.linked());
        let is_found = |source: &&Source| {
            source.named(&programs).iter().any(|named| match named {
                Named::Absolute(glob) => self.paths().any(|path| glob.matches(path)),
                Named::Relative(_) => true,
            })
        };
        let mut missing = Vec::new();
        for (input, list) in [
            (Input::ModuleDirectory, &profile.directories),
            (Input::Program, &profile.programs),
            (Input::File, &profile.files),
        ] {
            let sources = list.iter().filter(|source| !is_found(source));
            missing.extend(sources.map(|source| (input, source.to_string())));
        }
        missing
    }

    /// The path of each directory, program and file that was found.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let seen = self.observation();
        let directories = seen.directories.iter().map(|found| &found.name);
        let entries = seen.programs.iter().chain(&seen.files);
        let paths = directories.chain(entries.map(|entry| &entry.name));
        paths.map(PathBuf::as_path)
    }
}

impl Profile {
    /// The warnings about inputs that the profile names and `seen` lacks or cannot use, one sentence
    /// each.
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
        let manifests = self.wrong_manifests(seen);
        nothing.into_iter().chain(unseen).chain(manifests).collect()
    }

    /// The warnings about manifests that name no library because of what they hold, or because
    /// nobody could read them.
    fn wrong_manifests(&self, seen: &Observation) -> Vec<String> {
        let Some(libraries) = &seen.libraries else {
            return Vec::new();
        };
        let wrong = |path: &Path, problem: &str, remedy: &str| {
            let path = self.root().outside(path);
            let path = Printable(path.as_os_str());
            format!("the manifest {path} {problem}, so no library that it names counts; {remedy}")
        };
        let no_json = libraries.no_json.iter();
        let no_json = no_json.map(|path| wrong(path, "is no JSON", "correct or remove it"));
        let unread = libraries.entries.iter().filter_map(|entry| {
            let Content::Unreadable(errno) = entry.content else {
                return None;
            };
            entry_of(&seen.files, &entry.name)?;
            let problem = format!("cannot be read ({})", error_text(errno));
            Some(wrong(&entry.name, &problem, "make it readable"))
        });
        no_json.chain(unread).collect()
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
