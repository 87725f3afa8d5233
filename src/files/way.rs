//! A walk along a path, one step at a time, by descriptor.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, PROC_SUPER_MAGIC, Stat};
use rustix::io::Errno;

use crate::files::directory::PLACE;
use crate::files::trust::{why_bendable, why_foreign_link, why_linked};
use crate::ground::error::Error;
use crate::ground::platform::{OsStr, OsStrExt, OsString, OsStringExt, Path, PathBuf, io, os_str};
use crate::ground::text::Printable;

/// As many symbolic links as path_resolution(7) follows before it gives up.
const MOST_LINKS: usize = 40;

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
    #[inline(never)] // Rare, and rpm's program has to stay small.
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
                let culprit = Printable(os_str(&culprit));
                io::Error::other(format!("{culprit} {problem}"))
            }
        }
    }
}

/// Opens what a link leads to. `None` if the walk has to follow the link's text.
type TakeLink =
    fn(&Way<'_>, &OsStr, &OwnedFd, &Stat) -> core::result::Result<Option<OwnedFd>, Stop>;

/// A walk that is under way.
pub(crate) struct Way<'a> {
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
    pub(crate) fn new(top: &'a OwnedFd, path: &'a Path, steps: Steps, last: OFlags) -> Way<'a> {
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
    pub(crate) fn by_own_links(top: &'a OwnedFd) -> Way<'a> {
        Way {
            take_link: Some(take_own_link),
            ..Way::new(top, Path::new("/"), Steps::Any, OFlags::PATH)
        }
    }

    /// Walks to the end of `path`.
    pub(crate) fn walk(mut self, path: &Path) -> core::result::Result<OwnedFd, Stop> {
        self.todo = reversed_components(path);
        while let Some(name) = self.todo.pop() {
            if let Some(end) = self.step(name)? {
                return Ok(end);
            }
        }
        self.end()
    }

    /// Takes one step. Returns a descriptor if the way ends with it.
    fn step(&mut self, name: OsString) -> core::result::Result<Option<OwnedFd>, Stop> {
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
    ) -> core::result::Result<(), Stop> {
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
    fn end(mut self) -> core::result::Result<OwnedFd, Stop> {
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
    fn judge(&self, name: &OsStr, step: &OwnedFd) -> core::result::Result<Stat, Stop> {
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
) -> core::result::Result<Option<OwnedFd>, Stop> {
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
    let bytes = os_str(path).as_bytes();
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
