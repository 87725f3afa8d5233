//! Watches on the paths that a look depends on, by inotify(7). They tell whether anything that the
//! look saw may be different by now.
//!
//! A path is watched step by step. Each directory on the way tells of the names that lead on, and
//! no step is a link. So it does not matter which step changes, or by which name a file is written.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::files::root::Root;
use crate::ground::error::{Error, Result};
use crate::observe::evidence::is_told;
use crate::observe::walk::Note;

/// The changes of a file or a directory. Mere reads are none.
const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DONT_FOLLOW);

/// The most links on the way to a file (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Watches on paths.
#[derive(Debug)]
pub(crate) struct Watches {
    inotify: OwnedFd,
    /// By watch descriptor.
    names: HashMap<i32, Names>,
    /// Paths that are watched.
    notes: BTreeSet<Note>,
}

/// The names in a watched directory that count.
#[derive(Debug)]
enum Names {
    All,
    These(BTreeSet<OsString>),
}

impl Watches {
    /// # Errors
    /// If the caller has no room for one more instance of inotify(7).
    pub(crate) fn new() -> rustix::io::Result<Watches> {
        Ok(Watches {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            names: HashMap::new(),
            notes: BTreeSet::new(),
        })
    }

    /// Watches a path in `root`. Returns whether it was not watched before.
    ///
    /// # Errors
    /// If a step cannot be watched, or if its file system does not tell of changes.
    pub(crate) fn add(&mut self, root: &Root, note: Note) -> Result<bool> {
        if self.notes.contains(&note) {
            return Ok(false);
        }
        let (path, last) = match &note {
            Note::Path(path) => (path, Names::These(BTreeSet::new())),
            Note::Names(path) => (path, Names::All),
        };
        if let Some(place) = self.watch_way(root, path)? {
            self.watch(root, &place, last)?;
        }
        self.notes.insert(note);
        Ok(true)
    }

    /// Watches all directories on the way to a path. Returns its place, without links; `None` if
    /// nothing is there.
    fn watch_way(&mut self, root: &Root, path: &Path) -> Result<Option<PathBuf>> {
        let mut steps: VecDeque<OsString> = steps_of(path).collect();
        let (mut place, mut links) = (PathBuf::from("/"), 0);
        while let Some(step) = steps.pop_front() {
            if step == ".." {
                place.pop();
                continue;
            }
            self.watch(root, &place, Names::These(BTreeSet::from([step.clone()])))?;
            let next = place.join(step);
            let outside = root.outside(&next);
            let stat = match rustix::fs::lstat(&outside) {
                Ok(stat) => stat,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
                Err(errno) => return Err(not_watched(outside, errno.into())),
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Ok(None);
                    }
                    let Ok(target) = rustix::fs::readlink(&outside, Vec::new()) else {
                        return Ok(None); // It went since. The directory's watch tells.
                    };
                    let target = Path::new(OsStr::from_bytes(target.to_bytes()));
                    if target.is_absolute() {
                        place = PathBuf::from("/");
                    }
                    let rest = std::mem::take(&mut steps);
                    steps = steps_of(target).chain(rest).collect();
                }
                FileType::Directory => place = next,
                _ => return Ok(steps.is_empty().then_some(next)),
            }
        }
        Ok(Some(place))
    }

    /// Watches what is at a place, which is reached by no link.
    fn watch(&mut self, root: &Root, place: &Path, names: Names) -> Result<()> {
        let outside = root.outside(place);
        let watched =
            rustix::fs::statfs(&outside).and_then(|statfs| match is_told(statfs.f_type as u32) {
                true => inotify::add_watch(&self.inotify, &outside, CHANGES).map(Some),
                false => Ok(None),
            });
        let number = match watched {
            Ok(Some(number)) => number,
            Ok(None) => {
                let cause = io::Error::other("its file system does not tell of all changes");
                return Err(not_watched(outside, cause));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()), // The watch above it tells.
            Err(errno) => return Err(not_watched(outside, errno.into())),
        };
        match (self.names.get_mut(&number), names) {
            (Some(Names::All), _) => {}
            (Some(Names::These(known)), Names::These(names)) => known.extend(names),
            (_, names) => drop(self.names.insert(number, names)),
        }
        Ok(())
    }

    /// Whether something changed since the last call. Takes what the kernel told.
    pub(crate) fn take_change(&mut self) -> bool {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut is_change = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let counts = match (self.names.get(&event.wd()), event.file_name()) {
                        (Some(Names::These(names)), Some(name)) => {
                            names.contains(OsStr::from_bytes(name.to_bytes()))
                        }
                        (Some(_), _) => true,
                        // What was lost may have been anything. Other numbers are of old watches.
                        (None, _) => event.events().contains(ReadFlags::QUEUE_OVERFLOW),
                    };
                    is_change |= counts;
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return is_change,
                Err(_) => return true,
            }
        }
    }

    /// Ends all watches.
    pub(crate) fn clear(&mut self) {
        for (number, _) in self.names.drain() {
            let _ = inotify::remove_watch(&self.inotify, number); // It may have ended by itself.
        }
        self.notes.clear();
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The steps of a path: names, and `..`.
fn steps_of(path: &Path) -> impl Iterator<Item = OsString> {
    let steps = path.components().filter(|step| match step {
        Component::Normal(_) | Component::ParentDir => true,
        Component::RootDir | Component::CurDir | Component::Prefix(_) => false,
    });
    steps.map(|step| step.as_os_str().to_owned())
}

fn not_watched(path: PathBuf, cause: io::Error) -> Error {
    let remedy = match Errno::from_io_error(&cause) {
        Some(Errno::NOSPC) => {
            "raise fs.inotify.max_user_watches by sysctl(8); until then each check looks at all"
        }
        _ => "there is nothing to do: each check looks at all",
    };
    Error::system("watch", path, cause, remedy)
}
