//! The root directory for all look-ups: `/`, or the directory that `--root` names.
//!
//! A walk opens one component of a path at a time. It follows symbolic links as a system with that
//! root would: an absolute target begins at the root again, and `..` stops there. So no link in the
//! tree leads out of it.
//!
//! openat2(2) with `RESOLVE_IN_ROOT` does the same, but it needs Linux 5.6, some containers forbid
//! it, and it cannot tell the owners of the steps. In the running system's own root the kernel
//! walks, if the caller only reads: then nobody on the way has to be trusted.
//!
//! The way to the root directory itself is walked, too. It may go through a user's directories, but
//! through no link of that user's. So the caller gets the directory that the caller named.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, Stat};
use rustix::io::Errno;

use crate::files::directory::{PLACE, for_each_name, os, stat_at};
use crate::files::trust::{open_made, why_bendable, why_foreign_link, why_linked};
use crate::ground::error::{Error, Result};
use crate::ground::text::Printable;

/// As many symbolic links as path_resolution(7) follows before it gives up.
const MOST_LINKS: usize = 40;

/// Flags that open a directory as a place.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directory that stands for `/` in every look-up.
#[derive(Debug, Clone)]
pub struct Root {
    directory: Arc<OwnedFd>,
    path: PathBuf,
    is_system: bool,
}

/// Which steps a walk accepts on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// Every step: the caller only reads what it finds, as data.
    Any,
    /// Steps that nobody but root or the caller could have bent.
    Trusted,
}

/// The reason why a walk ended before its path did.
pub(crate) enum Stop {
    /// The system refused a step.
    System(Errno),
    /// Somebody else could have bent the step `culprit`.
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

    /// Whether the path leads to nothing: a step is missing, or links form a circle.
    pub(crate) fn leads_nowhere(&self) -> bool {
        self.is_missing() || matches!(self, Stop::System(Errno::LOOP))
    }

    /// Whether the path leads to nothing for the caller: nowhere, or into a closed directory.
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
                let culprit = Printable(culprit.as_os_str());
                io::Error::other(format!("{culprit} {problem}"))
            }
        }
    }
}

impl Root {
    /// The running system's own root, `/`.
    ///
    /// # Errors
    /// If `/` cannot be opened, which only a very confined process sees.
    pub fn system() -> Result<Root> {
        let path = Path::new("/");
        let directory = rustix::fs::open(path, DIRECTORY, Mode::empty());
        Ok(Root {
            directory: Arc::new(directory.map_err(|errno| not_entered(path, errno.into()))?),
            path: path.to_owned(),
            is_system: true,
        })
    }

    /// The tree below `directory`, as if it were `/`. It may belong to anybody.
    ///
    /// # Errors
    /// If it does not exist, is no directory, or cannot be entered. Also if a link on the way could
    /// be somebody else's: it could lead to another directory than the caller meant.
    pub fn open(directory: &Path) -> Result<Root> {
        let system = Root::system()?;
        if directory == Path::new("/") {
            return Ok(system);
        }
        // The walk goes over every step, because links lead to no other root here.
        let walked = std::path::absolute(directory).and_then(|way| {
            let place = Way::by_own_links(&system.directory).walk(&way)?;
            Ok(rustix::fs::openat(place, c".", DIRECTORY, Mode::empty())?)
        });
        Ok(Root {
            directory: Arc::new(walked.map_err(|error| not_entered(directory, error))?),
            path: directory.to_owned(),
            is_system: false,
        })
    }

    /// The name of `path` outside the root.
    pub fn outside(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        self.path.join(below)
    }

    /// Whether this is the running system's own `/`.
    pub fn is_system(&self) -> bool {
        self.is_system
    }

    /// Whether one system call shows that nothing is at `path`. If not, there may still be nothing.
    pub(crate) fn lacks(&self, path: &Path) -> bool {
        self.is_system() && rustix::fs::access(path, Access::EXISTS) == Err(Errno::NOENT)
    }

    /// The state of the file at an absolute `path`, of a link itself; `None` if there is no file.
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

    /// The state of the file at `path`, links followed; `None` if it cannot be reached.
    #[cfg(feature = "libvirt")]
    pub(crate) fn target(&self, path: &Path) -> Option<Stat> {
        rustix::fs::fstat(self.place(path, Steps::Any).ok()?).ok()
    }

    /// Opens the file at `path`, links followed, as a place (`O_PATH`, open(2)).
    pub(crate) fn place(&self, path: &Path, steps: Steps) -> std::result::Result<OwnedFd, Stop> {
        self.walk(path, OFlags::PATH, steps)
    }

    /// Opens the directory at `path`, links followed; as a place, if the caller may not read it.
    pub(crate) fn directory(&self, path: &Path) -> std::result::Result<OwnedFd, Stop> {
        match self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Any) {
            Err(Stop::System(Errno::ACCESS)) => self.walk(path, OFlags::PATH, Steps::Any),
            opened => opened,
        }
    }

    /// Opens the file at `path`, links followed, for reading; never waits for a FIFO's writer.
    pub(crate) fn read(&self, path: &Path, steps: Steps) -> std::result::Result<OwnedFd, Stop> {
        self.walk(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            steps,
        )
    }

    /// Opens the directory at `path`. Makes its missing levels, each with `mode`.
    ///
    /// Also returns the number of levels that it made: a sync has to include their parents.
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
            // Somebody else made it meanwhile, and may be a stranger.
            Err(Errno::EXIST) => {
                self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Trusted)?
            }
            Err(errno) => return Err(errno.into()),
        };
        Ok((fd, made + 1))
    }

    /// The names in the directory at `path`, in the file system's order.
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
        Way::new(&self.directory, &self.path, steps, last).walk(path)
    }
}

/// The error for a root directory.
fn not_entered(directory: &Path, cause: io::Error) -> Error {
    let remedy = match cause.kind() {
        io::ErrorKind::Other => "name the directory that it leads to",
        _ => "name a directory that exists and that you may enter",
    };
    Error::system("enter the root directory", directory, cause, remedy)
}

/// Opens what a link leads to. `None` if the walk has to follow the link's text.
type TakeLink = fn(&Way<'_>, &OsStr, &OwnedFd, &Stat) -> std::result::Result<Option<OwnedFd>, Stop>;

/// A walk that is under way.
struct Way<'a> {
    /// The root directory, and its path as its opener knows it.
    top: &'a OwnedFd,
    path: &'a Path,
    steps: Steps,
    /// Looks at each link first. rpm's program needs none, and so does not contain it.
    take_link: Option<TakeLink>,
    /// The flags by which the last step is opened.
    last: OFlags,
    /// The steps that are left, the last one first.
    todo: Vec<OsString>,
    /// The directories that were entered, the current one last.
    done: Vec<(OwnedFd, OsString)>,
    links: usize,
}

impl<'a> Way<'a> {
    /// A walk that begins at `top`, and opens the last step by the flags `last`.
    fn new(top: &'a OwnedFd, path: &'a Path, steps: Steps, last: OFlags) -> Way<'a> {
        Way {
            top,
            path,
            steps,
            take_link: None,
            last,
            todo: Vec::new(),
            done: Vec::new(),
            links: 0,
        }
    }

    /// A walk from `/` to a directory, by links that nobody but root or the caller could have made.
    fn by_own_links(top: &'a OwnedFd) -> Way<'a> {
        Way {
            take_link: Some(take_own_link),
            ..Way::new(top, Path::new("/"), Steps::Any, OFlags::PATH)
        }
    }

    /// Walks to the end of `path`.
    fn walk(mut self, path: &Path) -> std::result::Result<OwnedFd, Stop> {
        self.todo = reversed_components(path);
        while let Some(name) = self.todo.pop() {
            if let Some(end) = self.step(name)? {
                return Ok(end);
            }
        }
        self.end()
    }

    /// Takes one step. Returns a descriptor if the way ends with it.
    fn step(&mut self, name: OsString) -> std::result::Result<Option<OwnedFd>, Stop> {
        match name.as_bytes() {
            b"." => return Ok(None),
            b".." => {
                self.done.pop();
                return Ok(None);
            }
            _ => {}
        }
        let is_last = self.todo.is_empty();
        if self.steps == Steps::Any && (!is_last || self.take_link.is_some()) {
            // Most steps are plain directories. Those need no stat.
            if let Ok(fd) = self.open(&name, PLACE | OFlags::DIRECTORY) {
                self.done.push((fd, name));
                return Ok(None);
            }
        }
        // Open the last step at once: the trust check must be on the descriptor that the caller
        // gets.
        let mut unopened = None;
        if is_last && self.last != OFlags::PATH {
            match self.open(&name, self.last | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
                Ok(fd) => {
                    if self.steps == Steps::Trusted {
                        self.judge(&name, &fd)?;
                    }
                    return Ok(Some(fd));
                }
                Err(Errno::NOENT) => return Err(Errno::NOENT.into()),
                // A link, for example, which is followed below.
                Err(errno) => unopened = Some(errno),
            }
        }
        let fd = self.open(&name, PLACE)?;
        let stat = match self.steps {
            Steps::Any => rustix::fs::fstat(&fd)?,
            Steps::Trusted => self.judge(&name, &fd)?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_symlink() {
            return self.follow(name, &fd, &stat).map(|()| None);
        }
        if !is_last && !kind.is_dir() {
            return Err(Errno::NOTDIR.into());
        }
        if let Some(errno) = unopened {
            return Err(errno.into());
        }
        self.done.push((fd, name));
        Ok(None)
    }

    /// Puts a link's target in front of the steps that are left.
    fn follow(
        &mut self,
        name: OsString,
        link: &OwnedFd,
        stat: &Stat,
    ) -> std::result::Result<(), Stop> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        if let Some(take_link) = self.take_link {
            if let Some(place) = take_link(self, &name, link, stat)? {
                self.done.push((place, name));
                return Ok(());
            }
        }
        let target = rustix::fs::readlinkat(link, c"", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.done.clear();
        }
        self.todo.extend(reversed_components(&target));
        Ok(())
    }

    /// Opens the end of a path that ended at an entered directory, or at the root itself.
    fn end(mut self) -> std::result::Result<OwnedFd, Stop> {
        match self.done.pop() {
            Some((fd, _)) if self.last == OFlags::PATH => Ok(fd),
            here => {
                let here = here.as_ref().map_or(self.top, |(fd, _)| fd);
                let flags = self.last | OFlags::CLOEXEC;
                Ok(rustix::fs::openat(here, c".", flags, Mode::empty())?)
            }
        }
    }

    fn open(&self, name: &OsStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(self.here(), name, flags, Mode::empty())
    }

    /// The directory in which the next step is taken.
    fn here(&self) -> &OwnedFd {
        let here = self.done.last().map(|(fd, _)| fd);
        here.unwrap_or(self.top)
    }

    /// Refuses a step that somebody else could have bent.
    fn judge(&self, name: &OsStr, step: &OwnedFd) -> std::result::Result<Stat, Stop> {
        let stat = rustix::fs::fstat(step)?;
        let problem = match why_bendable(step.as_fd(), &stat) {
            None => why_linked(&stat, self.here())?,
            problem => problem,
        };
        match problem {
            None => Ok(stat),
            Some(problem) => Err(self.untrusted(name, problem)),
        }
    }

    fn untrusted(&self, name: &OsStr, problem: String) -> Stop {
        let mut culprit = self.path.to_owned();
        culprit.extend(self.done.iter().map(|(_, name)| name));
        culprit.push(name);
        Stop::Untrusted { culprit, problem }
    }
}

/// Refuses a link that somebody else could have made, and has the kernel follow one of `/proc`.
fn take_own_link(
    way: &Way<'_>,
    name: &OsStr,
    link: &OwnedFd,
    stat: &Stat,
) -> std::result::Result<Option<OwnedFd>, Stop> {
    if let Some(problem) = why_foreign_link(stat, way.here().as_fd())? {
        return Err(way.untrusted(name, problem));
    }
    // The text of a link like /proc/PID/root is not where it leads (proc_pid_root(5)).
    match rustix::fs::fstatfs(link)?.f_type == PROC_SUPER_MAGIC {
        true => Ok(Some(way.open(name, OFlags::PATH | OFlags::CLOEXEC)?)),
        false => Ok(None),
    }
}

/// The components of a path, the last one first. A “.”, or a slash at the end, demands a directory.
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
