//! The walk that finds a profile's inputs in a root directory and looks at them by stat.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::entry::{Content, Entry, see};
use crate::evidence::Evidence;
use crate::inputs::{Directory, Observed};
use crate::profile::{Glob, Source};
use crate::root::{Steps, for_each_entry, for_each_name, is_match, stat_at};
use crate::{Profile, Root};

/// Directories below a module directory are walked so far down and no further.
const MOST_LEVELS: usize = 32;

/// One walk over a root directory.
pub(crate) struct Walk<'a> {
    root: &'a Root,
    evidence: Evidence,
    /// What was observed before, which spares a search where nothing can have changed.
    older: Option<&'a Observed>,
    pub(crate) searched: Vec<(PathBuf, u64)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(root: &'a Root, older: Option<&'a Observed>) -> Walk<'a> {
        Walk {
            root,
            evidence: Evidence::now(),
            older,
            searched: Vec::new(),
        }
    }

    pub(crate) fn directories(&mut self, profile: &Profile) -> Vec<Directory> {
        let mut paths = Vec::new();
        for source in &profile.directories {
            match source {
                Source::Glob(glob) => self.find(glob, &mut paths),
                Source::Variable(name) => {
                    let value = std::env::var_os(name).filter(|value| !value.is_empty());
                    paths.extend(value.map(PathBuf::from));
                }
            }
        }
        paths.sort();
        paths.dedup();
        let mut seen = Vec::new();
        let mut directories = Vec::new();
        for path in paths {
            directories.extend(self.directory(path, &mut seen));
        }
        directories
    }

    /// One module directory; `None` where there is none, or where it was seen by another of its names.
    fn directory(&mut self, path: PathBuf, seen: &mut Vec<(u64, u64)>) -> Option<Directory> {
        if !path.is_absolute() {
            // From an environment variable. Where it leads depends on the directory that the program runs in.
            return Some(Directory::unreadable(path, Errno::INVAL));
        }
        let place = self.root.place(&path, Steps::Any).ok()?;
        let stat = rustix::fs::fstat(&place).ok()?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return None;
        }
        let identity = (stat.st_dev, stat.st_ino);
        if seen.contains(&identity) {
            return None;
        }
        seen.push(identity);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&place, c".", flags, Mode::empty());
        let mut modules = Vec::new();
        let walked = opened.and_then(|fd| {
            let mut ancestors = vec![identity];
            self.modules(&fd, &path, Path::new(""), &mut ancestors, &mut modules)
        });
        if let Err(errno) = walked {
            return Some(Directory::unreadable(path, errno));
        }
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Directory {
            entry: Entry {
                name: path,
                mode: stat.st_mode,
                uid: stat.st_uid,
                gid: stat.st_gid,
                size: 0,
                fingerprint: 0,
                is_evidence: false,
                content: OnceLock::from(Content::Nothing),
            },
            modules,
        })
    }

    /// Adds what is in `directory`, which is at `top/below`, and in the directories below it.
    fn modules(
        &mut self,
        directory: &OwnedFd,
        top: &Path,
        below: &Path,
        ancestors: &mut Vec<(u64, u64)>,
        modules: &mut Vec<Entry>,
    ) -> rustix::io::Result<()> {
        let first = modules.len();
        let mut failed = None;
        for_each_name(directory.as_fd(), |name| {
            let parent = directory.as_fd();
            match self.see(parent, name, || top.join(below).join(name)) {
                Ok(Some(entry)) => modules.push(entry),
                Ok(None) => {} // Gone since its name was read.
                Err(errno) => failed = Some(errno),
            }
        })?;
        if let Some(errno) = failed {
            return Err(errno);
        }
        for index in first..modules.len() {
            let name = below.join(&modules[index].name);
            modules[index].name.clone_from(&name);
            if modules[index].file_type().is_dir() || modules[index].file_type().is_symlink() {
                if let Some(errno) = self.below(top, &name, ancestors, modules).err() {
                    modules[index].content =
                        OnceLock::from(Content::Unreadable(errno.raw_os_error()));
                    modules[index].is_evidence = false;
                }
            }
        }
        Ok(())
    }

    /// Adds what is in the directory at `top/name`, if it is one and none that it lies in itself.
    fn below(
        &mut self,
        top: &Path,
        name: &Path,
        ancestors: &mut Vec<(u64, u64)>,
        modules: &mut Vec<Entry>,
    ) -> rustix::io::Result<()> {
        let Ok(place) = self.root.place(&top.join(name), Steps::Any) else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&place)?;
        let identity = (stat.st_dev, stat.st_ino);
        if !FileType::from_raw_mode(stat.st_mode).is_dir() || ancestors.contains(&identity) {
            return Ok(());
        }
        if ancestors.len() > MOST_LEVELS {
            return Err(Errno::LOOP);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&place, c".", flags, Mode::empty())?;
        ancestors.push(identity);
        let result = self.modules(&directory, top, name, ancestors, modules);
        ancestors.pop();
        result
    }

    pub(crate) fn globs(&mut self, globs: &[Glob]) -> Vec<Entry> {
        let mut paths = Vec::new();
        for glob in globs {
            self.find(glob, &mut paths);
        }
        paths.sort();
        paths.dedup();
        paths.iter().filter_map(|path| self.entry(path)).collect()
    }

    /// Adds every path that a glob matches. What cannot be read is left out: nothing can be loaded from it either.
    fn find(&mut self, glob: &Glob, found: &mut Vec<PathBuf>) {
        if let Ok(top) = self.root.place(Path::new("/"), Steps::Any) {
            self.find_below(top.as_fd(), Path::new("/"), &glob.0, found);
        }
    }

    fn find_below(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        components: &[glob::Pattern],
        found: &mut Vec<PathBuf>,
    ) {
        let Some((component, rest)) = components.split_first() else {
            found.push(path.to_owned());
            return;
        };
        if !component.as_str().contains(['*', '?', '[']) {
            return self.find_in(directory, OsStr::new(component.as_str()), path, rest, found);
        }
        let names = self.search(directory, path, component, rest);
        let before = found.len();
        for name in &names {
            self.find_in(directory, name, path, rest, found);
        }
        if rest.is_empty() && found.len() - before < names.len() {
            // A link that leads nowhere may lead somewhere later, while the directory stays as it is.
            self.searched.retain(|(searched, _)| searched != path);
        }
    }

    fn find_in(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        rest: &[glob::Pattern],
        found: &mut Vec<PathBuf>,
    ) {
        let path = path.join(name);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Mostly a plain directory. A link, or what is none, takes the long way.
        let child =
            rustix::fs::openat(directory, name, flags, Mode::empty()).or_else(
                |errno| match errno {
                    Errno::NOTDIR | Errno::LOOP => {
                        self.root.place(&path, Steps::Any).map_err(|_| errno)
                    }
                    _ => Err(errno),
                },
            );
        if let Ok(child) = child {
            self.find_below(child.as_fd(), &path, rest, found);
        }
    }

    /// The names in a directory that match and may lead on.
    fn search(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        component: &glob::Pattern,
        rest: &[glob::Pattern],
    ) -> Vec<OsString> {
        let mut names = Vec::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(opened) = rustix::fs::openat(directory, c".", flags, Mode::empty()) else {
            return names;
        };
        if rest.is_empty() {
            let Ok(stat) = rustix::fs::fstat(&opened) else {
                return names;
            };
            let place = || Some(opened.as_fd());
            if let (fingerprint, true) = self.evidence.fingerprint(&stat, place) {
                let searched = (path.to_owned(), fingerprint);
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
                    return names;
                }
                self.searched.push(searched);
            }
        }
        let _ = for_each_entry(opened.as_fd(), |name, kind| {
            if is_match(component, name) && leads_on(opened.as_fd(), name, kind, rest) {
                names.push(name.to_owned());
            }
        });
        names
    }

    /// The program or further file at an absolute path.
    pub(crate) fn entry(&mut self, path: &Path) -> Option<Entry> {
        let parent = self.root.place(path.parent()?, Steps::Any).ok()?;
        let entry = self.see(parent.as_fd(), path.file_name()?, || path.to_owned());
        let mut entry = entry.ok()??;
        entry.name = path.to_owned();
        Some(entry)
    }

    /// `name` in `directory`; a link together with what it leads to.
    fn see(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: impl FnOnce() -> PathBuf,
    ) -> rustix::io::Result<Option<Entry>> {
        let Walk { root, evidence, .. } = self;
        see(directory, name, |stat| {
            let of = |evidence: &mut Evidence, stat: &Stat, place: &OwnedFd| {
                evidence.fingerprint(stat, || Some(place.as_fd()))
            };
            if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                // On an overlay, files are on another device than their directory.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut place = None;
                return evidence.fingerprint(stat, || {
                    place = rustix::fs::openat(directory, name, flags, Mode::empty()).ok();
                    place.as_ref().map(AsFd::as_fd)
                });
            }
            let (link, link_is_evidence) = evidence.fingerprint(stat, || Some(directory));
            let Ok(target) = root.place(&path(), Steps::Any) else {
                return (link, false);
            };
            let Ok(stat) = rustix::fs::fstat(&target) else {
                return (link, false);
            };
            let (target, target_is_evidence) = of(evidence, &stat, &target);
            let both = crate::evidence::hash([link, target]);
            (both, link_is_evidence && target_is_evidence)
        })
    }
}

/// Whether a glob can go on below `name`. Tells most of those apart that do not, at the cost of one system call.
fn leads_on(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    rest: &[glob::Pattern],
) -> bool {
    match (kind, rest.first()) {
        (FileType::RegularFile, Some(_)) => false,
        (FileType::Directory, Some(next)) if !next.as_str().contains(['*', '?', '[']) => {
            let next = Path::new(name).join(next.as_str());
            !matches!(stat_at(directory, next.as_os_str()), Ok(None))
        }
        _ => true,
    }
}

impl Directory {
    fn unreadable(path: PathBuf, errno: Errno) -> Directory {
        Directory {
            entry: Entry {
                name: path,
                mode: FileType::Directory.as_raw_mode(),
                uid: 0,
                gid: 0,
                size: 0,
                fingerprint: 0,
                is_evidence: false,
                content: OnceLock::from(Content::Unreadable(errno.raw_os_error())),
            },
            modules: Vec::new(),
        }
    }
}
