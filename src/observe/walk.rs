//! The walk that finds a profile's inputs in a root directory and looks at them by stat.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

use crate::files::root::{Root, Steps, Stop, for_each_entry, for_each_name, os, stat_at};
use crate::observe::entry::{Content, Entry, Seen};
use crate::observe::evidence::Evidence;
use crate::observe::inputs::{Directory, Observation};
use crate::observe::pattern::{Glob, Source, is_match, is_wild, named_by};
use crate::observe::profile::Profile;

/// Directories below a module directory are walked so far down and no further.
const MOST_LEVELS: usize = 32;

/// Device and inode.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// What is called with a directory, the name that matched in it, and the path of that in the root.
type Each<'a> = dyn FnMut(&mut Walk<'_>, BorrowedFd<'_>, &OsStr, PathBuf) + 'a;

/// Whether to read a directory whose names an older witness knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Search {
    /// Yes: what its names lead to may have changed.
    Always,
    /// Not where the directory is as it was.
    UnlessKnown,
}

/// One walk over a root directory.
pub(crate) struct Walk<'a> {
    root: &'a Root,
    pub(crate) evidence: Evidence,
    /// What was observed before, which spares a search where nothing can have changed.
    older: Option<&'a Observation>,
    pub(crate) searched: Vec<(PathBuf, u64)>,
    /// Directories that were to be searched, and may not be read.
    unreadable: Vec<(PathBuf, Errno)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(root: &'a Root, older: Option<&'a Observation>) -> Walk<'a> {
        Walk {
            root,
            evidence: Evidence::now(),
            older,
            searched: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    pub(crate) fn directories(&mut self, profile: &Profile) -> Vec<Directory> {
        let mut found: Vec<PathBuf> = Vec::new();
        let mut directories = Vec::new();
        for source in &profile.directories {
            match source {
                Source::Glob(glob) => match glob.split() {
                    (path, []) => found.push(path),
                    _ => self.find(glob, Search::Always, &mut |_, _, _, path| found.push(path)),
                },
                Source::Variable(name) => {
                    for path in named_by(name) {
                        match path.is_absolute() {
                            true => found.push(path),
                            // Where this leads depends on the directory that the program runs in.
                            false => directories.push(Directory::unreadable(path, Errno::INVAL)),
                        }
                    }
                }
            }
        }
        // Directories go by their own names rather than by those of links.
        if found.len() > 1 {
            let is_link = |path: &Path| match self.root.stat(path) {
                Ok(Some(stat)) => FileType::from_raw_mode(stat.st_mode).is_symlink(),
                _ => false,
            };
            found.sort_by_cached_key(|path| (is_link(path), path.clone()));
            found.dedup();
        }
        let mut seen = HashMap::new();
        for path in found {
            directories.extend(match self.root.directory(&path) {
                Ok(place) => self.directory(path, &place, &mut seen),
                Err(stop) if stop.is_shut() => None,
                Err(stop) => Some(Directory::unreadable(path, stop.errno())),
            });
        }
        let unreadable = std::mem::take(&mut self.unreadable).into_iter();
        directories.extend(unreadable.map(|(path, errno)| Directory::unreadable(path, errno)));
        directories.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        directories
    }

    /// One module directory; `None` where it is none.
    fn directory(
        &mut self,
        path: PathBuf,
        place: &OwnedFd,
        seen: &mut HashMap<Identity, PathBuf>,
    ) -> Option<Directory> {
        let stat = rustix::fs::fstat(place).ok()?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return None;
        }
        let mut directory = Directory {
            entry: Entry {
                name: path,
                mode: stat.st_mode,
                uid: stat.st_uid,
                gid: stat.st_gid,
                size: 0,
                fingerprint: 0,
                is_evidence: false,
                content: OnceLock::new(),
            },
            own_fingerprint: 0,
            modules: Arc::default(),
        };
        let content = match seen.get(&identity(&stat)) {
            Some(first) => Content::alias(first),
            None => {
                seen.insert(identity(&stat), directory.entry.name.clone());
                let walked = self.fill(&mut directory, place);
                walked.map_or_else(Content::unreadable, |()| Content::Nothing)
            }
        };
        directory.entry.content = OnceLock::from(content);
        Some(directory)
    }

    /// Finds what is in a module directory: in an older witness, where all is as it was, or else by a list.
    fn fill(&mut self, directory: &mut Directory, place: &OwnedFd) -> rustix::io::Result<()> {
        let Entry { mode, uid, gid, .. } = directory.entry;
        let own = crate::observe::evidence::hash_numbers([mode, uid, gid].map(u64::from));
        let path = directory.entry.name.clone();
        let known = self.older.and_then(|older| older.directory(&path));
        if let Some(known) = known.filter(|known| known.entry.is_evidence) {
            let mut look = Look::new(Found::Sum(Some(own)));
            let walked = self.top(&path, place, &mut look);
            if walked.is_ok() && look.found.sum(own) == Some(known.entry.fingerprint) {
                directory.modules = Arc::clone(&known.modules);
                directory.entry.fingerprint = known.entry.fingerprint;
                directory.entry.is_evidence = true;
            }
        }
        if !directory.entry.is_evidence {
            let mut look = Look::new(Found::List(Vec::new()));
            let walked = self.top(&path, place, &mut look);
            let sum = look.found.sum(own).filter(|_| walked.is_ok());
            directory.entry.fingerprint = sum.unwrap_or_default();
            directory.entry.is_evidence = sum.is_some();
            directory.modules = Arc::new(look.found.sorted());
            walked?;
        }
        // After its names: one that came in between must not slip away unseen.
        let stat = rustix::fs::fstat(place)?;
        (directory.own_fingerprint, _) = self.evidence.fingerprint(&stat, || Some(place));
        Ok(())
    }

    /// Looks at all that is in the module directory at `top`.
    fn top(&mut self, top: &Path, place: &OwnedFd, look: &mut Look) -> rustix::io::Result<()> {
        let stat = rustix::fs::fstat(place)?;
        look.walked.insert(identity(&stat), PathBuf::new());
        match rustix::fs::seek(place, SeekFrom::Start(0)) {
            Ok(_) => self.modules(place.as_fd(), top, Path::new(""), look)?,
            // It was only opened as a place.
            Err(_) => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let opened = rustix::fs::openat(place, c".", flags, Mode::empty())?;
                self.modules(opened.as_fd(), top, Path::new(""), look)?;
            }
        }
        // Directories go by their own names, and by those of links only where they are elsewhere.
        while !look.links.is_empty() {
            let mut links = std::mem::take(&mut look.links);
            links.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, seen) in links {
                self.inner(top, &name, seen, look);
            }
        }
        Ok(())
    }

    /// Looks at what is in `directory`, which is at `top/below`, and in the directories below it.
    fn modules(
        &mut self,
        directory: BorrowedFd<'_>,
        top: &Path,
        below: &Path,
        look: &mut Look,
    ) -> rustix::io::Result<()> {
        let mut name = below.as_os_str().as_bytes().to_owned();
        if !name.is_empty() {
            name.push(b'/');
        }
        let prefix = name.len();
        let before = look.found.count();
        let (mut directories, mut links) = (Vec::new(), Vec::new());
        let mut failed = None;
        let read = for_each_name(directory, |file| {
            name.truncate(prefix);
            name.extend_from_slice(file.to_bytes());
            let name = Path::new(OsStr::from_bytes(&name));
            match self.see(directory, file, || top.join(name)) {
                Ok(Some(seen)) => match seen.file_type() {
                    FileType::Directory => directories.push((name.to_owned(), seen)),
                    FileType::Symlink => links.push((name.to_owned(), seen)),
                    _ => look.found.add(name, seen),
                },
                Ok(None) => {} // Gone since its name was read.
                Err(errno) => failed = Some(errno),
            }
        });
        if let Some(errno) = failed.or(read.err()) {
            look.found.forget(before); // Some of them are not all.
            return Err(errno);
        }
        look.links.extend(links);
        // Of the names of one directory, always the same one is walked.
        directories.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (name, seen) in directories {
            self.inner(top, &name, seen, look);
        }
        Ok(())
    }

    /// Looks at a directory or a link at `top/name`, and at all that is below it.
    fn inner(&mut self, top: &Path, name: &Path, mut seen: Seen, look: &mut Look) {
        if let Err(errno) = self.below(top, name, &mut seen, look) {
            seen.make_unreadable(errno);
        }
        look.found.add(name, seen);
    }

    /// Looks at what is in the directory that `seen`, at `top/name`, is or leads to, if it is one and was not walked by
    /// another of its names.
    fn below(
        &mut self,
        top: &Path,
        name: &Path,
        seen: &mut Seen,
        look: &mut Look,
    ) -> rustix::io::Result<()> {
        let path = top.join(name);
        let place = match self.root.place(&path, Steps::Any) {
            Ok(place) => place,
            Err(stop) if stop.leads_nowhere() => return Ok(()),
            Err(stop) => return Err(stop.errno()),
        };
        let stat = rustix::fs::fstat(&place)?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Ok(());
        }
        if let Some(first) = look.walked.get(&identity(&stat)) {
            seen.make_alias(first, self.root, &path);
            return Ok(());
        }
        if name.components().count() > MOST_LEVELS {
            return Err(Errno::LOOP);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&place, c".", flags, Mode::empty())?;
        look.walked.insert(identity(&stat), name.to_owned());
        self.modules(directory.as_fd(), top, name, look)?;
        // A name that came while they were read must not slip away unseen.
        let after = rustix::fs::fstat(&place)?;
        if (after.st_ctime, after.st_ctime_nsec) != (stat.st_ctime, stat.st_ctime_nsec) {
            (seen.fingerprint, _) = self.evidence.fingerprint(&after, || Some(&place));
            seen.is_evidence = false;
        }
        Ok(())
    }

    /// The programs or further files that globs match, sorted.
    pub(crate) fn globs(&mut self, globs: &[Glob]) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        for glob in globs {
            self.find(
                glob,
                Search::UnlessKnown,
                &mut |walk, directory, name, path| {
                    let seen = walk.see(directory, name, || path.clone());
                    entries.extend(named(seen, path));
                },
            );
        }
        let unreadable = std::mem::take(&mut self.unreadable).into_iter();
        let unreadable =
            unreadable.map(|(path, errno)| Entry::unreadable(path, FileType::Directory, errno));
        entries.extend(unreadable);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        entries
    }

    /// Calls `each` for every path that a glob matches, with its directory and its name there. Something may be there or
    /// not. What is below a directory that may not be entered is left out: nothing can be loaded from it either.
    fn find(&mut self, glob: &Glob, how: Search, each: &mut Each<'_>) {
        let (mut path, mut rest) = glob.split();
        if rest.is_empty() {
            // The last component is looked for by name in its directory, however plain it is.
            path.pop();
            rest = &glob.0[glob.0.len().saturating_sub(1)..];
        }
        match self.root.place(&path, Steps::Any) {
            Ok(place) => self.find_below(place.as_fd(), &path, rest, how, each),
            Err(stop) if stop.is_shut() => {}
            Err(stop) => self.unreadable.push((path, stop.errno())),
        }
    }

    fn find_below(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        components: &[glob::Pattern],
        how: Search,
        each: &mut Each<'_>,
    ) {
        let Some((component, rest)) = components.split_first() else {
            return;
        };
        let names = match is_wild(component) {
            true => match self.search(directory, path, component, rest, how) {
                Ok(names) => names,
                Err(Errno::NOENT | Errno::NOTDIR) => return, // Gone since it was found, or none.
                Err(errno) => return self.unreadable.push((path.to_owned(), errno)),
            },
            false => vec![OsString::from(component.as_str())],
        };
        for name in names {
            let path = path.join(&name);
            if rest.is_empty() {
                each(self, directory, &name, path);
                continue;
            }
            match self.directory_at(directory, &name, &path) {
                Ok(child) => self.find_below(child.as_fd(), &path, rest, how, each),
                Err(stop) if stop.is_shut() => {}
                Err(stop) => self.unreadable.push((path, stop.errno())),
            }
        }
    }

    /// The directory that `name` is, or leads to. `path` is where it is in the root.
    fn directory_at(
        &self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<OwnedFd, Stop> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            // A link, or no directory.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let place = self.root.place(path, Steps::Any)?;
                let stat = rustix::fs::fstat(&place)?;
                match FileType::from_raw_mode(stat.st_mode).is_dir() {
                    true => Ok(place),
                    false => Err(Errno::NOTDIR.into()),
                }
            }
            opened => Ok(opened?),
        }
    }

    /// The names in a directory that match and may lead on.
    fn search(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        component: &glob::Pattern,
        rest: &[glob::Pattern],
        how: Search,
    ) -> rustix::io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(directory, c".", flags, Mode::empty())?;
        if rest.is_empty() && how == Search::UnlessKnown {
            let stat = rustix::fs::fstat(&opened)?;
            let place = || Some(opened.as_fd());
            if let (fingerprint, true) = self.evidence.fingerprint(&stat, place) {
                let searched = (path.join(component.as_str()), fingerprint);
                if let Some(older) = self
                    .older
                    .filter(|older| older.searched.contains(&searched))
                {
                    let known = older
                        .programs
                        .iter()
                        .chain(&older.files)
                        .map(|entry| &entry.name);
                    let known = known.filter(|known| known.parent() == Some(path));
                    let known = known.filter_map(|known| known.file_name());
                    names.extend(
                        known
                            .filter(|name| is_match(component, name))
                            .map(OsStr::to_owned),
                    );
                    self.searched.push(searched);
                    return Ok(names);
                }
                self.searched.push(searched);
            }
        }
        for_each_entry(opened.as_fd(), |name, kind| {
            let name = os(name);
            if is_match(component, name) && self.leads_on(opened.as_fd(), name, kind, rest) {
                names.push(name.to_owned());
            }
        })
        .inspect_err(|_| {
            // Perhaps not all of them: the next search must not rely on this one.
            let is_here = |(pattern, _): &(PathBuf, u64)| pattern.parent() == Some(path);
            self.searched.retain(|searched| !is_here(searched));
        })?;
        Ok(names)
    }

    /// Whether a glob can go on below `name`. Tells most of those apart that do not, at the cost of one system call.
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
            // What is, or may be, a link the kernel follows rightly in the system's own root alone.
            kind if kind != FileType::Directory && !self.root.is_system() => true,
            _ => {
                let next = Path::new(name).join(next.as_str());
                let seen = stat_at(directory, next.as_os_str());
                !matches!(seen, Ok(None) | Err(Errno::NOTDIR))
            }
        }
    }

    /// The program or further file at an absolute path.
    pub(crate) fn entry(&mut self, path: &Path) -> Option<Entry> {
        let parent = self.root.place(path.parent()?, Steps::Any).ok()?;
        let seen = self.see(parent.as_fd(), path.file_name()?, || path.to_owned());
        named(seen, path.to_owned())
    }

    /// `name` in `directory`; a link together with what it leads to. `path` is where it is in the root.
    fn see(
        &mut self,
        directory: BorrowedFd<'_>,
        name: impl rustix::path::Arg + Copy,
        path: impl FnOnce() -> PathBuf,
    ) -> rustix::io::Result<Option<Seen>> {
        let Some(stat) = stat_at(directory, name)? else {
            return Ok(None);
        };
        let is_link = FileType::from_raw_mode(stat.st_mode).is_symlink();
        let (fingerprint, is_evidence) = match is_link {
            true => self.link(directory, &stat, &path()),
            false => {
                // On an overlay, files are on another device than their directory.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let place = || rustix::fs::openat(directory, name, flags, Mode::empty()).ok();
                self.evidence.fingerprint(&stat, place)
            }
        };
        Ok(Some(Seen {
            stat,
            fingerprint,
            is_evidence,
            content: None,
        }))
    }

    /// The fingerprint of a link and what it leads to, as [`Evidence::fingerprint`].
    fn link(&mut self, directory: BorrowedFd<'_>, stat: &Stat, path: &Path) -> (u64, bool) {
        let (link, link_is_evidence) = self.evidence.fingerprint(stat, || Some(directory));
        let (led_to, led_to_is_evidence) = match self.root.place(path, Steps::Any) {
            Ok(target) => match rustix::fs::fstat(&target) {
                Ok(stat) => self.evidence.fingerprint(&stat, || Some(&target)),
                Err(_) => (0, false),
            },
            // Should it come to lead somewhere, that has a fingerprint.
            Err(stop) => (0, stop.leads_nowhere()),
        };
        let both = crate::observe::evidence::hash_numbers([link, led_to]);
        (both, link_is_evidence && led_to_is_evidence)
    }
}

/// A look at all that is in a module directory.
struct Look {
    /// Directories below it that were walked, with the names that they were walked by.
    walked: HashMap<Identity, PathBuf>,
    /// Links that were seen and not followed yet.
    links: Vec<(PathBuf, Seen)>,
    found: Found,
}

impl Look {
    fn new(found: Found) -> Look {
        Look {
            walked: HashMap::new(),
            links: Vec::new(),
            found,
        }
    }
}

/// What comes of a look.
enum Found {
    /// To tell by one number whether all is as an older witness has it; `None` once something seen is no evidence.
    Sum(Option<u64>),
    /// To know all that there is.
    List(Vec<Entry>),
}

impl Found {
    fn add(&mut self, name: &Path, seen: Seen) {
        match self {
            Found::Sum(sum) => {
                let so_far = sum.filter(|_| seen.is_evidence);
                *sum = so_far.map(|sum| add(sum, name, seen.fingerprint));
            }
            Found::List(entries) => entries.push(seen.entry(name.to_owned())),
        }
    }

    fn count(&self) -> usize {
        match self {
            Found::Sum(_) => 0,
            Found::List(entries) => entries.len(),
        }
    }

    /// All but the first so many.
    fn forget(&mut self, count: usize) {
        match self {
            Found::Sum(sum) => *sum = None,
            Found::List(entries) => entries.truncate(count),
        }
    }

    /// All that there is, by name.
    fn sorted(self) -> Vec<Entry> {
        match self {
            Found::Sum(_) => Vec::new(),
            Found::List(mut entries) => {
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                entries
            }
        }
    }

    /// The sum of the fingerprints of all that was seen, each with its name, and of the directory's `own`. Added up they are
    /// the same in whatever order the file system gives the names. `None` where something is no evidence.
    fn sum(&self, own: u64) -> Option<u64> {
        match self {
            Found::Sum(sum) => *sum,
            Found::List(entries) => entries.iter().try_fold(own, |sum, entry| {
                entry
                    .is_evidence
                    .then(|| add(sum, &entry.name, entry.fingerprint))
            }),
        }
    }
}

fn add(sum: u64, name: &Path, fingerprint: u64) -> u64 {
    sum.wrapping_add(crate::observe::evidence::hash(
        fingerprint,
        name.as_os_str().as_bytes(),
    ))
}

/// What was seen at an absolute path; what cannot be looked at is there, and not known.
fn named(seen: rustix::io::Result<Option<Seen>>, path: PathBuf) -> Option<Entry> {
    match seen {
        Ok(seen) => seen.map(|seen| seen.entry(path)),
        Err(errno) => Some(Entry::unreadable(path, FileType::RegularFile, errno)),
    }
}

impl Directory {
    fn unreadable(path: PathBuf, errno: Errno) -> Directory {
        Directory {
            entry: Entry::unreadable(path, FileType::Directory, errno),
            own_fingerprint: 0,
            modules: Arc::default(),
        }
    }
}
