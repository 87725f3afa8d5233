//! Programs behind links: QEMU looks for its modules beside its own file, not beside a link to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::root::Root;
use crate::observe::entry::Entry;
use crate::observe::pattern::Glob;

/// The paths of the programs' own files, of those programs whose path leads over a link.
pub(crate) fn linked(root: &Root, programs: &[Entry]) -> Vec<Glob> {
    let mut parents: BTreeMap<&Path, PathBuf> = BTreeMap::new();
    let own = programs.iter().filter_map(|entry| {
        let (parent, name) = (entry.name.parent()?, entry.name.file_name()?);
        let own = match entry.file_type().is_symlink() {
            true => root.own_path(&entry.name),
            false => {
                let parent = parents.entry(parent);
                let parent = parent.or_insert_with_key(|path| root.own_path(path));
                parent.join(name)
            }
        };
        (own != entry.name).then(|| Glob::plain(own))
    });
    own.collect()
}
