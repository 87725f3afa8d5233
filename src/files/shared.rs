//! A shared directory: others may create files in it, and only replace their own, as in `/tmp`.
//!
//! What another user made there is no sign of a wrong set-up. It is that user's.

use rustix::fd::BorrowedFd;
use rustix::fs::{Mode, Stat, fstat};

use crate::files::mount::{self, Mount};
use crate::files::trust::{can_others_add, is_own_user};

/// The other user who made `place` in `directory`, if that is shared. `None` if it is root's or the
/// caller's, or if the directory is not shared.
///
/// A user can mount a file system there (fusermount3(1)), and may never answer a stat. So the mount
/// is looked at first.
pub(crate) fn stranger(
    directory: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
) -> rustix::io::Result<Option<u32>> {
    let is_other = |user: &u32| !is_own_user(*user);
    if !is_shared(&fstat(directory)?) {
        return Ok(None);
    }
    let is_mounted = mount::number(directory) != mount::number(place);
    let mount = is_mounted.then(|| Mount::of(place)).flatten();
    match mount.and_then(|mount| mount.server()).filter(is_other) {
        Some(server) => Ok(Some(server)),
        None => Ok(Some(fstat(place)?.st_uid).filter(is_other)),
    }
}

fn is_shared(directory: &Stat) -> bool {
    let mode = Mode::from_raw_mode(directory.st_mode);
    mode.contains(Mode::SVTX) && can_others_add(directory)
}
