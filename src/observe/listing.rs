//! The look at the files in one directory. Two threads look at a large directory.

use std::ffi::{CStr, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, scope};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::directory::{NAMES_BUFFER, Names, Step};
use crate::observe::content::{MOST_ENTRIES, TOO_MANY};
use crate::observe::entry::Entry;
use crate::observe::exclude::Exclude;
use crate::observe::found::Found;
use crate::observe::helper;
use crate::observe::walk::Walk;

/// In a directory with more names than this, a helper looks at a part of the files. A look at this
/// many files takes some milliseconds.
const MANY: usize = 4096;

/// The size in bytes of the names that a helper gets at once.
const BATCH: usize = 16 << 10;

/// The look at the files in one directory.
#[derive(Clone, Copy)]
pub(crate) struct Listing<'l> {
    pub(crate) directory: BorrowedFd<'l>,
    /// The module directory.
    pub(crate) top: &'l Path,
    /// The path of `directory` below `top`.
    pub(crate) below: &'l Path,
    /// The files that do not count in the module directory.
    pub(crate) exclude: &'l [&'l Exclude],
}

/// The files that a look found in one directory.
pub(crate) struct Files {
    /// All files but directories and links.
    pub(crate) found: Found,
    pub(crate) directories: Vec<Entry>,
    pub(crate) links: Vec<Entry>,
    /// The error because of which there may be more files.
    failed: Option<Errno>,
}

/// The files of a directory that one thread looks at.
struct Share<'s, 'a> {
    listing: Listing<'s>,
    walk: &'s mut Walk<'a>,
    files: Files,
    /// The path of a file below `top`. The first `prefix` bytes are those of its directory.
    path: Vec<u8>,
    prefix: usize,
}

impl<'l> Listing<'l> {
    /// Looks at each file in the directory. `seen` counts the files.
    #[inline(never)] // Its buffer would lie on the stack once for each level of directories.
    pub(crate) fn look<'a>(
        self,
        walk: &mut Walk<'a>,
        files: Files,
        seen: &mut usize,
    ) -> rustix::io::Result<Files> {
        if walk.noted.is_some() {
            walk.note_names(&self.top.join(self.below));
        }
        let mut share = Share::new(self, walk, files);
        let mut buffer = NAMES_BUFFER;
        let mut names = Names::of(self.directory, &mut buffer);
        let mut count = |share: &mut Share<'_, 'a>| {
            *seen += 1;
            let is_too_many = *seen > MOST_ENTRIES;
            is_too_many.then(|| share.files.fail(TOO_MANY)).is_none()
        };
        let mut read = Ok(Step::Name);
        let mut looked = 0;
        // A scope for helpers makes std remember the caller's thread. A small look makes none.
        while read == Ok(Step::Name) && looked < MANY {
            read = names.step(|file, _| {
                looked += 1;
                if count(&mut share) {
                    share.look_at(file);
                }
            });
        }
        if read == Ok(Step::Name) {
            read = scope(|scope| {
                let files = Files::none(share.files.found.empty());
                let mut helper = Helper::start(scope, self, share.walk.part(), files);
                while read == Ok(Step::Name) {
                    read = names.step(|file, _| match &mut helper {
                        _ if !count(&mut share) => {}
                        None => share.look_at(file),
                        Some(helper) => {
                            if let Some(refused) = helper.take(file) {
                                share.look_at_all(&refused);
                            }
                        }
                    });
                }
                if let Some(helper) = helper {
                    helper.end(&mut share);
                }
                read
            });
        }
        match share.files.failed.or(read.err()) {
            Some(errno) => Err(errno),
            None => Ok(share.files),
        }
    }
}

impl Files {
    /// No files yet. `found` is empty, and decides whether entries or a sum are collected.
    pub(crate) fn none(found: Found) -> Files {
        Files {
            found,
            directories: Vec::new(),
            links: Vec::new(),
            failed: None,
        }
    }

    /// Keeps the error with the lowest number, so that the order of files makes no difference.
    fn fail(&mut self, errno: Errno) {
        let errors = self.failed.into_iter().chain([errno]);
        self.failed = errors.min_by_key(|errno| errno.raw_os_error());
    }

    fn append(&mut self, other: Files) {
        self.found.append(other.found);
        self.directories.extend(other.directories);
        self.links.extend(other.links);
        other.failed.into_iter().for_each(|errno| self.fail(errno));
    }
}

impl<'s, 'a> Share<'s, 'a> {
    fn new(listing: Listing<'s>, walk: &'s mut Walk<'a>, files: Files) -> Share<'s, 'a> {
        let mut path = listing.below.as_os_str().as_bytes().to_owned();
        if !path.is_empty() {
            path.push(b'/');
        }
        Share {
            listing,
            walk,
            files,
            prefix: path.len(),
            path,
        }
    }

    /// Looks at the files of these names, each of which ends with a zero byte.
    fn look_at_all(&mut self, names: &[u8]) {
        let names = names.split_inclusive(|byte| *byte == 0);
        let names = names.flat_map(CStr::from_bytes_with_nul);
        names.for_each(|name| self.look_at(name));
    }

    fn look_at(&mut self, file: &CStr) {
        let Listing { top, exclude, .. } = self.listing;
        self.path.truncate(self.prefix);
        self.path.extend_from_slice(file.to_bytes());
        let path = Path::new(OsStr::from_bytes(&self.path));
        if exclude.iter().any(|exclude| exclude.matches(path)) {
            return;
        }
        if self.walk.noted.is_some() {
            self.walk.note(&top.join(path));
        }
        let stat = self
            .walk
            .stat(self.listing.directory, file, || top.join(path));
        let (stat, identity) = match stat {
            Ok(Some(found)) => found,
            Ok(None) => return, // The file went after its name was read.
            Err(errno) => return self.files.fail(errno),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let entry = Entry::new(path.to_owned(), &stat, identity);
                self.files.directories.push(entry);
            }
            FileType::Symlink => {
                let entry = Entry::new(path.to_owned(), &stat, identity);
                self.files.links.push(entry);
            }
            _ => self.files.found.add(path, &stat, identity),
        }
    }
}

/// A thread that looks at a share of the files.
struct Helper<'scope, 'a> {
    thread: ScopedJoinHandle<'scope, (Walk<'a>, Files)>,
    batches: SyncSender<Vec<u8>>,
    /// The names for the next batch, each with a zero byte.
    batch: Vec<u8>,
}

impl<'scope, 'a: 'scope> Helper<'scope, 'a> {
    /// `None` if only one thread can run.
    fn start<'l: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        listing: Listing<'l>,
        mut walk: Walk<'a>,
        files: Files,
    ) -> Option<Helper<'scope, 'a>> {
        if helper::threads() < 2 {
            return None;
        }
        // One batch waits in the channel, so that the helper does not wait for names.
        let (batches, given): (_, Receiver<Vec<u8>>) = sync_channel(1);
        let look = move || {
            let mut share = Share::new(listing, &mut walk, files);
            given.iter().for_each(|batch| share.look_at_all(&batch));
            let files = share.files;
            (walk, files)
        };
        Some(Helper {
            thread: helper::start(scope, look)?,
            batches,
            batch: Vec::with_capacity(BATCH),
        })
    }

    /// Takes the name of a file. If the helper is busy, returns names for the caller to look at.
    fn take(&mut self, file: &CStr) -> Option<Vec<u8>> {
        self.batch.extend_from_slice(file.to_bytes_with_nul());
        if self.batch.len() < BATCH - 256 {
            return None;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        match self.batches.try_send(batch) {
            Ok(()) => None,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => Some(batch),
        }
    }

    /// Adds the helper's files to the caller's share.
    fn end(self, share: &mut Share<'_, 'a>) {
        share.look_at_all(&self.batch);
        drop(self.batches);
        let (walk, files) = helper::end(self.thread);
        share.walk.join(walk);
        share.files.append(files);
    }
}
