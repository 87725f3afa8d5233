//! The search for the files of a cache, by descriptor.
//!
//! Only root and the caller can direct it. Links on the way to the first wildcard must be root's or
//! the caller's. Below that, it follows no link. So no other user can redirect it or make it wait.
//!
//! In a directory such as `/tmp`, everybody may make something by the name of a cache. The search
//! leaves another user's alone, and it is no error.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};
use rustix::io::Errno;

use crate::files::directory::{PLACE, for_each_name, open_for_reading, os, stat_at};
use crate::files::root::Root;
use crate::files::shared::stranger;
use crate::files::trust::why_bendable;
use crate::files::way::{Steps, Stop};
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::observe::pattern::{Glob, is_match, is_wild};

/// A file that a glob matches.
pub(crate) struct FoundFile {
    pub(crate) directory: Arc<OwnedFd>,
    name: OsString,
    /// In the root directory.
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
}

/// What a search found.
#[derive(Default)]
pub(crate) struct Found {
    /// Sorted by path.
    pub(crate) files: Vec<FoundFile>,
    /// The errors about steps that were refused or could not be read.
    pub(crate) errors: Vec<Error>,
    /// What others made in directories where everybody may.
    pub(crate) theirs: Vec<Theirs>,
}

/// Something that another user made in a directory where everybody may.
#[derive(Debug)]
pub(crate) struct Theirs {
    /// As seen from outside the root.
    pub(crate) path: PathBuf,
    pub(crate) owner: u32,
}

impl fmt::Display for Theirs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, owner) = (Printable(self.path.as_os_str()), self.owner);
        write!(
            f,
            "{path} belongs to user {owner}, and is no cache of yours"
        )
    }
}

/// One name of the path below the top.
enum Step<'a> {
    Name(&'a OsStr),
    Pattern(&'a glob::Pattern),
}

impl Found {
    /// Searches the files that `globs` match in `root`. A missing file or directory is no error.
    pub(crate) fn search(root: &Root, globs: &[Glob]) -> Found {
        let mut search = Search {
            root,
            found: Found::default(),
        };
        globs.iter().for_each(|glob| search.add(glob));
        let mut found = search.found;
        found.files.sort_by(|a, b| a.path.cmp(&b.path));
        found.files.dedup_by(|a, b| a.path == b.path);
        found.theirs.sort_by(|a, b| a.path.cmp(&b.path));
        found.theirs.dedup_by(|a, b| a.path == b.path);
        found
    }

    /// One sentence about all that others made; `None` if there is nothing.
    pub(crate) fn about_theirs(&self) -> Option<String> {
        let first = self.theirs.first()?;
        Some(match self.theirs.len() - 1 {
            0 => first.to_string(),
            more => format!("{first}; there are {more} more such files"),
        })
    }
}

struct Search<'a> {
    root: &'a Root,
    found: Found,
}

impl Search<'_> {
    fn add(&mut self, glob: &Glob) {
        let mut steps: Vec<Step> = glob.names.iter().map(Step::of).collect();
        let mut top = glob.plain.as_path();
        if steps.is_empty() {
            let (Some(parent), Some(name)) = (top.parent(), top.file_name()) else {
                return; // The root directory itself is no cache.
            };
            (top, steps) = (parent, vec![Step::Name(name)]);
        }
        match self.open_top(top) {
            Ok(Some(place)) => self.add_below(Arc::new(place), top, &steps),
            Ok(None) => {}
            Err(stop) if stop.is_missing() => {}
            Err(stop) => {
                let remedy = "make its directory one that you can read";
                let path = self.root.outside(top);
                let error = stop.into_error("look for the cache in", path, remedy);
                self.found.errors.push(error);
            }
        }
    }

    /// Opens the directory at `top`. `None` if a step is no directory, or if another user made one
    /// in a directory where everybody may.
    fn open_top(&mut self, top: &Path) -> Result<Option<OwnedFd>, Stop> {
        let mut path = PathBuf::from("/");
        let mut here = self.root.place(&path, Steps::Trusted)?;
        for name in top.strip_prefix("/").unwrap_or(top) {
            path.push(name);
            let step = rustix::fs::openat(&here, name, PLACE, Mode::empty())?;
            if let Some(owner) = stranger(here.as_fd(), step.as_fd())? {
                let path = self.root.outside(&path);
                self.found.theirs.push(Theirs { path, owner });
                return Ok(None);
            }
            let kind = FileType::from_raw_mode(fstat(&step)?.st_mode);
            if !kind.is_dir() && !kind.is_symlink() {
                return Ok(None);
            }
            here = self.root.place(&path, Steps::Trusted)?;
        }
        Ok(Some(here))
    }

    fn add_below(&mut self, directory: Arc<OwnedFd>, path: &Path, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first() else {
            return;
        };
        let names = match step {
            Step::Name(name) => vec![OsString::from(name)],
            Step::Pattern(pattern) => match matching(&directory, pattern) {
                Ok(names) => names,
                Err(errno) => return self.give_up(path, errno),
            },
        };
        for name in names {
            let path = path.join(&name);
            match stranger_at(&directory, &name) {
                Ok(None) => {}
                Ok(Some(owner)) => {
                    let path = self.root.outside(&path);
                    self.found.theirs.push(Theirs { path, owner });
                    continue;
                }
                Err(errno) => {
                    self.give_up(&path, errno);
                    continue;
                }
            }
            let entered = match rest.is_empty() {
                true => self.add_file(&directory, name, &path),
                false => self.enter(&directory, step, &name, &path).map(|below| {
                    if let Some(below) = below {
                        self.add_below(Arc::new(below), &path, rest);
                    }
                }),
            };
            if let Err(errno) = entered {
                self.give_up(&path, errno);
            }
        }
    }

    fn add_file(
        &mut self,
        directory: &Arc<OwnedFd>,
        name: OsString,
        path: &Path,
    ) -> rustix::io::Result<()> {
        if let Some(stat) = stat_at(directory, name.as_os_str())? {
            self.found.files.push(FoundFile {
                directory: Arc::clone(directory),
                name,
                path: path.to_owned(),
                stat,
            });
        }
        Ok(())
    }

    /// Opens the next directory. `None` if it is missing or no directory, or if it is refused.
    fn enter(
        &mut self,
        directory: &OwnedFd,
        step: &Step,
        name: &OsStr,
        path: &Path,
    ) -> rustix::io::Result<Option<OwnedFd>> {
        let flags = PLACE | OFlags::DIRECTORY;
        let below = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
            Ok(below) => below,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let stat = stat_at(directory, name)?;
                let is_link =
                    stat.is_some_and(|it| FileType::from_raw_mode(it.st_mode).is_symlink());
                // A pattern may match a link by chance, so a link is skipped. A plain name was
                // meant, so a link is reported.
                if is_link && matches!(step, Step::Name(_)) {
                    self.refuse(path, "is a symbolic link below a pattern".to_owned());
                }
                return Ok(None);
            }
            Err(errno) => return Err(errno),
        };
        match why_bendable(below.as_fd(), &fstat(&below)?) {
            None => Ok(Some(below)),
            Some(problem) => {
                self.refuse(path, problem);
                Ok(None)
            }
        }
    }

    fn refuse(&mut self, path: &Path, problem: String) {
        let path = self.root.outside(path);
        self.found.errors.push(Error::Untrusted {
            attempt: "look for the cache in",
            culprit: path.clone(),
            path,
            problem,
        });
    }

    fn give_up(&mut self, path: &Path, errno: Errno) {
        let (path, remedy) = (self.root.outside(path), "make it readable for its owner");
        let error = Error::system("look for the cache in", path, errno, remedy);
        self.found.errors.push(error);
    }
}

impl<'a> Step<'a> {
    fn of(pattern: &'a glob::Pattern) -> Step<'a> {
        match is_wild(pattern) {
            true => Step::Pattern(pattern),
            false => Step::Name(OsStr::new(pattern.as_str())),
        }
    }
}

/// The other user who made the file `name` in a directory where everybody may.
fn stranger_at(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<Option<u32>> {
    match rustix::fs::openat(directory, name, PLACE, Mode::empty()) {
        Ok(place) => stranger(directory.as_fd(), place.as_fd()),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The names in a directory that a pattern matches.
fn matching(directory: &OwnedFd, pattern: &glob::Pattern) -> rustix::io::Result<Vec<OsString>> {
    let opened = open_for_reading(directory)?;
    let mut names = Vec::new();
    for_each_name(opened.as_fd(), |name| {
        if is_match(pattern, os(name)) {
            names.push(os(name).to_owned());
        }
    })?;
    Ok(names)
}

impl FoundFile {
    /// Removes the file. Returns whether it was there.
    ///
    /// # Errors
    /// If it is not a regular file of the caller's own, or if the system refuses.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        let kind = FileType::from_raw_mode(self.stat.st_mode);
        if !kind.is_file() {
            return Err(io::Error::other(match kind {
                FileType::Symlink => "it is a symbolic link",
                FileType::Directory => "it is a directory",
                _ => "it is not a regular file",
            }));
        }
        if self.stat.st_uid != rustix::process::geteuid().as_raw() {
            let owner = self.stat.st_uid;
            return Err(io::Error::other(format!("it belongs to user {owner}")));
        }
        match rustix::fs::unlinkat(&self.directory, &self.name, rustix::fs::AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}
