//! The root directory for all look-ups: `/`, or the directory that `--root` names.
//!
//! A walk opens one component of a path at a time. It follows symbolic links as a system with that
//! root would: an absolute target begins at the root again, and `..` stops there. So no link in the
//! tree leads out of it.
//!
//! openat2(2) with `RESOLVE_IN_ROOT` does the same, but it needs Linux 5.6, some containers forbid
//! it, and it cannot tell the owners of the steps. In the running system's own root the kernel
//! walks, if the caller only reads: then nobody on the way has to be trusted.

use alloc::borrow::ToOwned;
use alloc::sync::Arc;
use alloc::vec::Vec;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Access, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::directory::{for_each_name, os, stat_at};
use crate::files::trust::open_made;
use crate::files::way::{Steps, Stop, Way};
use crate::ground::environment::leads_to_home;
use crate::ground::error::{Error, Result};
use crate::ground::platform::{OsString, Path, PathBuf, io, os_str};

/// Flags that open a directory as a place.
pub(crate) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Continues "cannot …" in the errors of a root directory.
pub(crate) const ENTER: &str = "enter the root directory";

/// The directory that stands for `/` in every look-up.
#[derive(Debug, Clone)]
pub struct Root {
    pub(crate) directory: Arc<OwnedFd>,
    pub(crate) path: PathBuf,
    pub(crate) is_system: bool,
}

impl Root {
    /// The running system's own root, `/`.
    ///
    /// # Errors
    /// If `/` cannot be opened, which only a very confined process sees.
    pub fn system() -> Result<Root> {
        let path = Path::new("/");
        let directory = rustix::fs::open(os_str(path), DIRECTORY, Mode::empty());
        Ok(Root {
            directory: Arc::new(directory.map_err(|errno| not_entered(path, errno.into()))?),
            path: path.to_owned(),
            is_system: true,
        })
    }

    /// The name of `path` outside the root.
    #[inline(never)] // Many errors name a path, and rpm's program has to stay small.
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
        self.is_system() && rustix::fs::access(os_str(path), Access::EXISTS) == Err(Errno::NOENT)
    }

    /// The state of the file at an absolute `path`, of a link itself; `None` if there is no file.
    pub(crate) fn stat(&self, path: &Path) -> core::result::Result<Option<Stat>, Stop> {
        let stat = || -> core::result::Result<_, Stop> {
            match self.is_system {
                true => Ok(stat_at(CWD, os_str(path))?),
                false => {
                    let parent = self.place(path.parent().unwrap_or(path), Steps::Any)?;
                    Ok(stat_at(parent, path.file_name().unwrap_or(".".as_ref()))?)
                }
            }
        };
        match stat() {
            Err(stop) if stop.is_missing() => Ok(None),
            stat => stat,
        }
    }

    /// The state of the file at `path`, links followed; `None` if it cannot be reached.
    pub(crate) fn target(&self, path: &Path) -> Option<Stat> {
        self.look(path).ok().flatten()
    }

    /// The state of the file at `path`, links followed; `None` if there is no file.
    pub(crate) fn look(&self, path: &Path) -> core::result::Result<Option<Stat>, Stop> {
        match self.place(path, Steps::Any) {
            Ok(place) => Ok(Some(rustix::fs::fstat(place)?)),
            Err(stop) if stop.is_missing() => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// Opens the file at `path`, links followed, as a place (`O_PATH`, open(2)).
    pub(crate) fn place(&self, path: &Path, steps: Steps) -> core::result::Result<OwnedFd, Stop> {
        self.walk(path, OFlags::PATH, steps)
    }

    /// Opens the directory at `path`, links followed; as a place, if the caller may not read it.
    pub(crate) fn directory(&self, path: &Path) -> core::result::Result<OwnedFd, Stop> {
        match self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Any) {
            Err(Stop::System(Errno::ACCESS)) => self.walk(path, OFlags::PATH, Steps::Any),
            opened => opened,
        }
    }

    /// Opens the file at `path`, links followed, for reading; never waits for a FIFO's writer.
    pub(crate) fn read(&self, path: &Path, steps: Steps) -> core::result::Result<OwnedFd, Stop> {
        self.walk(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            steps,
        )
    }

    /// Opens the directory at `path`. Makes its missing levels, each with the mode that `mode_of`
    /// has for its path.
    ///
    /// Also returns the number of levels that it made: a sync has to include their parents.
    pub(crate) fn make_directory(
        &self,
        path: &Path,
        mode_of: &dyn Fn(&Path) -> Mode,
    ) -> core::result::Result<(OwnedFd, usize), Stop> {
        match self.walk(path, OFlags::RDONLY | OFlags::DIRECTORY, Steps::Trusted) {
            Ok(fd) => return Ok((fd, 0)),
            Err(Stop::System(Errno::NOENT)) => {}
            Err(stop) => return Err(stop),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Stop::System(Errno::NOENT));
        };
        let (parent, made) = self.make_directory(parent, mode_of)?;
        let mode = mode_of(path);
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

    /// The names in the directory at `path`, in the file system's order. `steps` tells whether others
    /// may bend the way there.
    pub(crate) fn names(
        &self,
        path: &Path,
        steps: Steps,
    ) -> core::result::Result<Vec<OsString>, Stop> {
        let directory = self.read(path, steps)?;
        let mut names = Vec::new();
        for_each_name(directory.as_fd(), |name| names.push(os(name).to_owned()))?;
        Ok(names)
    }

    fn walk(&self, path: &Path, last: OFlags, steps: Steps) -> core::result::Result<OwnedFd, Stop> {
        if self.is_system() && steps == Steps::Any && path.is_absolute() {
            let flags = last | OFlags::CLOEXEC;
            return Ok(rustix::fs::open(os_str(path), flags, Mode::empty())?);
        }
        Way::new(&self.directory, &self.path, steps, last).walk(path)
    }
}

/// The mode of a directory that is made on the way to something of the caller's own.
///
/// It is for the caller alone (XDG Base Directory Specification), unless it leads to the caller's
/// home: other users' homes may be there, too.
pub(crate) fn mode_of_own(path: &Path) -> Mode {
    match leads_to_home(path) {
        true => Mode::from_raw_mode(0o755),
        false => Mode::RWXU,
    }
}

/// The error for a root directory that the system refused.
pub(crate) fn not_entered(directory: &Path, cause: io::Error) -> Error {
    let remedy = "name a directory that exists and that you may enter";
    Error::system(ENTER, directory, cause, remedy)
}
