//! The walk through module directories, which sees all that is in them at any depth.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::files::directory::open_for_reading;
use crate::files::root::Root;
use crate::files::way::Stop;
use crate::observe::content::digest_of_name;
use crate::observe::directory::{Directory, DirectoryState, Modules};
use crate::observe::entry::{Entry, Rights};
use crate::observe::evidence::hash_numbers;
use crate::observe::exclude::Exclude;
use crate::observe::exclusions::Exclusions;
use crate::observe::found::Found;
use crate::observe::module_walk::ModuleWalk;
use crate::observe::pattern::{Glob, Named};
use crate::observe::profile::Profile;
use crate::observe::search::{Names, Search};
use crate::observe::walk::{Inode, Walk, inode};

/// What a list of module directories names.
pub(crate) struct ModuleDirectories {
    /// Sorted by name.
    pub(crate) directories: Vec<Directory>,
    /// The files among the named paths.
    pub(crate) files: Vec<Entry>,
}

/// A path that may be a module directory.
#[derive(Clone, PartialEq, Eq)]
struct Candidate {
    path: PathBuf,
    /// Whether the profile names it without a wildcard. Anything but a directory then counts, too.
    is_plain: bool,
}

/// All module directories of a profile. `more` are directories that another of its lists names.
pub(crate) fn module_directories(
    walk: &mut Walk<'_>,
    profile: &Profile,
    programs: &[Glob],
    more: Vec<PathBuf>,
) -> ModuleDirectories {
    let (mut candidates, mut directories) = candidates(walk, profile, programs);
    let more = more.into_iter();
    candidates.extend(more.map(|path| Candidate {
        path,
        is_plain: true,
    }));
    let paths: Vec<&Path> = candidates.iter().map(|it| it.path.as_path()).collect();
    let exclusions = Exclusions::of(profile, programs, &paths);
    let (mut files, mut walked) = (Vec::new(), BTreeMap::new());
    for Candidate { path, is_plain } in own_names_first(walk.root, candidates) {
        walk.note(&path);
        match walk.root.directory(&path) {
            Ok(place) => {
                let found = module_directory(walk, path, &place, &exclusions, &mut walked);
                directories.extend(found);
            }
            Err(Stop::System(Errno::NOTDIR)) if counts(&path, is_plain, profile, programs) => {
                files.extend(walk.entry(&path));
            }
            Err(stop) if stop.leads_nowhere() => {}
            Err(Stop::System(Errno::ACCESS)) => walk.shut.push(path),
            Err(stop) => directories.push(Directory::unreadable(path, stop.errno())),
        }
    }
    directories.sort_by(|a, b| a.name.cmp(&b.name));
    ModuleDirectories { directories, files }
}

/// Whether a named path that leads to no directory leads to something that counts. If a pattern
/// matched it, only a file counts, unless it is excluded or a cache of another program.
fn counts(path: &Path, is_plain: bool, profile: &Profile, programs: &[Glob]) -> bool {
    let Some(target) = profile.root().target(path) else {
        return false; // A step on the way is no directory.
    };
    let name = path.file_name().unwrap_or_default();
    let mut exclude = profile.exclude.iter();
    let mut caches = profile.caches.iter().flat_map(|cache| &cache.files);
    let is_it = |named: &Named| matches!(named, Named::Absolute(glob) if glob.matches(path));
    is_plain
        || FileType::from_raw_mode(target.st_mode).is_file()
            && !exclude.any(|exclude| exclude.matches_name(name))
            && !caches.any(|file| file.named(programs).iter().any(is_it))
}

/// The paths that a profile names, and the directories among them that nobody can look at.
fn candidates(
    walk: &mut Walk<'_>,
    profile: &Profile,
    programs: &[Glob],
) -> (Vec<Candidate>, Vec<Directory>) {
    let (mut candidates, mut unreadable) = (Vec::new(), Vec::new());
    let mut add = |path: PathBuf, is_plain| candidates.push(Candidate { path, is_plain });
    for path in profile.added_directories() {
        add(path.to_owned(), true);
    }
    let mut globs: Vec<Cow<'_, Glob>> = Vec::new();
    let sources = profile.directories.iter();
    for named in sources.flat_map(|source| source.named(programs)) {
        match named {
            Named::Absolute(glob) if globs.contains(&glob) => {}
            Named::Absolute(glob) => globs.push(glob),
            Named::Relative(path) => unreadable.push(Directory::unreadable(path, Errno::INVAL)),
        }
    }
    let mut search = Search::new(walk, Names::Read);
    for glob in globs {
        match glob.names.is_empty() {
            true => add(glob.plain.clone(), true),
            false => search.find(&glob, &mut |_, _, _, path| add(path, false)),
        }
    }
    let found = search.unreadable.into_iter();
    unreadable.extend(found.map(|(path, errno)| Directory::unreadable(path, errno)));
    (candidates, unreadable)
}

/// Sorts paths so that a directory is walked by its own name rather than by a link's.
fn own_names_first(root: &Root, mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    if candidates.len() > 1 {
        let is_link = |path: &Path| match root.stat(path) {
            Ok(Some(stat)) => FileType::from_raw_mode(stat.st_mode).is_symlink(),
            _ => false,
        };
        let key = |it: &Candidate| (is_link(&it.path), it.path.clone(), !it.is_plain);
        candidates.sort_by_cached_key(key);
        candidates.dedup_by(|a, b| a.path == b.path);
    }
    candidates
}

/// The module directory `name`, opened as `place`. `None` if it is no directory.
fn module_directory(
    walk: &mut Walk<'_>,
    name: PathBuf,
    place: &OwnedFd,
    exclusions: &Exclusions<'_>,
    walked: &mut BTreeMap<Inode, PathBuf>,
) -> Option<Directory> {
    let stat = match rustix::fs::fstat(place) {
        Ok(stat) => stat,
        Err(errno) => return Some(Directory::unreadable(name, errno)),
    };
    let rights = Rights::of(&stat);
    rights.file_type().is_dir().then_some(())?;
    let state = match walked.get(&inode(&stat)) {
        Some(first) => DirectoryState::Alias(digest_of_name(first)),
        None => {
            walked.insert(inode(&stat), name.clone());
            let exclude = exclusions.of_directory(inode(&stat));
            match modules(walk, &name, &stat, place, &exclude) {
                Ok(modules) => DirectoryState::Walked(modules),
                Err(errno) => DirectoryState::Unreadable(errno.raw_os_error()),
            }
        }
    };
    Some(Directory {
        name,
        rights,
        state,
    })
}

/// All that is in the module directory `top`.
///
/// The names are listed only if their sum is not the one that an older observation has.
fn modules(
    walk: &mut Walk<'_>,
    top: &Path,
    stat: &Stat,
    place: &OwnedFd,
    exclude: &[&Exclude],
) -> rustix::io::Result<Modules> {
    let rights = Rights::of(stat);
    let nothing = hash_numbers([rights.mode, rights.uid, rights.gid].map(u64::from));
    let known = walk.older.and_then(|older| older.modules_at(top));
    let known = known.filter(|known| known.sum.is_some());
    let unchanged = known.filter(|known| {
        let found = Found::Sum(Some(nothing));
        let summed = ModuleWalk::new(walk, top, exclude, found).run(place.as_fd(), stat);
        summed.is_ok_and(|found| found.sum(nothing) == known.sum)
    });
    let (sum, entries) = match unchanged {
        Some(known) => (known.sum, Arc::clone(&known.entries)),
        None => {
            // The sum read the names already, or `place` was opened as a mere place.
            let directory = open_for_reading(place)?;
            let found = Found::List(Vec::new());
            let found = ModuleWalk::new(walk, top, exclude, found).run(directory.as_fd(), stat)?;
            (found.sum(nothing), Arc::new(found.sorted()))
        }
    };
    // Stat after reading the names. If a name appeared meanwhile, its removal moves this
    // fingerprint again.
    let after = rustix::fs::fstat(place)?;
    let own = walk.evidence.identity(&after, || Some(place)).fingerprint();
    Ok(Modules { sum, own, entries })
}
