//! Moves the two times that libvirt compares: the mtime of a module directory and the ctime of a
//! program. A chmod to the mode that the program already has moves its ctime.
//!
//! libvirt compares whole seconds, for equality. So a time must become a second that it never had.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, Stat, StatVfsMountFlags, fstat};
use rustix::io::Errno;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::files::root::Root;
use crate::files::way::Steps;
use crate::ground::time::Mtime;
use crate::observe::evidence::epoch;
use crate::stamp::later::later_than;
use crate::stamp::stamp::Durability;

/// A module directory that got an mtime which it never had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moved {
    #[serde(with = "escaped")]
    pub(crate) path: PathBuf,
    /// The new mtime, in whole seconds since 1970.
    pub(crate) second: i64,
    /// The ctime that came with it. Every name that later comes or goes moves it.
    pub(crate) ctime: Mtime,
    /// The epoch of the stat identities in the directory. `None` if they are no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<i64>,
}

/// A path and one of its times, in whole seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeOf {
    #[serde(with = "escaped")]
    pub(crate) path: PathBuf,
    pub(crate) second: i64,
}

impl TimeOf {
    /// A path with its mtime; `None` if nothing is there.
    pub(crate) fn mtime(root: &Root, path: &Path) -> Option<TimeOf> {
        Some(TimeOf {
            path: path.to_owned(),
            second: root.target(path)?.st_mtime,
        })
    }
}

/// A time that could not be moved.
pub(crate) struct Failure {
    pub(crate) path: PathBuf,
    pub(crate) cause: io::Error,
}

impl Failure {
    /// Whether another attempt fails too, as long as the system stays as it is.
    pub(crate) fn is_lasting(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self.cause.kind(), PermissionDenied | ReadOnlyFilesystem)
    }
}

/// Module directories that are opened, and the second that they are moved to.
pub(crate) struct Opened {
    directories: Vec<(PathBuf, io::Result<File>)>,
    /// A second that no answer has noted down.
    pub(crate) second: i64,
    /// The last chosen second, if it is too far ahead to be right. `second` may then repeat one
    /// that an earlier refresh chose.
    pub(crate) not_followed: Option<i64>,
}

/// The seconds that the last refresh left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastSeconds {
    /// The latest that any refresh chose.
    pub(crate) chosen: Option<i64>,
    /// The latest that the record's text has, which is another witness of it.
    pub(crate) recorded: Option<i64>,
}

/// Whether a change may wait for the next second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    ASecond,
    /// A transaction waits for the caller.
    Nothing,
}

/// No refresh chooses a second so far ahead of the clock, the directories and the last record.
const SECONDS_AHEAD: i64 = 24 * 60 * 60;

/// The result of moving module directories.
pub(crate) struct DirectoryMoves {
    pub(crate) moved: Vec<Moved>,
    /// The mtimes of those that could not be moved.
    pub(crate) left: Vec<TimeOf>,
    /// The first failure.
    pub(crate) failed: Option<Failure>,
}

impl Opened {
    /// Opens directories and chooses their new second.
    ///
    /// Every earlier mtime is at most the clock's. After the clock was set back, it is at most a
    /// directory's own mtime, or the last chosen one. So the next second after all of these is new.
    ///
    /// A broken disk or a strange tool can leave a last second centuries ahead. It is not followed
    /// if it is far ahead of everything else.
    pub(crate) fn open(root: &Root, paths: Vec<PathBuf>, last: LastSeconds) -> Opened {
        let open = |path: PathBuf| {
            let directory = open(root, &path);
            (path, directory)
        };
        let mut directories: Vec<_> = paths.into_iter().map(open).collect();
        // A second move by another name would change the ctime that the record has of the first.
        let mut known = BTreeSet::new();
        directories.retain(|(_, directory)| {
            let stat = directory.as_ref().ok().and_then(|file| fstat(file).ok());
            stat.is_none_or(|stat| known.insert((stat.st_dev, stat.st_ino)))
        });
        let mtime = |directory: &io::Result<File>| {
            let stat = fstat(directory.as_ref().ok()?).ok()?;
            Some(stat.st_mtime)
        };
        let have = directories.iter().filter_map(|(_, it)| mtime(it));
        let latest = have.fold(Mtime::now().seconds(), i64::max);
        let seen = last.recorded.map_or(latest, |second| latest.max(second));
        let is_right = |chosen: &i64| *chosen <= seen.saturating_add(SECONDS_AHEAD);
        let followed = last.chosen.filter(is_right);
        Opened {
            directories,
            second: followed
                .map_or(latest, |chosen| latest.max(chosen))
                .saturating_add(1),
            not_followed: last.chosen.filter(|chosen| !is_right(chosen)),
        }
    }

    /// Moves all of them to the new second, or to the next one that their file systems can store.
    pub(crate) fn move_all(self, root: &Root, durability: Durability) -> DirectoryMoves {
        let mut done = DirectoryMoves {
            moved: Vec::new(),
            left: Vec::new(),
            failed: None,
        };
        for (path, directory) in self.directories {
            let moved = directory.and_then(|directory| {
                let stat = move_to_second(&directory, self.second, durability)?;
                Ok(Moved {
                    path: path.clone(),
                    second: stat.st_mtime,
                    ctime: Mtime::of_ctime(&stat),
                    epoch: signed_epoch(&directory),
                })
            });
            match moved {
                Ok(moved) => done.moved.push(moved),
                Err(cause) => {
                    done.left.extend(TimeOf::mtime(root, &path));
                    done.failed.get_or_insert(Failure { path, cause });
                }
            }
        }
        done
    }
}

/// The epoch of the stat identities in a directory, as TOML has it: its integers have a sign.
pub(crate) fn signed_epoch(directory: impl AsFd) -> Option<i64> {
    epoch(directory.as_fd()).map(|epoch| epoch as i64)
}

/// Opens a module directory, by a way that nobody but root or the caller could have bent.
fn open(root: &Root, path: &Path) -> io::Result<File> {
    let fd = File::from(root.read(path, Steps::Trusted)?);
    match FileType::from_raw_mode(fstat(&fd)?.st_mode).is_dir() {
        true => Ok(fd),
        false => Err(io::Error::other("it is not a directory")),
    }
}

/// Refuses a file system that is mounted read-only, before anything is written.
fn check_writable(place: impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fstatvfs(place)?.f_flag;
    match flags.contains(StatVfsMountFlags::RDONLY) {
        true => Err(Errno::ROFS),
        false => Ok(()),
    }
}

/// Moves the mtime of an opened file or directory to `second`, or to the next one that its file
/// system can store.
pub(crate) fn move_to_second(
    file: impl AsFd,
    second: i64,
    durability: Durability,
) -> io::Result<Stat> {
    let file = file.as_fd();
    check_writable(file)?;
    let last = Mtime::new(second - 1, 999_999_999);
    let mut stat = fstat(file)?;
    let store = |wanted: Mtime| {
        wanted.store_in(file)?;
        stat = fstat(file)?;
        Ok::<_, io::Error>(Mtime::of(&stat))
    };
    if later_than(last, last, store)?.is_none() {
        return Err(io::Error::other("its file system stores no later time"));
    }
    if durability == Durability::Synced {
        rustix::fs::fsync(file)?;
    }
    Ok(stat)
}

/// Moves the ctimes of programs to another second. Returns the new ctimes, and the first failure.
pub(crate) fn change_all(
    root: &Root,
    programs: &[&Path],
    patience: Patience,
    durability: Durability,
) -> (Vec<TimeOf>, Option<Failure>) {
    let (mut changed, mut failed) = (Vec::new(), None);
    // A chmod by a second name would move the ctime that is noted for the first name.
    let mut seconds = HashMap::new();
    for path in programs {
        let path = path.to_path_buf();
        match change(root, &path, &mut seconds, patience, durability) {
            Ok(Some(second)) => changed.push(TimeOf { path, second }),
            Ok(None) => {}
            // The program is gone, or it is a link to nothing.
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => {
                failed.get_or_insert(Failure { path, cause });
            }
        }
    }
    (changed, failed)
}

/// Moves one program's ctime, unless it was moved under another name: then `seconds` has it. `None`
/// if it is no regular file, which libvirt cannot probe.
fn change(
    root: &Root,
    path: &Path,
    seconds: &mut HashMap<(u64, u64), i64>,
    patience: Patience,
    durability: Durability,
) -> io::Result<Option<i64>> {
    let program = root.read(path, Steps::Trusted)?;
    check_writable(&program)?;
    let old = fstat(&program)?;
    if !FileType::from_raw_mode(old.st_mode).is_file() {
        return Ok(None);
    }
    Ok(Some(match seconds.entry((old.st_dev, old.st_ino)) {
        Entry::Occupied(known) => *known.get(),
        Entry::Vacant(place) => *place.insert(change_ctime(&program, &old, patience, durability)?),
    }))
}

fn change_ctime(
    program: &OwnedFd,
    old: &Stat,
    patience: Patience,
    durability: Durability,
) -> io::Result<i64> {
    // Nobody can choose a ctime. Within the second of its last change, it would look unmoved.
    let is_too_early =
        || rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec == old.st_ctime;
    if patience == Patience::Nothing && is_too_early() {
        let cause = "its ctime is of this very second, and a transaction does not wait";
        return Err(io::Error::other(cause));
    }
    for _ in 0..1100 {
        if !is_too_early() {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mode = Mode::from_raw_mode(fstat(program)?.st_mode);
    rustix::fs::fchmod(program, mode)?;
    if durability == Durability::Synced {
        rustix::fs::fsync(program)?;
    }
    match fstat(program)?.st_ctime {
        same if same == old.st_ctime => Err(io::Error::other("its ctime does not move")),
        second => Ok(second),
    }
}

/// A path as text. Text in TOML is UTF-8, and a path may be anything.
mod escaped {
    use std::path::{Path, PathBuf};

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    use crate::ground::text::{Escaped, unescape};

    pub fn serialize<S: Serializer>(path: &Path, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&Escaped(path.as_os_str()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        let text = String::deserialize(from)?;
        let path = unescape(&text).ok_or_else(|| D::Error::custom("a wrong escape"))?;
        Ok(PathBuf::from(path))
    }
}
