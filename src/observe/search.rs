//! The search for paths that match the patterns of a profile.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::files::directory::{PLACE, for_each_entry, open_for_reading, os, stat_at};
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::observe::entry::Entry;
use crate::observe::observation::Searched;
use crate::observe::pattern::{Glob, Named, Source, is_match, is_wild, plain_part};
use crate::observe::profile::Profile;
use crate::observe::walk::{Note, Walk};

/// Called with the directory that a match is in, its name there, and its path in the root.
type OnMatch<'a> = dyn FnMut(&mut Walk<'_>, BorrowedFd<'_>, &OsStr, PathBuf) + 'a;

/// Where the names in a directory come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Always read: a module directory's name may lead elsewhere by now.
    Read,
    /// From the older observation, if the directory is unchanged. Each name is then looked at.
    ReadOrKnown,
}

/// A search for paths in a root directory.
pub(crate) struct Search<'s, 'a> {
    walk: &'s mut Walk<'a>,
    names: Names,
    /// Directories that were searched, for the next observation.
    searched: Vec<Searched>,
    /// Directories whose names nobody could read.
    pub(crate) unreadable: Vec<(PathBuf, Errno)>,
}

/// What a list of programs or of further files names.
pub(crate) struct Matches {
    /// Sorted by name.
    pub(crate) entries: Vec<Entry>,
    /// The directories among the matches. All that is in them counts.
    pub(crate) directories: Vec<PathBuf>,
    /// Where the entries were searched.
    pub(crate) searched: Vec<Searched>,
}

/// The programs or further files that a list names. `added` are paths that count besides the list.
pub(crate) fn matches<'p>(
    walk: &mut Walk<'_>,
    sources: &[Source],
    programs: &[Glob],
    added: impl IntoIterator<Item = &'p Path>,
) -> Matches {
    let (mut entries, mut directories) = (Vec::new(), Vec::new());
    let mut search = Search::new(walk, Names::ReadOrKnown);
    let mut on_match = |walk: &mut Walk<'_>, directory: BorrowedFd<'_>, name: &OsStr, path| {
        let Some(entry) = walk.entry_in(directory, name, path) else {
            return;
        };
        match is_directory(walk.root, &entry) {
            true => directories.push(entry.name),
            false => entries.push(entry),
        }
    };
    let mut relative = Vec::new();
    for named in sources.iter().flat_map(|source| source.named(programs)) {
        match named {
            Named::Absolute(glob) => search.find(&glob, &mut on_match),
            Named::Relative(path) => relative.push((path, FileType::RegularFile, Errno::INVAL)),
        }
    }
    for path in added {
        search.look_at(path, &mut on_match);
    }
    let unreadable = search.unreadable.into_iter();
    let unreadable = unreadable.map(|(path, errno)| (path, FileType::Directory, errno));
    let unreadable = unreadable.chain(relative);
    entries.extend(unreadable.map(|(path, kind, errno)| Entry::unreadable(path, kind, errno)));
    entries.sort_by(|a: &Entry, b| a.name.cmp(&b.name));
    entries.dedup_by(|a, b| a.name == b.name);
    Matches {
        entries,
        directories,
        searched: search.searched,
    }
}

/// Whether an entry is a directory, or a link that leads to one.
fn is_directory(root: &Root, entry: &Entry) -> bool {
    match entry.file_type() {
        FileType::Directory => true,
        FileType::Symlink => root
            .target(&entry.name)
            .is_some_and(|target| FileType::from_raw_mode(target.st_mode).is_dir()),
        _ => false,
    }
}

impl Profile {
    /// Whether `file`, a path outside the root directory, is one of the programs, links followed.
    #[doc(hidden)] // Only the programs use it.
    pub fn has_program(&self, file: &Path) -> bool {
        if self.root().is_system() && self.names_program(file) {
            return true; // A search would read all names in `/usr/bin`.
        }
        let Ok(stat) = rustix::fs::stat(file) else {
            return false;
        };
        let found = matches(&mut Walk::new(self.root(), None), &self.programs, &[], []);
        let entries = found.entries.iter();
        let mut targets = entries.filter_map(|entry| self.root().target(&entry.name));
        targets.any(|target| (target.st_dev, target.st_ino) == (stat.st_dev, stat.st_ino))
    }
}

impl<'s, 'a> Search<'s, 'a> {
    pub(crate) fn new(walk: &'s mut Walk<'a>, names: Names) -> Search<'s, 'a> {
        Search {
            walk,
            names,
            searched: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    /// Calls `on_match` for every path that a pattern matches, whether or not something is there.
    pub(crate) fn find(&mut self, glob: &Glob, on_match: &mut OnMatch<'_>) {
        if glob.names.is_empty() {
            return self.look_at(&glob.plain, on_match);
        }
        self.walk.note(&glob.plain);
        match self.walk.root.place(&glob.plain, Steps::Any) {
            Ok(place) => self.find_below(place.as_fd(), &glob.plain, &glob.names, on_match),
            Err(stop) => self.give_up(glob.plain.clone(), stop),
        }
    }

    /// Calls `on_match` for a path that is no pattern, whether or not something is there.
    fn look_at(&mut self, path: &Path, on_match: &mut OnMatch<'_>) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return; // Only a directory has such a path.
        };
        self.walk.note(path);
        match self.walk.root.place(parent, Steps::Any) {
            Ok(place) => on_match(self.walk, place.as_fd(), name, path.to_owned()),
            Err(stop) => self.give_up(parent.to_owned(), stop),
        }
    }

    fn find_below(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        components: &[glob::Pattern],
        on_match: &mut OnMatch<'_>,
    ) {
        let Some((component, rest)) = components.split_first() else {
            return;
        };
        let names = match is_wild(component) {
            true => {
                self.walk.note_names(path);
                self.matching_names(directory, path, component, rest)
            }
            false => Ok(vec![OsString::from(component.as_str())]),
        };
        let names = match names {
            Ok(names) => names,
            Err(Errno::NOENT | Errno::NOTDIR) => return, // It went since it was found.
            Err(errno) => return self.unreadable.push((path.to_owned(), errno)),
        };
        for name in names {
            let path = path.join(&name);
            self.walk.note(&path);
            if rest.is_empty() {
                on_match(self.walk, directory, &name, path);
                continue;
            }
            match self.directory_at(directory, &name, &path) {
                Ok(child) => self.find_below(child.as_fd(), &path, rest, on_match),
                Err(stop) => self.give_up(path, stop),
            }
        }
    }

    /// Records that the matches are unknown. A path that leads nowhere, or that the caller may not
    /// enter, has no matches: nothing can be loaded from it.
    fn give_up(&mut self, path: PathBuf, stop: Stop) {
        match stop.errno() {
            _ if stop.leads_nowhere() => {}
            Errno::ACCESS => self.walk.shut.push(path),
            errno => self.unreadable.push((path, errno)),
        }
    }

    /// Opens the directory that `name` is, or leads to. `path` is its place in the root.
    fn directory_at(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<OwnedFd, Stop> {
        match rustix::fs::openat(directory, name, PLACE | OFlags::DIRECTORY, Mode::empty()) {
            // A link, or no directory.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let place = self.walk.root.place(path, Steps::Any)?;
                let stat = rustix::fs::fstat(&place)?;
                match FileType::from_raw_mode(stat.st_mode).is_dir() {
                    true => Ok(place),
                    false => Err(Errno::NOTDIR.into()),
                }
            }
            opened => Ok(opened?),
        }
    }

    /// The names in a directory that match `component`, and may lead on to the `rest`.
    fn matching_names(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        component: &glob::Pattern,
        rest: &[glob::Pattern],
    ) -> rustix::io::Result<Vec<OsString>> {
        let opened = open_for_reading(directory)?;
        let opened = opened.as_fd();
        if self.names == Names::Read || !rest.is_empty() {
            return self.read_names(opened, path, component, rest);
        }
        let stat = rustix::fs::fstat(opened)?;
        let identity = self.walk.evidence.identity(&stat, || Some(opened));
        let Some(directory) = identity.evidence() else {
            return self.read_names(opened, path, component, rest);
        };
        let pattern = path.join(component.as_str());
        let known = self.known_names(path, component).and_then(|names| {
            let searched = Searched::new(pattern.clone(), directory, &names);
            let is_known = self.walk.older?.searched.contains(&searched);
            is_known.then_some((names, searched))
        });
        let (names, searched) = match known {
            Some(known) => known,
            None => {
                let mut names = self.read_names(opened, path, component, rest)?;
                names.sort();
                let searched = Searched::new(pattern, directory, &names);
                (names, searched)
            }
        };
        self.searched.push(searched);
        Ok(names)
    }

    /// The names that an older observation has in a directory for a pattern, sorted.
    fn known_names(&self, directory: &Path, component: &glob::Pattern) -> Option<Vec<OsString>> {
        let older = self.walk.older?;
        let entries = older.programs.iter().chain(&older.files);
        let directories = older.directories.iter().map(|found| &found.name);
        let paths = entries.map(|entry| &entry.name).chain(directories);
        let here = paths.filter(|path| path.parent() == Some(directory));
        let names = here.filter_map(|path| path.file_name());
        let names = names.filter(|name| is_match(component, name));
        let mut names: Vec<OsString> = names.map(OsStr::to_owned).collect();
        names.sort();
        names.dedup();
        Some(names)
    }

    /// `path` is the directory's place in the root.
    fn read_names(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        component: &glob::Pattern,
        rest: &[glob::Pattern],
    ) -> rustix::io::Result<Vec<OsString>> {
        let mut matching = Vec::new();
        let part = plain_part(component).as_bytes();
        for_each_entry(directory, |name, kind| {
            let mut parts = name.to_bytes().windows(part.len().max(1));
            let may_match = part.is_empty() || parts.any(|it| it == part);
            let name = os(name);
            if may_match && is_match(component, name) {
                matching.push((name.to_owned(), kind));
            }
        })?;
        matching.retain(|(name, kind)| {
            if let (Some(next), Some(noted)) = (rest.first(), &mut self.walk.noted) {
                noted.insert(Note::Path(path.join(name).join(next.as_str())));
            }
            self.leads_on(directory, name, *kind, rest)
        });
        Ok(matching.into_iter().map(|(name, _)| name).collect())
    }

    /// Whether a pattern may go on below `name`. One system call rules most names out.
    fn leads_on(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        rest: &[glob::Pattern],
    ) -> bool {
        let Some(next) = rest.first().filter(|next| !is_wild(next)) else {
            return kind != FileType::RegularFile || rest.is_empty();
        };
        match kind {
            FileType::RegularFile => false,
            // The kernel follows a link rightly only in the system's own root.
            kind if kind != FileType::Directory && !self.walk.root.is_system() => true,
            _ => {
                let next = Path::new(name).join(next.as_str());
                let found = stat_at(directory, next.as_os_str());
                !matches!(found, Ok(None) | Err(Errno::NOTDIR))
            }
        }
    }
}
