//! Inputs that a profile names and that a look at the host did not find.

use std::path::Path;

use crate::ground::text::Printable;
use crate::observe::added::Added;
use crate::observe::entry::Entry;
use crate::observe::observation::Observation;
use crate::observe::profile::{Profile, UNNAMED};

impl Profile {
    /// The warnings about inputs that the profile names and `seen` lacks, one sentence each.
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
