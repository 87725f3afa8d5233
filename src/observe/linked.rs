//! Programs behind links: QEMU looks for its modules beside its own file, not beside a link to it.
//!
//! A look at all programs of a profile goes to the directories of each. A witness of one program
//! lacks those that only links of other programs lead to, so a judgement of it leaves them out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::files::root::Root;
use crate::observe::directory::{Directory, DirectoryState};
use crate::observe::entry::Entry;
use crate::observe::observation::Observation;
use crate::observe::pattern::{Glob, Named, Source};
use crate::observe::profile::Profile;

/// The programs of a look that links lead to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Linked {
    /// Each program, with the path of its own file.
    targets: Vec<(PathBuf, Glob)>,
    /// For each of them, the paths that items with `{program}` name beside its own file.
    beside: Vec<(PathBuf, Vec<Glob>)>,
    /// The paths that the profile names without these links.
    named: Vec<Glob>,
}

impl Linked {
    /// The programs of a profile that a look found. There are none if no item has `{program}`.
    /// `globs` are those that the profile itself gives for `{program}`.
    pub(crate) fn of(profile: &Profile, globs: &[Glob], found: &[Entry]) -> Linked {
        let targets = match globs.is_empty() {
            true => Vec::new(),
            false => targets(profile.root(), found),
        };
        if targets.is_empty() {
            return Linked::default();
        }
        let paths = |globs: &[Glob]| paths(profile.all_sources(), globs);
        let beside = targets.iter().map(|(program, target)| {
            let sources = profile.all_sources().filter(|it| it.begins_at_program());
            let beside = self::paths(sources, std::slice::from_ref(target));
            (program.clone(), beside)
        });
        let mut named = paths(globs);
        let added = profile.added_directories().chain(profile.added_files());
        named.extend(added.map(|path| Glob::plain(path.to_owned())));
        Linked {
            beside: beside.collect(),
            named,
            targets,
        }
    }

    /// The paths of the programs' own files.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Glob> {
        self.targets.iter().map(|(_, target)| target)
    }

    /// Leaves out of a look what only links of other programs than `program` lead to.
    pub(crate) fn narrow(&self, observation: &mut Observation, program: &Path) {
        if self.targets.is_empty() {
            return;
        }
        let is_foreign = |path: &Path| {
            let matches = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(path));
            let mut of_others = self.beside.iter().filter(|(it, _)| it != program);
            let mut of_program = self.beside.iter().filter(|(it, _)| it == program);
            of_others.any(|(_, globs)| matches(globs))
                && !of_program.any(|(_, globs)| matches(globs))
                && !matches(&self.named)
        };
        observation.files.retain(|entry| !is_foreign(&entry.name));
        let directories = std::mem::take(&mut observation.directories).into_iter();
        let (gone, mut kept): (Vec<_>, Vec<_>) =
            directories.partition(|directory| is_foreign(&directory.name));
        gone.into_iter().for_each(|gone| hand_over(gone, &mut kept));
        observation.directories = kept;
    }
}

/// Gives the modules of a directory that is left out to its other names.
fn hand_over(gone: Directory, kept: &mut [Directory]) {
    let digest = gone.digest();
    let mut aliases = kept.iter_mut().filter(|it| it.is_alias());
    let Some(heir) = aliases.find(|alias| alias.digest() == digest && !gone.is_alias()) else {
        return;
    };
    heir.state = gone.state;
    let digest_of_heir = heir.digest();
    for alias in aliases.filter(|alias| alias.digest() == digest) {
        alias.state = DirectoryState::Alias(digest_of_heir);
    }
}

/// The programs whose path leads over a link, each with the path of its own file.
fn targets(root: &Root, programs: &[Entry]) -> Vec<(PathBuf, Glob)> {
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
        (own != entry.name).then(|| (entry.name.clone(), Glob::plain(own)))
    });
    own.collect()
}

/// The absolute paths that items stand for.
fn paths<'a>(sources: impl Iterator<Item = &'a Source>, programs: &[Glob]) -> Vec<Glob> {
    let named = sources.flat_map(|source| source.named(programs));
    let globs = named.filter_map(|named| match named {
        Named::Absolute(glob) => Some(Cow::into_owned(glob)),
        Named::Relative(_) => None,
    });
    globs.collect()
}
