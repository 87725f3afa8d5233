//! A shelf: a directory with stored answers, and with a lock beside each of them. A cache is a shelf
//! with a bound (`bound.rs`).
//!
//! An answer is replaced by rename, so that a reader finds a whole one or none. It is believed only
//! if nobody but its reader and root could have written its file. So another user's file in a
//! directory such as `/tmp` costs a probe, and is never served.
//!
//! Callers with the same question take turns by a lock. All but the first then find the answer.
//! The kernel ends a lock with its holder, so a caller that is killed keeps nobody waiting.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::act::bound::{is_name_of_answer, lock_name, make_room};
use crate::act::not_kept::NotKept;
use crate::act::stored::{Contents, Parts, Stored};
use crate::files::directory::{for_each_name, open_file, open_for_reading, os};
use crate::files::lock::{Lock, open_private};
use crate::files::replace::{Placed, Replacement, Writers, remove_leftovers};
use crate::files::root::{Root, mode_of_own};
use crate::files::trust::{can_others_add, why_not_believed};
use crate::files::way::Steps;
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::judge::witness::Witness;

const ATTEMPT: &str = "use the cache";
const REMEDY: &str = "name a directory of your own";

/// A directory that is open for answers.
#[derive(Debug)]
pub(crate) struct Shelf {
    directory: OwnedFd,
    path: PathBuf,
    /// Whether other users can add files to it.
    is_open: bool,
    holds: Holds,
}

/// How often a caller takes the turn anew because its lock was removed meanwhile.
const MOST_TURNS: usize = 10;

/// The files that a shelf's directory may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    /// Answers alone. Any file with an answer's name may be replaced.
    Answers,
    /// The caller's own files, too. Only an answer and an empty file may be replaced.
    AnyFiles,
}

/// The result of a look for an answer.
pub(crate) enum Finding {
    /// No file, or an empty one.
    Nothing,
    /// An answer that is believed.
    Answer(Box<Stored>),
    /// A file that may be replaced, and holds no answer that can be used. The text is a sentence.
    Useless(String),
    /// A file that may not be replaced.
    LeftAlone(NotKept),
}

impl Shelf {
    /// Opens the directory at an absolute `path` in `root`. Makes it for the caller alone if it is
    /// missing. The directories that lead to the caller's home are made for all.
    ///
    /// # Errors
    /// If it cannot be made or read, or if somebody else could bend the way to it.
    pub(crate) fn open(root: &Root, path: &Path, holds: Holds) -> Result<Shelf, Error> {
        match root.make_directory(path, &mode_of_own) {
            Ok((directory, _)) => Shelf::of(directory, root.outside(path), holds),
            Err(stop) => Err(stop.into_error(ATTEMPT, root.outside(path), REMEDY)),
        }
    }

    /// Like [`Shelf::open`], but makes nothing. `None` if there is no directory for the caller.
    pub(crate) fn existing(root: &Root, path: &Path, holds: Holds) -> Result<Option<Shelf>, Error> {
        match root.read(path, Steps::Trusted) {
            Ok(directory) => Shelf::of(directory, root.outside(path), holds).map(Some),
            Err(stop) if stop.is_shut() => Ok(None),
            Err(stop) => Err(stop.into_error(ATTEMPT, root.outside(path), REMEDY)),
        }
    }

    fn of(directory: OwnedFd, path: PathBuf, holds: Holds) -> Result<Shelf, Error> {
        let stat = rustix::fs::fstat(&directory)
            .map_err(|errno| Error::system(ATTEMPT, &path, errno, REMEDY))?;
        Ok(Shelf {
            directory,
            path,
            is_open: can_others_add(&stat),
            holds,
        })
    }

    /// Refuses a directory in which no answer can be kept.
    ///
    /// # Errors
    /// If the caller may not write in the directory.
    pub(crate) fn demand_writable(&self) -> Result<(), Error> {
        rustix::fs::accessat(&self.directory, c".", Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(|errno| Error::system(ATTEMPT, &self.path, errno, REMEDY))
    }

    /// The path of the answer `name`, as the caller knows it.
    pub(crate) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// Looks for the answer `name`.
    pub(crate) fn find(&self, name: &OsStr) -> Finding {
        let found = match open_file(&self.directory, name, OFlags::RDONLY) {
            Ok(file) => self.judge(name, file.into()),
            Err(Errno::NOENT) => Ok(Finding::Nothing),
            Err(Errno::LOOP) => Ok(self.refused(name, "is a symbolic link".to_owned())),
            Err(errno) => Err(errno.into()),
        };
        found.unwrap_or_else(|error| self.refused(name, format!("cannot be read: {error}")))
    }

    fn judge(&self, name: &OsStr, file: File) -> io::Result<Finding> {
        let stat = rustix::fs::fstat(&file)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(self.refused(name, "is not a regular file".to_owned()));
        }
        if stat.st_size == 0 {
            return Ok(Finding::Nothing);
        }
        let foreign = || self.refused(name, "is not an answer of modstamp's".to_owned());
        let path = self.path_of(name);
        if let Some(problem) = self.why_not_believed(&stat) {
            return match self.holds == Holds::Answers || Stored::is_in(&file)? {
                true => Ok(Finding::Useless(not_believed(&path, &problem))),
                false => Ok(foreign()),
            };
        }
        Ok(match Stored::read(file, stat.st_size.unsigned_abs())? {
            Contents::Answer(stored) => Finding::Answer(stored),
            Contents::Useless(problem) => {
                let path = Printable(path.as_os_str());
                Finding::Useless(format!("the answer in {path} {problem}"))
            }
            Contents::Foreign => foreign(),
        })
    }

    /// The finding for a file that has an answer's name but holds no answer.
    fn refused(&self, name: &OsStr, problem: String) -> Finding {
        let path = self.path_of(name);
        match self.holds {
            Holds::Answers => Finding::Useless(not_believed(&path, &problem)),
            Holds::AnyFiles => Finding::LeftAlone(NotKept::LeftAlone { path, problem }),
        }
    }

    /// Why somebody else could have written an opened file, or given it its name.
    fn why_not_believed(&self, stat: &Stat) -> Option<String> {
        // Others could link a file here whose contents they chose, even one of the caller's own.
        // `fs.protected_hardlinks` forbids that (proc_sys_fs(5)), but it may be off.
        let is_linked = self.is_open && stat.st_nlink > 1;
        let problem = || is_linked.then(|| format!("has {} names", stat.st_nlink));
        why_not_believed(stat).or_else(problem)
    }

    /// Waits until no other caller probes for the answer `name`. If no lock can be made, returns
    /// `None` at once.
    pub(crate) fn take_turn(&self, name: &OsStr) -> Option<Lock> {
        let mut turns = (0..MOST_TURNS).map(|_| self.wait_for_lock(name));
        let lock = turns.find(|lock| lock.as_ref().is_none_or(is_in_place))??;
        remove_leftovers(&self.directory, |new, of| match self.holds {
            Holds::Answers => is_name_of_answer(of),
            // A run that was killed may have left the caller's own file by that name.
            Holds::AnyFiles => of == name && !matches!(self.find(new), Finding::LeftAlone(_)),
        });
        Some(lock)
    }

    fn wait_for_lock(&self, name: &OsStr) -> Option<Lock> {
        let file = open_private(&self.directory, lock_name(name)).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        // A lock file with a second name may be another program's lock, held for ever.
        self.why_not_believed(&stat).is_none().then_some(())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .ok()?;
        Some(Lock(file))
    }

    /// The names of all files.
    ///
    /// # Errors
    /// If the directory cannot be listed to its end.
    pub(crate) fn names(&self) -> Result<Vec<OsString>, Error> {
        let list = || {
            let directory = open_for_reading(&self.directory)?;
            let mut names = Vec::new();
            for_each_name(directory.as_fd(), |name| names.push(os(name).to_owned()))?;
            Ok(names)
        };
        list().map_err(|errno: Errno| Error::system(ATTEMPT, &self.path, errno, REMEDY))
    }

    /// Makes an empty file without a name. It is gone when its descriptor is closed.
    pub(crate) fn scratch(&self, name: &OsStr) -> Result<File, NotKept> {
        let new = self.replacement(name);
        let file = new.and_then(|new| new.file().try_clone());
        file.map(File::from)
            .map_err(|error| self.not_written(name, error))
    }

    /// Stores an answer under `name`.
    pub(crate) fn keep(
        &self,
        name: &OsStr,
        question: &str,
        witness: &Witness,
        parts: &Parts,
    ) -> Result<(), NotKept> {
        // The caller may have put a file there while the probe ran.
        if let Finding::LeftAlone(why) = self.find(name) {
            return Err(why);
        }
        let write = || -> io::Result<Placed> {
            let new = self.replacement(name)?;
            Stored::write(new.file(), question, witness, parts)?;
            rustix::fs::fdatasync(new.file())?;
            // The caller may still put a file there.
            Ok(new.take_place_if(|old| !matches!(self.find(old), Finding::LeftAlone(_)))?)
        };
        match write() {
            Ok(Placed::Yes) => {
                if self.holds == Holds::Answers {
                    let is_ours = |stat: &Stat| self.why_not_believed(stat).is_none();
                    make_room(&self.directory, name, is_ours);
                }
                Ok(())
            }
            Ok(Placed::No) => match self.find(name) {
                Finding::LeftAlone(why) => Err(why),
                _ => Err(self.not_written(name, Errno::EXIST.into())),
            },
            Err(error) => Err(self.not_written(name, error)),
        }
    }

    /// Begins to replace an answer. A caller that only learns has no turn, so there may be several.
    fn replacement<'a>(&'a self, name: &'a OsStr) -> io::Result<Replacement<'a>> {
        let (directory, mode) = (&self.directory, Mode::RUSR | Mode::WUSR);
        Ok(Replacement::create(directory, name, mode, Writers::Many)?)
    }

    /// The error for an answer that was found and then could not be read.
    pub(crate) fn not_read(&self, name: &OsStr, error: io::Error) -> NotKept {
        NotKept::LeftAlone {
            path: self.path_of(name),
            problem: format!("cannot be read: {error}"),
        }
    }

    /// The error for an answer that could not be written.
    pub(crate) fn not_written(&self, name: &OsStr, error: io::Error) -> NotKept {
        let remedy = "make room there, or name a directory of your own";
        let path = self.path_of(name);
        NotKept::NotWritten(Error::system("keep the answer in", path, error, remedy))
    }
}

/// Whether a lock's file still has its name. Whoever made room in the cache may have removed it.
fn is_in_place(lock: &Lock) -> bool {
    rustix::fs::fstat(&lock.0).is_ok_and(|stat| stat.st_nlink > 0)
}

fn not_believed(path: &Path, problem: &str) -> String {
    let path = Printable(path.as_os_str());
    format!("{path} {problem}, so its answer is not believed; remove it, or {REMEDY}")
}
