//! The look for shared libraries: it finds what the dynamic loader would load, by ld.so(8).
//!
//! A program may run on any processor. So each variant of a library in `glibc-hwcaps` counts. In
//! the dynamic loader, a loaded library serves later needs of the same name. This look resolves
//! each need for itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::read::read_at_most;
use crate::files::way::Steps;
use crate::observe::elf;
use crate::observe::elf::{Elf, Target};
use crate::observe::entry::Entry;
use crate::observe::evidence::Identity;
use crate::observe::library_path::{
    default_directories, directories_without_cache, musl_directories, musl_files,
};
use crate::observe::loader_cache::{LOADER_CACHE, LoaderCache, MOST_BYTES};
use crate::observe::walk::Walk;

/// The most places in which one look tries to find libraries. GStreamer's plug-ins need some
/// thousands.
pub(crate) const MOST_PLACES: usize = 1_000_000;

/// The largest manifest, or file of musl's, that is read, in bytes.
pub(crate) const MOST_TEXT: u64 = 1 << 20;

/// A look for libraries that is under way.
pub(crate) struct Loader<'w, 'a> {
    pub(crate) walk: &'w mut Walk<'a>,
    cache: Option<LoaderCache>,
    /// Files that were looked at.
    files: BTreeMap<PathBuf, File>,
    /// Directories that were searched; `None` if nothing is there.
    directories: BTreeMap<PathBuf, Option<Rc<Searchable>>>,
    /// The other paths that the look depends on.
    pub(crate) looked: BTreeMap<PathBuf, Identity>,
    /// Needs that were looked up, each with the paths that it leads to.
    answers: BTreeMap<(OsString, Rc<Route>), Rc<Vec<PathBuf>>>,
    /// The places that the look may still try. At 0 it finds nothing more.
    pub(crate) places_left: usize,
    /// Files that exist but could not be read. Their needs are not known.
    pub(crate) unreadable: BTreeMap<PathBuf, Entry>,
}

/// A file that may be a library.
#[derive(Clone)]
pub(crate) enum File {
    Missing,
    /// A program or a library of some architecture.
    Elf(Entry, Rc<Elf>),
    /// It could not be read, so it may be a library.
    Unreadable(Entry),
    Other,
}

/// A directory with libraries.
struct Searchable {
    /// Its path without `..`.
    path: PathBuf,
    /// The directories in it that have variants for some processors.
    special: Vec<PathBuf>,
}

/// Where a file's needs are looked up.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// The directories that come before the cache.
    pub(crate) first: Vec<PathBuf>,
    /// `None` if libraries of every architecture count.
    pub(crate) target: Option<Target>,
    pub(crate) lacks_defaults: bool,
}

impl<'w, 'a> Loader<'w, 'a> {
    pub(crate) fn new(walk: &'w mut Walk<'a>, most_places: usize) -> Loader<'w, 'a> {
        let path = Path::new(LOADER_CACHE);
        // Stat before reading. A cache that changes in between will then have another identity.
        let looked = BTreeMap::from([(path.to_owned(), identity(walk, path))]);
        let mut loader = Loader {
            cache: None,
            walk,
            files: BTreeMap::new(),
            directories: BTreeMap::new(),
            looked,
            answers: BTreeMap::new(),
            places_left: most_places,
            unreadable: BTreeMap::new(),
        };
        let cache = loader.text(path, MOST_BYTES);
        loader.cache = cache.and_then(LoaderCache::of);
        loader
    }

    /// The bytes of a regular file. `None` if there is none. `None` also if it cannot be read,
    /// which the look records.
    pub(crate) fn text(&mut self, path: &Path, most: u64) -> Option<Vec<u8>> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let file = match self.walk.root.read(path, Steps::Any) {
                Ok(file) => file,
                Err(stop) if stop.leads_nowhere() => return Ok(None),
                Err(stop) => return Err(stop.into()),
            };
            let stat = rustix::fs::fstat(&file)?;
            match FileType::from_raw_mode(stat.st_mode).is_file() {
                true => read_at_most(most, file).map(Some),
                false => Ok(None),
            }
        };
        read().unwrap_or_else(|error| {
            self.note_unreadable(path, &error);
            None
        })
    }

    fn note_unreadable(&mut self, path: &Path, error: &io::Error) -> Entry {
        let errno = Errno::from_io_error(error).unwrap_or(Errno::IO);
        let entry = Entry::unreadable(path.to_owned(), FileType::RegularFile, errno);
        self.unreadable.insert(path.to_owned(), entry.clone());
        entry
    }

    /// The libraries that a name leads to.
    pub(crate) fn answer(&mut self, name: &OsStr, route: &Rc<Route>) -> Rc<Vec<PathBuf>> {
        let key = (name.to_owned(), Rc::clone(route));
        if let Some(answer) = self.answers.get(&key) {
            return Rc::clone(answer);
        }
        let answer = Rc::new(self.find(name, route));
        self.answers.insert(key, Rc::clone(&answer));
        answer
    }

    fn find(&mut self, name: &OsStr, route: &Route) -> Vec<PathBuf> {
        let (mut found, target) = (Vec::new(), route.target);
        for directory in &route.first {
            if self.search(directory, name, target, &mut found) {
                return found;
            }
        }
        let defaults = default_directories(target);
        let is_default = |path: &Path| defaults.iter().any(|it| path.parent() == Some(it));
        let mut has_plain = false;
        let cached = match &self.cache {
            Some(cache) => {
                // Each look-up reads the whole cache, so its length counts as places.
                self.places_left = self.places_left.saturating_sub(cache.count() / 64);
                cache.named(name)
            }
            None => Vec::new(),
        };
        for cached in cached {
            let is_hidden = has_plain && !cached.is_special && target.is_some();
            if is_hidden || (route.lacks_defaults && is_default(&cached.path)) {
                continue;
            }
            let at = self.at(cached.path, target);
            has_plain |= !at.is_empty() && !cached.is_special;
            found.extend(at);
        }
        if has_plain || route.lacks_defaults {
            return found;
        }
        for directory in self.last_directories(target, defaults) {
            if self.search(&directory, name, target, &mut found) {
                break;
            }
        }
        found
    }

    /// The directories that come after the cache. musl's loader has a file instead of a cache.
    fn last_directories(&mut self, target: Option<Target>, defaults: Vec<PathBuf>) -> Vec<PathBuf> {
        if self.cache.is_some() {
            return defaults;
        }
        let mut directories = Vec::new();
        for path in musl_files(target) {
            self.look(&path);
            let text = self.text(&path, MOST_TEXT).unwrap_or_default();
            directories.extend(musl_directories(&text));
        }
        match directories.is_empty() {
            true => directories_without_cache(target),
            false => directories,
        }
    }

    /// Searches a directory, and adds what it finds. Returns whether a library is there that every
    /// processor of the target can load.
    fn search(
        &mut self,
        directory: &Path,
        name: &OsStr,
        target: Option<Target>,
        found: &mut Vec<PathBuf>,
    ) -> bool {
        let Some(directory) = self.directory(directory) else {
            return false;
        };
        let special = directory.special.iter().map(|special| special.join(name));
        let special: Vec<PathBuf> = special
            .filter(|path| self.is_usable(path, target))
            .collect();
        found.extend(special);
        let path = directory.path.join(name);
        let is_usable = self.is_usable(&path, target);
        found.extend(is_usable.then_some(path));
        is_usable
    }

    fn directory(&mut self, path: &Path) -> Option<Rc<Searchable>> {
        if let Some(known) = self.directories.get(path) {
            return known.clone();
        }
        self.look(path);
        let searchable = self.searchable(path).map(Rc::new);
        self.directories.insert(path.to_owned(), searchable.clone());
        searchable
    }

    fn searchable(&mut self, path: &Path) -> Option<Searchable> {
        let root = self.walk.root;
        let place = root.place(path, Steps::Any).ok()?;
        let is_plain = !path.iter().any(|name| name == "..");
        let real = || root.real_path(&place);
        let path = match is_plain {
            true => path.to_owned(),
            false => real().unwrap_or_else(|| path.to_owned()),
        };
        let variants = path.join("glibc-hwcaps");
        let mut special = Vec::new();
        if root.target(&variants).is_some() {
            self.look(&variants);
            let names = root.names(&variants, Steps::Any).unwrap_or_default();
            special.extend(names.iter().map(|name| variants.join(name)));
            special.sort();
            special.iter().for_each(|directory| self.look(directory));
        }
        Some(Searchable { path, special })
    }

    /// The library at a given path, without a search: none or one.
    pub(crate) fn at(&mut self, path: PathBuf, target: Option<Target>) -> Vec<PathBuf> {
        match self.is_usable(&path, target) {
            true => vec![path],
            false => {
                self.look(&path);
                Vec::new()
            }
        }
    }

    /// Whether the loader would take the file at a path.
    fn is_usable(&mut self, path: &Path, target: Option<Target>) -> bool {
        self.places_left = self.places_left.saturating_sub(1);
        if self.places_left == 0 {
            return false;
        }
        let is_usable = match self.file(path) {
            File::Missing => return false, // Its directory changes when it appears.
            File::Elf(_, elf) => target.is_none_or(|target| elf.target == target),
            File::Unreadable(_) => true,
            File::Other => false,
        };
        if !is_usable {
            self.look(path);
        }
        is_usable
    }

    /// Records that the look depends on a path.
    fn look(&mut self, path: &Path) {
        if !self.looked.contains_key(path) {
            let identity = identity(self.walk, path);
            self.looked.insert(path.to_owned(), identity);
        }
    }

    pub(crate) fn file(&mut self, path: &Path) -> File {
        if let Some(file) = self.files.get(path) {
            return file.clone();
        }
        // Stat before reading. A file that changes in between will then have another identity.
        let file = match self.walk.entry(path) {
            None => File::Missing,
            Some(entry) if entry.is_unreadable() => File::Unreadable(entry),
            Some(entry) => self.parse(path, entry),
        };
        self.files.insert(path.to_owned(), file.clone());
        file
    }

    pub(crate) fn parse(&mut self, path: &Path, entry: Entry) -> File {
        let kind = match entry.file_type() {
            FileType::Symlink => match self.walk.root.target(path) {
                Some(target) => FileType::from_raw_mode(target.st_mode),
                None => return File::Other,
            },
            kind => kind,
        };
        if kind != FileType::RegularFile {
            return File::Other;
        }
        let read = self.walk.root.read(path, Steps::Any).map_err(Into::into);
        match read.and_then(|file| elf::read(&file)) {
            Ok(Some(elf)) => {
                self.places_left = self.places_left.saturating_sub(elf.needs.len());
                File::Elf(entry, Rc::new(elf))
            }
            Ok(None) => File::Other,
            Err(error) => File::Unreadable(self.note_unreadable(path, &error)),
        }
    }
}

/// The identity of the file at a path, links followed.
pub(crate) fn identity(walk: &mut Walk<'_>, path: &Path) -> Identity {
    match walk.root.place(path, Steps::Any) {
        Ok(place) => match rustix::fs::fstat(&place) {
            Ok(stat) => walk.evidence.identity(&stat, || Some(&place)),
            Err(_) => Identity::Unknown,
        },
        // A file that appears there later has another identity.
        Err(stop) if stop.leads_nowhere() => Identity::Evidence(0),
        Err(_) => Identity::Unknown,
    }
}
