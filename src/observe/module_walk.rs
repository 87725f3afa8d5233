//! One walk through a module directory, which sees all entries at any depth.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::files::directory::open_for_reading;
use crate::files::way::Steps;
use crate::observe::content::{
    Content, MOST_ENTRIES, MOST_LEVELS, NOT_STORED, TOO_DEEP, TOO_MANY, digest_of_name,
};
use crate::observe::entry::Entry;
use crate::observe::evidence::Identity;
use crate::observe::exclude::Exclude;
use crate::observe::found::Found;
use crate::observe::listing::{Files, Listing};
use crate::observe::reader::content_of_link_alias;
use crate::observe::walk::{Inode, Walk, inode};

/// One walk through a module directory.
pub(crate) struct ModuleWalk<'w, 'a> {
    walk: &'w mut Walk<'a>,
    /// The module directory.
    top: &'w Path,
    /// The files that do not count in the module directory.
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
    /// The name leads to no directory, or to one that was walked just now.
    Done,
    /// The name leads to a directory that was walked before, by this other name.
    Alias(PathBuf),
    /// The name leads to a directory whose names changed while they were read. The identity is the
    /// directory's after that.
    Changed(Identity),
}

impl<'w, 'a> ModuleWalk<'w, 'a> {
    pub(crate) fn new(
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

    /// Walks through the directory `place`, which has that `stat`.
    pub(crate) fn run(mut self, place: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<Found> {
        if self.walk.evidence.is_state(stat, place) {
            return Err(NOT_STORED);
        }
        self.walked.insert(inode(stat), PathBuf::new());
        self.directory(place, Path::new(""))?;
        // Links come last: a directory is walked by a link's name only if it lies elsewhere.
        while !self.links.is_empty() {
            let mut links = std::mem::take(&mut self.links);
            links.sort_by(|a, b| a.name.cmp(&b.name));
            links
                .into_iter()
                .for_each(|link| self.add_with_all_below(link));
        }
        // A part of a module directory must not pass for the whole.
        match self.seen > MOST_ENTRIES {
            true => Err(TOO_MANY),
            false => Ok(self.found),
        }
    }

    /// Adds all that is in `directory`, at `below` in the module directory.
    fn directory(&mut self, directory: BorrowedFd<'_>, below: &Path) -> rustix::io::Result<()> {
        let listing = Listing {
            directory,
            top: self.top,
            below,
            exclude: self.exclude,
        };
        let files = Files::none(self.found.empty());
        // A partial list must not pass for a whole one.
        let files = listing.look(self.walk, files, &mut self.seen)?;
        self.found.append(files.found);
        self.links.extend(files.links);
        let mut directories = files.directories;
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
        // A name that came while the names were read must not go unseen.
        let after = rustix::fs::fstat(&place)?;
        if (after.st_ctime, after.st_ctime_nsec) == (stat.st_ctime, stat.st_ctime_nsec) {
            return Ok(Below::Done);
        }
        let identity = self.walk.evidence.identity(&after, || Some(&place));
        Ok(Below::Changed(identity.merely_seen()))
    }

    /// An entry for another name of a directory that was walked by the name `first`.
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
