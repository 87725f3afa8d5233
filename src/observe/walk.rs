//! A walk: how one look finds its way through a root directory, and stats what it finds.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, Stat};

use crate::files::directory::{PLACE, stat_at};
use crate::files::root::Root;
use crate::files::way::Steps;
use crate::observe::entry::Entry;
use crate::observe::evidence::{Evidence, Identity};
use crate::observe::observation::Observation;

/// Device and inode.
pub(crate) type Inode = (u64, u64);

pub(crate) fn inode(stat: &Stat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

/// One walk over a root directory.
pub(crate) struct Walk<'a> {
    pub(crate) root: &'a Root,
    pub(crate) evidence: Evidence,
    /// An earlier observation. It spares reading the names of directories that are unchanged.
    pub(crate) older: Option<&'a Observation>,
    /// Paths that the caller may not enter. Nothing can be loaded from there by the caller.
    pub(crate) shut: Vec<PathBuf>,
    /// What the walk depends on; `None` if nobody asks.
    pub(crate) noted: Option<BTreeSet<Note>>,
}

/// A path that a walk depends on, in the root directory. It may go through links.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    /// What is at the path.
    Path(PathBuf),
    /// Every name in the directory at the path, too.
    Names(PathBuf),
}

impl<'a> Walk<'a> {
    pub(crate) fn new(root: &'a Root, older: Option<&'a Observation>) -> Walk<'a> {
        Walk {
            root,
            evidence: Evidence::now(),
            older,
            shut: Vec::new(),
            noted: None,
        }
    }

    /// A walk for a part of this one, in another thread.
    pub(crate) fn part(&self) -> Walk<'a> {
        Walk {
            root: self.root,
            evidence: self.evidence.clone(),
            older: self.older,
            shut: Vec::new(),
            noted: self.noted.as_ref().map(|_| BTreeSet::new()),
        }
    }

    /// Adds all that a part of this walk saw.
    pub(crate) fn join(&mut self, part: Walk<'a>) {
        self.evidence.join(part.evidence);
        self.shut.extend(part.shut);
        if let (Some(noted), Some(more)) = (&mut self.noted, part.noted) {
            noted.extend(more);
        }
    }

    /// Notes that the walk depends on what is at a path.
    pub(crate) fn note(&mut self, path: &Path) {
        if let Some(noted) = &mut self.noted {
            noted.insert(Note::Path(path.to_owned()));
        }
    }

    /// Notes that the walk depends on every name in a directory.
    pub(crate) fn note_names(&mut self, directory: &Path) {
        if let Some(noted) = &mut self.noted {
            noted.insert(Note::Names(directory.to_owned()));
        }
    }

    /// The program or further file at an absolute path. `None` if there is none.
    pub(crate) fn entry(&mut self, path: &Path) -> Option<Entry> {
        self.note(path);
        let parent = self.root.place(path.parent()?, Steps::Any).ok()?;
        self.entry_in(parent.as_fd(), path.file_name()?, path.to_owned())
    }

    /// The entry that `name` is in `directory`, at `path` in the root. `None` if there is none.
    pub(crate) fn entry_in(
        &mut self,
        directory: BorrowedFd<'_>,
        name: impl rustix::path::Arg + Copy,
        path: PathBuf,
    ) -> Option<Entry> {
        match self.stat(directory, name, || path.clone()) {
            Ok(found) => found.map(|(stat, identity)| Entry::new(path, &stat, identity)),
            Err(errno) => Some(Entry::unreadable(path, FileType::RegularFile, errno)),
        }
    }

    /// Stats `name` in `directory`. Its identity is that of a link together with its target.
    ///
    /// `path` gives its place in the root, which only a link needs. `None` if there is no file.
    #[inline] // A look calls it once for each file.
    pub(crate) fn stat(
        &mut self,
        directory: BorrowedFd<'_>,
        name: impl rustix::path::Arg + Copy,
        path: impl FnOnce() -> PathBuf,
    ) -> rustix::io::Result<Option<(Stat, Identity)>> {
        let Some(stat) = stat_at(directory, name)? else {
            return Ok(None);
        };
        let identity = match FileType::from_raw_mode(stat.st_mode).is_symlink() {
            true => self.link_identity(directory, &stat, &path()),
            false => {
                // On an overlay, files are on another device than their directory.
                let place = || rustix::fs::openat(directory, name, PLACE, Mode::empty()).ok();
                self.evidence.identity(&stat, place)
            }
        };
        Ok(Some((stat, identity)))
    }

    #[inline(never)] // Rare.
    fn link_identity(&mut self, directory: BorrowedFd<'_>, stat: &Stat, path: &Path) -> Identity {
        let link = self.evidence.identity(stat, || Some(directory));
        let target = match self.root.place(path, Steps::Any) {
            Ok(target) => match rustix::fs::fstat(&target) {
                Ok(stat) => self.evidence.identity(&stat, || Some(&target)),
                Err(_) => Identity::Unknown,
            },
            // A target that appears later has an identity of its own.
            Err(stop) if stop.leads_nowhere() => Identity::Evidence(0),
            Err(_) => Identity::Unknown,
        };
        link.and(target)
    }
}
