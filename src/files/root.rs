//! The root directory that everything is looked up in: `/`, or what `--root` names.
//!
//! Paths are walked one component at a time, by descriptor. Symbolic links are followed as the system in that
//! root would follow them: an absolute target begins at the root again and `..` stops there, so that no link in
//! the tree leads out of it. openat2(2) with `RESOLVE_IN_ROOT` does the same, but only from Linux 5.6 on, not
//! in every container, and it cannot say who owns the steps on the way. In the running system's own root, where nobody
//! has to be trusted with what is only read, the kernel walks.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::trust::{can_others_replace, why_bendable};
use crate::ground::error::{Error, Result};

/// As many symbolic links as path_resolution(7) follows before it gives up.
const MOST_LINKS: usize = 40;

/// The directory that is `/` for everything that is looked up.
#[derive(Debug, Clone)]
pub struct Root {
    directory: Arc<OwnedFd>,
    path: PathBuf,
    is_system: bool,
}

/// What a walk demands of the steps on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Nothing: what is found is only read, as data.
    Any,
    /// Nobody but root or the caller could have bent the way.
    Trusted,
}

/// Why a walk ended before its path did.
pub(crate) enum Stop {
    System(Errno),
    Untrusted { culprit: PathBuf, problem: String },
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::System(errno)
    }
}

impl Stop {
    pub(crate) fn into_error(
        self,
        attempt: &'static str,
        path: PathBuf,
        remedy: &'static str,
    ) -> Error {
        match self {
            Stop::System(errno) => Error::system(attempt, path, errno, remedy),
            Stop::Untrusted { culprit, problem } => Error::Untrusted {
                attempt,
                path,
                culprit,
                problem,
            },
        }
    }

    /// Whether there is no way to anything: it is missing, or the way goes round in a circle.
    pub(crate) fn leads_nowhere(&self) -> bool {
        self.is_missing() || matches!(self, Stop::System(Errno::LOOP))
    }

    /// Whether, for the caller, there can be nothing: it leads nowhere, or may not be entered.
    pub(crate) fn is_shut(&self) -> bool {
        self.leads_nowhere() || matches!(self, Stop::System(Errno::ACCESS))
    }

    pub(crate) fn errno(&self) -> Errno {
        match self {
            Stop::System(errno) => *errno,
            Stop::Untrusted { .. } => Errno::PERM,
        }
    }

    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Stop::System(Errno::NOENT | Errno::NOTDIR))
    }
}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> io::Error {
        match stop {
            Stop::System(errno) => errno.into(),
            Stop::Untrusted { culprit, problem } => {
                io::Error::other(format!("{} {problem}", culprit.display()))
            }
        }
    }
}

impl Root {
    /// The running system's own root, `/`.
    ///
    /// # Errors
    /// Where `/` cannot be opened, which only a very confined process sees.
    pub fn system() -> Result<Root> {
        Root::open(Path::new("/"))
    }

    /// The tree below `directory`, as if it were `/`.
    ///
    /// # Errors
    /// Where it does not exist, is no directory, or cannot be entered.
    pub fn open(directory: &Path) -> Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(|errno| {
            Error::system(
                "enter the root directory",
                directory,
                errno,
                "name a directory that exists and that you may enter",
            )
        })?;
        Ok(Root {
            directory: Arc::new(fd),
            path: directory.to_owned(),
            is_system: directory == Path::new("/"),
        })
    }

    /// `path` as somebody outside the root sees it.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.path.join(below)
    }

    /// Whether this is the running system's own `/`.
    pub fn is_system(&self) -> bool {
        self.is_system
    }

    /// Whether there is nothing at `path`. A quick no: where it cannot be told by one system call, there may be something.
    pub(crate) fn lacks(&self, path: &Path) -> bool {
        self.is_system() && rustix::fs::access(path, Access::EXISTS) == Err(Errno::NOENT)
    }

    /// What is at an absolute `path`, itself and not what it points to; `None` where there is nothing.
    pub(crate) fn stat(&self, path: &Path) -> std::result::Result<Option<Stat>, Stop> {
        let stat = || -> std::result::Result<_, Stop> {
            match self.is_system {
                true => Ok(stat_at(CWD, path)?),
                false => {
                    let parent = self.place(path.parent().unwrap_or(path), Steps::Any)?;
                    Ok(stat_at(
                        parent,
                        path.file_name().unwrap_or(OsStr::new(".")),
                    )?)
                }
            }
        };
        match stat() {
            Err(stop) if stop.is_missing() => Ok(None),
            stat => stat,
        }
    }

    /// What is at `path`, links followed inside the root; `None` where it cannot be told.
    #[cfg(feature = "libvirt")]
    pub(crate) fn target(&self, path: &Path) -> Option<Stat> {
        rustix::fs::fstat(self.place(path, Steps::Any).ok()?).ok()
    }

    /// Opens what is at `path`, links followed inside the root, for use as a place (`O_PATH`).
    pub(crate) fn place(&self, path: &Path, steps: Steps) -> std::result::Result<OwnedFd, Stop> {
        self.walk(path, OFlags::PATH, steps)
    }

    /// Opens the directory at `path`, links followed inside the root, for reading; as a place only, where it may not be read.
    pub(crate) fn directory(&self, path: &Path) -> std::result::Result<OwnedFd, Stop> {
        match self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Any) {
            Err(Stop::System(Errno::ACCESS)) => self.walk(path, OFlags::PATH, Steps::Any),
            opened => opened,
        }
    }

    /// Opens what is at `path`, links followed inside the root, for reading; never waits for a FIFO's writer.
    pub(crate) fn read(&self, path: &Path, steps: Steps) -> std::result::Result<OwnedFd, Stop> {
        self.walk(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            steps,
        )
    }

    /// Opens the directory at `path`, making what is missing of it, each with `mode`.
    ///
    /// Also returns how many levels had to be made: their parents need a sync too.
    pub(crate) fn make_directory(
        &self,
        path: &Path,
        mode: Mode,
    ) -> std::result::Result<(OwnedFd, usize), Stop> {
        match self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Trusted) {
            Ok(fd) => return Ok((fd, 0)),
            Err(Stop::System(Errno::NOENT)) => {}
            Err(stop) => return Err(stop),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Stop::System(Errno::NOENT));
        };
        let (parent, made) = self.make_directory(parent, mode)?;
        let fd = match rustix::fs::mkdirat(&parent, name, mode) {
            Ok(()) => open_made(&parent, name, mode)?.map_err(|problem| Stop::Untrusted {
                culprit: self.outside(path),
                problem,
            })?,
            // Made by somebody else in between: who?
            Err(Errno::EXIST) => {
                self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Trusted)?
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok((fd, made + 1))
    }

    /// The names in the directory at `path`, in the order in which the file system gives them.
    pub(crate) fn names(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let directory = self.read(path, Steps::Any)?;
        let mut names = Vec::new();
        for_each_name(directory.as_fd(), |name| names.push(os(name).to_owned()))?;
        Ok(names)
    }

    fn walk(&self, path: &Path, last: OFlags, steps: Steps) -> std::result::Result<OwnedFd, Stop> {
        if self.is_system() && steps == Steps::Any && path.is_absolute() {
            let flags = last | OFlags::CLOEXEC;
            return Ok(rustix::fs::open(path, flags, Mode::empty())?);
        }
        let mut todo: Vec<OsString> = reversed_components(path);
        let mut parents: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut links = 0;
        let judge = |parents: &[(OwnedFd, OsString)], name: &OsStr, step: &OwnedFd| {
            let stat = rustix::fs::fstat(step)?;
            let Some(problem) = why_bendable(step.as_fd(), &stat) else {
                return Ok(stat);
            };
            let mut culprit = self.path.clone();
            culprit.extend(parents.iter().map(|(_, name)| name));
            culprit.push(name);
            Err(Stop::Untrusted { culprit, problem })
        };
        while let Some(name) = todo.pop() {
            match name.as_bytes() {
                b"." => continue,
                b".." => {
                    parents.pop();
                    continue;
                }
                _ => {}
            }
            let here = parents.last().map_or(&*self.directory, |(fd, _)| fd);
            let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if steps == Steps::Any && !todo.is_empty() {
                // Mostly a plain directory, and then there is no more to know about it.
                let directory = step | OFlags::DIRECTORY;
                if let Ok(fd) = rustix::fs::openat(here, &name, directory, Mode::empty()) {
                    parents.push((fd, name));
                    continue;
                }
            }
            // The last step is opened at once: what is judged is the descriptor that is returned.
            let mut unopened = None;
            if todo.is_empty() && last != OFlags::PATH {
                let flags = last | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(here, &name, flags, Mode::empty()) {
                    Ok(fd) => {
                        if steps == Steps::Trusted {
                            judge(&parents, &name, &fd)?;
                        }
                        return Ok(fd);
                    }
                    Err(Errno::NOENT) => return Err(Errno::NOENT.into()),
                    // Such as a link, which has its own way to go.
                    Err(errno) => unopened = Some(errno),
                }
            }
            let fd = rustix::fs::openat(here, &name, step, Mode::empty())?;
            let stat = match steps {
                Steps::Any => rustix::fs::fstat(&fd)?,
                Steps::Trusted => judge(&parents, &name, &fd)?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    parents.clear();
                }
                todo.extend(reversed_components(&target));
                continue;
            }
            if !todo.is_empty() && !FileType::from_raw_mode(stat.st_mode).is_dir() {
                return Err(Errno::NOTDIR.into());
            }
            if let Some(errno) = unopened {
                return Err(errno.into());
            }
            parents.push((fd, name));
        }
        // The path ended at a directory that was walked through, or at the root itself.
        match parents.pop() {
            Some((fd, _)) if last == OFlags::PATH => Ok(fd),
            here => {
                let here = here.as_ref().map_or(&*self.directory, |(fd, _)| fd);
                let flags = last | OFlags::CLOEXEC;
                Ok(rustix::fs::openat(here, c".", flags, Mode::empty())?)
            }
        }
    }
}

/// Opens the directory that the caller just made in `parent`, and gives it `mode`. The umask must
/// not hide the stamp from its readers.
///
/// Somebody else may have put something in its place since. That is left as it is, and the inner
/// error says what is wrong with it.
fn open_made(
    parent: &OwnedFd,
    name: &OsStr,
    mode: Mode,
) -> rustix::io::Result<std::result::Result<OwnedFd, String>> {
    let replaced = Ok(Err("was replaced by somebody else".to_owned()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return replaced,
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&made)?;
    if let Some(problem) = why_bendable(made.as_fd(), &stat) {
        return Ok(Err(problem));
    }
    if stat.st_mode & 0o7777 != mode.as_raw_mode() {
        // A private directory of the caller's own may have been moved here. A new one is empty.
        let mut is_new = stat.st_uid == rustix::process::geteuid().as_raw();
        if is_new && can_others_replace(&rustix::fs::fstat(parent)?) {
            for_each_name(made.as_fd(), |_| is_new = false)?;
        }
        if !is_new {
            return replaced;
        }
        rustix::fs::fchmod(&made, mode)?;
    }
    Ok(Ok(made))
}

/// Calls `each` with every name in a directory but `.` and `..`, without an allocation for each.
pub(crate) fn for_each_name(
    directory: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr),
) -> rustix::io::Result<()> {
    for_each_entry(directory, |name, _| each(name))
}

/// The same with what kind of file each is, where the file system says so.
#[inline(never)] // Its buffer would lie on the stack once for each level of directories.
pub(crate) fn for_each_entry(
    directory: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr, FileType),
) -> rustix::io::Result<()> {
    let mut buffer = [const { MaybeUninit::uninit() }; 16 * 1024];
    let mut entries = rustix::fs::RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            each(name, entry.file_type());
        }
    }
    Ok(())
}

/// A name as the kernel gives it, as Rust's standard library has it.
pub(crate) fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// What is at `name` in `directory`, itself and not what it points to; `None` where there is nothing.
pub(crate) fn stat_at(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a file that nobody else can open, and so nobody else can lock.
pub(crate) fn open_private(directory: &OwnedFd, name: impl AsRef<str>) -> rustix::io::Result<File> {
    let name = name.as_ref();
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let private = Mode::from_raw_mode(0o600);
    let file = rustix::fs::openat(directory, name, flags, private)?;
    let stat = rustix::fs::fstat(&file)?;
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    if mine && stat.st_mode & 0o077 == 0 && FileType::from_raw_mode(stat.st_mode).is_file() {
        return Ok(file.into());
    }
    // Somebody may have it open already: begin with a new one.
    rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::empty())?;
    Ok(rustix::fs::openat(directory, name, flags | OFlags::EXCL, private)?.into())
}

/// A file that is locked until this is dropped, also where a child has the descriptor that was forked meanwhile: flock(2).
pub(crate) struct Lock(pub(crate) File);

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// Writes all of `bytes`, however few the system takes at a time.
pub(crate) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// The components of a path, the last one first. A “.”, and a slash at the end, demand a directory.
fn reversed_components(path: &Path) -> Vec<OsString> {
    let bytes = path.as_os_str().as_bytes();
    let names = bytes.split(|byte| *byte == b'/');
    let mut names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
    if bytes.ends_with(b"/") {
        names.push(b".");
    }
    let names = names.into_iter().rev();
    names
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}
