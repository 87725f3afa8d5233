//! The walk through module directories, which sees all that is in them at any depth.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, SeekFrom, Stat};
use rustix::io::Errno;

use crate::files::directory::{for_each_name, open_for_reading};
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::observe::content::{
    Content, MOST_ENTRIES, MOST_LEVELS, NOT_STORED, TOO_DEEP, TOO_MANY, digest_of_name,
};
use crate::observe::directory::{Directory, DirectoryState, Modules};
use crate::observe::entry::{Entry, Rights};
use crate::observe::evidence::{Identity, hash, hash_numbers};
use crate::observe::exclude::Exclude;
use crate::observe::exclusions::Exclusions;
use crate::observe::pattern::{Glob, Named};
use crate::observe::profile::Profile;
use crate::observe::reader::content_of_link_alias;
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
            match modules(walk, &name, rights, place, &exclude) {
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
    rights: Rights,
    place: &OwnedFd,
    exclude: &[&Exclude],
) -> rustix::io::Result<Modules> {
    let nothing = hash_numbers([rights.mode, rights.uid, rights.gid].map(u64::from));
    let known = walk.older.and_then(|older| older.modules_at(top));
    let known = known.filter(|known| known.sum.is_some());
    let unchanged = known.filter(|known| {
        let found = Found::Sum(Some(nothing));
        let summed = ModuleWalk::new(walk, top, exclude, found).run(place);
        summed.is_ok_and(|found| found.sum(nothing) == known.sum)
    });
    let (sum, entries) = match unchanged {
        Some(known) => (known.sum, Arc::clone(&known.entries)),
        None => {
            let found = Found::List(Vec::new());
            let found = ModuleWalk::new(walk, top, exclude, found).run(place)?;
            (found.sum(nothing), Arc::new(found.sorted()))
        }
    };
    // Stat after reading the names. If a name appeared meanwhile, its removal moves this
    // fingerprint again.
    let stat = rustix::fs::fstat(place)?;
    let own = walk.evidence.identity(&stat, || Some(place)).fingerprint();
    Ok(Modules { sum, own, entries })
}

/// One walk through a module directory.
struct ModuleWalk<'w, 'a> {
    walk: &'w mut Walk<'a>,
    /// The module directory.
    top: &'w Path,
    /// What does not count there.
    exclude: &'w [&'w Exclude],
    found: Found,
    /// The directories that were walked, with their names below `top`.
    walked: BTreeMap<Inode, PathBuf>,
    /// Links that were seen, and not followed yet.
    links: Vec<Entry>,
    /// The number of entries that were seen.
    seen: usize,
}

/// The outcome of a look below a directory or a link.
enum Below {
    /// It leads to no directory, or to one that was walked just now.
    Done,
    /// It leads to a directory that was walked by this name before.
    Alias(PathBuf),
    /// It leads to a directory whose names changed while they were read. This is the directory's
    /// identity after that.
    Changed(Identity),
}

impl<'w, 'a> ModuleWalk<'w, 'a> {
    fn new(
        walk: &'w mut Walk<'a>,
        top: &'w Path,
        exclude: &'w [&'w Exclude],
        found: Found,
    ) -> ModuleWalk<'w, 'a> {
        ModuleWalk {
            walk,
            top,
            exclude,
            found,
            walked: BTreeMap::new(),
            links: Vec::new(),
            seen: 0,
        }
    }

    fn run(mut self, place: &OwnedFd) -> rustix::io::Result<Found> {
        let stat = rustix::fs::fstat(place)?;
        if self.walk.evidence.is_state(&stat, place.as_fd()) {
            return Err(NOT_STORED);
        }
        self.walked.insert(inode(&stat), PathBuf::new());
        match rustix::fs::seek(place, SeekFrom::Start(0)) {
            Ok(_) => self.directory(place.as_fd(), Path::new(""))?,
            // It was opened as a mere place.
            Err(_) => self.directory(open_for_reading(place)?.as_fd(), Path::new(""))?,
        }
        // Links come last: a directory is walked by a link's name only if it lies elsewhere.
        while !self.links.is_empty() {
            let mut links = std::mem::take(&mut self.links);
            links.sort_by(|a, b| a.name.cmp(&b.name));
            links
                .into_iter()
                .for_each(|link| self.add_with_all_below(link));
        }
        // A part of it must not pass for the whole.
        match self.seen > MOST_ENTRIES {
            true => Err(TOO_MANY),
            false => Ok(self.found),
        }
    }

    /// Adds all that is in `directory`, at `below` in the module directory.
    fn directory(&mut self, directory: BorrowedFd<'_>, below: &Path) -> rustix::io::Result<()> {
        self.walk.note_names(&self.top.join(below));
        let mut name = below.as_os_str().as_bytes().to_owned();
        if !name.is_empty() {
            name.push(b'/');
        }
        let prefix = name.len();
        let before = self.found.count();
        let (mut directories, mut links) = (Vec::new(), Vec::new());
        let mut failed = None;
        let read = for_each_name(directory, |file| {
            self.seen += 1;
            if self.seen > MOST_ENTRIES {
                return failed = Some(TOO_MANY);
            }
            name.truncate(prefix);
            name.extend_from_slice(file.to_bytes());
            let name = Path::new(OsStr::from_bytes(&name));
            if self.exclude.iter().any(|exclude| exclude.matches(name)) {
                return;
            }
            if self.walk.noted.is_some() {
                self.walk.note(&self.top.join(name));
            }
            let (stat, identity) = match self.walk.stat(directory, file, || self.top.join(name)) {
                Ok(Some(found)) => found,
                Ok(None) => return, // It went since its name was read.
                Err(errno) => return failed = Some(errno),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    directories.push(Entry::new(name.to_owned(), &stat, identity));
                }
                FileType::Symlink => links.push(Entry::new(name.to_owned(), &stat, identity)),
                _ => self.found.add(name, &stat, identity),
            }
        });
        if let Some(errno) = failed.or(read.err()) {
            self.found.forget_after(before); // A partial list must not pass for a whole one.
            return Err(errno);
        }
        self.links.extend(links);
        // Sorted, so that a directory with several names is always walked by the same one.
        directories.sort_by(|a, b| a.name.cmp(&b.name));
        directories
            .into_iter()
            .for_each(|entry| self.add_with_all_below(entry));
        Ok(())
    }

    /// Adds a directory or a link, and all that is below it.
    fn add_with_all_below(&mut self, entry: Entry) {
        let entry = match self.below(&entry) {
            Ok(Below::Done) => entry,
            Ok(Below::Alias(first)) => self.alias(entry, &first),
            Ok(Below::Changed(identity)) => Entry { identity, ..entry },
            Err(errno) => Entry {
                identity: entry.identity.merely_seen(),
                content: Content::unreadable(errno),
                ..entry
            },
        };
        self.found.add_entry(entry);
    }

    /// Adds all that is in the directory that `entry` is, or leads to.
    fn below(&mut self, entry: &Entry) -> rustix::io::Result<Below> {
        let place = match self
            .walk
            .root
            .place(&self.top.join(&entry.name), Steps::Any)
        {
            Ok(place) => place,
            Err(stop) if stop.leads_nowhere() => return Ok(Below::Done),
            Err(stop) => return Err(stop.errno()),
        };
        let stat = rustix::fs::fstat(&place)?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(Below::Done);
        }
        if let Some(first) = self.walked.get(&inode(&stat)) {
            return Ok(Below::Alias(first.clone()));
        }
        if entry.name.components().count() > MOST_LEVELS {
            return Err(TOO_DEEP);
        }
        if self.seen > MOST_ENTRIES {
            return Err(TOO_MANY);
        }
        if self.walk.evidence.is_state(&stat, place.as_fd()) {
            return Err(NOT_STORED);
        }
        let directory = open_for_reading(&place)?;
        self.walked.insert(inode(&stat), entry.name.clone());
        self.directory(directory.as_fd(), &entry.name)?;
        // A name that came while they were read must not slip away unseen.
        let after = rustix::fs::fstat(&place)?;
        if (after.st_ctime, after.st_ctime_nsec) == (stat.st_ctime, stat.st_ctime_nsec) {
            return Ok(Below::Done);
        }
        let identity = self.walk.evidence.identity(&after, || Some(&place));
        Ok(Below::Changed(identity.merely_seen()))
    }

    /// An entry that is another name of a directory which was walked by its name `first`.
    fn alias(&self, entry: Entry, first: &Path) -> Entry {
        let path = self.top.join(&entry.name);
        let content = match entry.file_type() {
            FileType::Symlink => content_of_link_alias(self.walk.root, &path, first),
            _ => Content::Digest(digest_of_name(first)),
        };
        Entry {
            identity: entry.identity.with(first.as_os_str().as_bytes()),
            content,
            ..entry
        }
    }
}

/// The collection of a walk through a module directory.
enum Found {
    /// One number, which tells whether all is as an older observation has it. `None` once one of
    /// the entries is no evidence. It allocates nothing for a module, which makes a check quick.
    Sum(Option<u64>),
    /// Every entry.
    List(Vec<Entry>),
}

impl Found {
    fn add(&mut self, name: &Path, stat: &Stat, identity: Identity) {
        match self {
            Found::Sum(sum) => *sum = sum.and_then(|sum| plus(sum, name, identity)),
            Found::List(entries) => entries.push(Entry::new(name.to_owned(), stat, identity)),
        }
    }

    fn add_entry(&mut self, entry: Entry) {
        match self {
            Found::Sum(sum) => *sum = sum.and_then(|sum| plus(sum, &entry.name, entry.identity)),
            Found::List(entries) => entries.push(entry),
        }
    }

    fn count(&self) -> usize {
        match self {
            Found::Sum(_) => 0,
            Found::List(entries) => entries.len(),
        }
    }

    /// Forgets all entries but the first `count`.
    fn forget_after(&mut self, count: usize) {
        match self {
            Found::Sum(sum) => *sum = None,
            Found::List(entries) => entries.truncate(count),
        }
    }

    /// Every entry, by name.
    fn sorted(self) -> Vec<Entry> {
        match self {
            Found::Sum(_) => Vec::new(),
            Found::List(mut entries) => {
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                entries
            }
        }
    }

    /// The sum of all entries' fingerprints, each hashed with its name. `nothing` is the sum of an
    /// empty directory. A sum does not depend on the order in which a file system lists.
    fn sum(&self, nothing: u64) -> Option<u64> {
        match self {
            Found::Sum(sum) => *sum,
            Found::List(entries) => entries
                .iter()
                .try_fold(nothing, |sum, entry| plus(sum, &entry.name, entry.identity)),
        }
    }
}

/// `None` if the identity is no evidence.
fn plus(sum: u64, name: &Path, identity: Identity) -> Option<u64> {
    let fingerprint = identity.evidence()?;
    Some(sum.wrapping_add(hash(fingerprint, name.as_os_str().as_bytes())))
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;

    #[test]
    fn a_partial_list_is_forgotten_and_all_before_it_kept() {
        let entry =
            |name: &str| Entry::unreadable(PathBuf::from(name), FileType::RegularFile, Errno::IO);
        let mut found = Found::List(Vec::new());
        found.add_entry(entry("a.so"));
        found.add_entry(entry("below"));
        let before = found.count();
        found.add_entry(entry("below/b.so"));
        found.forget_after(before);
        let names: Vec<PathBuf> = found.sorted().into_iter().map(|it| it.name).collect();
        assert_eq!(names, [Path::new("a.so"), Path::new("below")]);
    }
}
