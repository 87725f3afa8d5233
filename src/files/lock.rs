//! Locks on private files: nobody else can open the file, so nobody else can hold the lock
//! (flock(2)).

use alloc::ffi::CString;
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Timespec};
use rustix::io::Errno;

use crate::ground::time::Deadline;

/// The longest time between two attempts to get a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// A locked file. The drop unlocks it, even if a forked child still has the descriptor.
pub(crate) struct Lock(pub(crate) OwnedFd);

impl Lock {
    /// Locks `file`.
    ///
    /// # Errors
    /// The file, and `WOULDBLOCK` if another process holds the lock until `deadline`.
    pub(crate) fn by(deadline: Deadline, file: OwnedFd) -> Result<Lock, (OwnedFd, Errno)> {
        let mut pause = Duration::from_micros(100);
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(file)),
                Err(Errno::WOULDBLOCK | Errno::INTR) if !deadline.left().is_zero() => {
                    sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(errno) => return Err((file, errno)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// Sleeps until the time is over or a signal comes.
fn sleep(time: Duration) {
    let _ = rustix::thread::nanosleep(&Timespec {
        tv_sec: time.as_secs() as i64,
        tv_nsec: time.subsec_nanos().into(),
    });
}

/// Opens a file that only its owner can open, and so only its owner can lock.
///
/// # Errors
/// The system's own, and `MLINK` if the file has a second name.
pub(crate) fn open_private(
    directory: &OwnedFd,
    name: impl AsRef<str>,
) -> rustix::io::Result<OwnedFd> {
    let name = CString::new(name.as_ref()).map_err(|_| Errno::INVAL)?;
    let name = name.as_c_str();
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let private = Mode::from_raw_mode(0o600);
    let file = rustix::fs::openat(directory, name, flags, private)?;
    let stat = rustix::fs::fstat(&file)?;
    let mine = stat.st_uid == rustix::process::geteuid().as_raw();
    let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
    if mine && stat.st_mode & 0o077 == 0 && is_file {
        // By a second name it may be a file of the caller's for another purpose. Others can give
        // the lock such a name, so a new lock in its place would let two callers in at once.
        return match stat.st_nlink {
            0 | 1 => Ok(file),
            _ => Err(Errno::MLINK),
        };
    }
    // Somebody else may have it open already, so begin with a new one.
    rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    rustix::fs::openat(directory, name, flags | OFlags::EXCL, private)
}
