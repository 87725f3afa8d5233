//! A tree of files that stands for `/`, such as an image that is being built.
//!
//! The way to the tree's directory is walked, too. It may go through a user's directories, but
//! through no link of that user's. So the caller gets the directory that the caller named.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::Mode;

use crate::files::root::{DIRECTORY, ENTER, Root, not_entered};
use crate::files::way::{Steps, Way};
use crate::ground::error::{Error, Result};

impl Root {
    /// The tree below `directory`, as if it were `/`. It may belong to anybody.
    ///
    /// # Errors
    /// If `directory` does not exist, is no directory, or cannot be entered. A link on the way that
    /// another user could have made is an error, too: it could lead to a directory that the caller
    /// did not mean.
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
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::Other => Error::system(
                ENTER,
                directory,
                error,
                "name the directory that it leads to",
            ),
            _ => not_entered(directory, error),
        };
        Ok(Root {
            directory: Arc::new(walked.map_err(refused)?),
            path: directory.to_owned(),
            is_system: false,
        })
    }

    /// The path of an opened place, without links. `None` if the place is outside this root, or if
    /// proc(5) does not tell.
    pub(crate) fn real_path(&self, place: &OwnedFd) -> Option<PathBuf> {
        let path_of = |fd: &OwnedFd| {
            let number = fd.as_raw_fd();
            std::fs::read_link(format!("/proc/self/fd/{number}")).ok()
        };
        let (path, top) = (path_of(place)?, path_of(&self.directory)?);
        Some(Path::new("/").join(path.strip_prefix(top).ok()?))
    }

    /// The path of the file at `path`, without links. If it cannot be found out, `path` itself.
    pub(crate) fn own_path(&self, path: &Path) -> PathBuf {
        let own = match self.is_system() {
            true => std::fs::canonicalize(path).ok(),
            false => {
                let place = self.place(path, Steps::Any).ok();
                place.and_then(|place| self.real_path(&place))
            }
        };
        own.unwrap_or_else(|| path.to_owned())
    }
}
