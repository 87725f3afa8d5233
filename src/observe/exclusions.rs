//! What does not count in the module directories of one look.

use std::collections::BTreeSet;
use std::path::Path;

use crate::observe::exclude::Exclude;
use crate::observe::pattern::Glob;
use crate::observe::profile::Profile;
use crate::observe::walk::{Inode, inode};

/// The exclusions of a profile in one look.
pub(crate) struct Exclusions<'p> {
    /// Each with the inodes of its directories; `None` if it is for all.
    all: Vec<(&'p Exclude, Option<BTreeSet<Inode>>)>,
}

impl<'p> Exclusions<'p> {
    /// Finds the directories of each. `paths` are those of all module directories. A directory may
    /// have several, so its inode counts.
    pub(crate) fn of(profile: &'p Profile, programs: &[Glob], paths: &[&Path]) -> Exclusions<'p> {
        let with_inodes = |exclude: &'p Exclude| {
            let is_for = |path: &&&Path| exclude.is_for(programs, |glob| glob.matches(path));
            let inodes = || {
                let stats = paths.iter().filter(is_for);
                let stats = stats.filter_map(|path| profile.root().target(path));
                stats.map(|stat| inode(&stat)).collect()
            };
            (exclude, exclude.directories.is_some().then(inodes))
        };
        Exclusions {
            all: profile.exclude.iter().map(with_inodes).collect(),
        }
    }

    /// Those for the module directory of an inode.
    pub(crate) fn of_directory(&self, inode: Inode) -> Vec<&'p Exclude> {
        let all = self.all.iter().filter(|(_, inodes)| {
            let inodes = inodes.as_ref();
            inodes.is_none_or(|inodes| inodes.contains(&inode))
        });
        all.map(|(exclude, _)| *exclude).collect()
    }
}
