//! An opened directory: the names in it, and the state of one of them.

use core::ffi::CStr;
use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::ground::platform::{OsStr, OsStrExt};

/// Flags that open a place: a name, or a link itself, without its content (`O_PATH`, open(2)).
pub(crate) const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The most names of one directory that are read. A file system in user space may give names
/// without end.
pub(crate) const MOST_NAMES: usize = 500_000;

/// Opens a directory for reading that was opened as a place.
pub(crate) fn open_for_reading(place: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(place, c".", flags, Mode::empty())
}

/// Opens the file `name` in `directory`. Follows no link, and waits for no FIFO's other end.
pub(crate) fn open_file(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
    access: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, access | flags, Mode::empty())
}

/// Calls `each` with every name in a directory but `.` and `..`, without an allocation for each.
///
/// # Errors
/// The system's own. More than [`MOST_NAMES`] give `E2BIG`.
pub(crate) fn for_each_name(
    directory: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr),
) -> rustix::io::Result<()> {
    for_each_entry(directory, |name, _| each(name))
}

/// Like `for_each_name`, but also gives each file's type, if the file system tells it.
#[inline(never)] // Its buffer would lie on the stack once for each level of directories.
pub(crate) fn for_each_entry(
    directory: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr, FileType),
) -> rustix::io::Result<()> {
    let mut buffer = NAMES_BUFFER;
    let mut names = Names::of(directory, &mut buffer);
    while names.step(&mut each)? == Step::Name {}
    Ok(())
}

/// Room for some hundred names.
pub(crate) const NAMES_BUFFER: [MaybeUninit<u8>; 16 * 1024] =
    [const { MaybeUninit::uninit() }; 16 * 1024];

/// A step of [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Name,
    End,
}

/// The names in a directory, for a reader that pauses between two of them.
pub(crate) struct Names<'b> {
    entries: rustix::fs::RawDir<'b, BorrowedFd<'b>>,
    count: usize,
}

impl<'b> Names<'b> {
    pub(crate) fn of(directory: BorrowedFd<'b>, buffer: &'b mut [MaybeUninit<u8>]) -> Names<'b> {
        Names {
            entries: rustix::fs::RawDir::new(directory, buffer),
            count: 0,
        }
    }

    /// Calls `each` with the next name, unless that is `.` or `..`.
    ///
    /// # Errors
    /// Like [`for_each_name`].
    pub(crate) fn step(&mut self, each: impl FnOnce(&CStr, FileType)) -> rustix::io::Result<Step> {
        let Some(entry) = self.entries.next() else {
            return Ok(Step::End);
        };
        let entry = entry?;
        self.count += 1;
        if self.count > MOST_NAMES + 2 {
            return Err(Errno::TOOBIG);
        }
        let name = entry.file_name();
        if name != c"." && name != c".." {
            each(name, entry.file_type());
        }
        Ok(Step::Name)
    }
}

/// Converts a name from the kernel into an `OsStr`.
pub(crate) fn os(name: &CStr) -> &OsStr {
    OsStr::from_bytes(name.to_bytes())
}

/// Stats `name` in `directory` without following a link. `None` if there is no such file.
#[inline]
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
