//! The bound of a cache: how many bytes its answers may have together. The oldest go first.
//!
//! A caller removes an answer while it holds the answer's lock, and then removes the lock. So an
//! answer that another caller is about to replace stays. A caller that waited for a removed lock
//! takes a new one (`shelf.rs`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FlockOperation, OFlags, Stat, flock, fstat, unlinkat};
use rustix::io::Errno;

use crate::act::stored::Stored;
use crate::files::directory::{for_each_name, open_file, open_for_reading, os, stat_at};
use crate::files::lock::Lock;
use crate::ground::time::Mtime;

/// The most bytes of all answers in a cache, and of one answer's output.
pub(crate) const MOST_BYTES: u64 = 256 << 20;

/// A small answer counts as this many bytes, because a file takes a block of its file system.
const FEWEST_BYTES: u64 = 4096;

/// The length of an answer's name in a cache: a hash in hexadecimal digits.
const NAME_LENGTH: usize = 16;

/// Whether an answer in a cache may have that name. A lock's name is longer.
pub(crate) fn is_name_of_answer(name: &OsStr) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.len() == NAME_LENGTH && name.as_bytes().iter().all(is_digit)
}

const LOCK: &str = ".modstamp-lock";

/// The name of the lock of the answer `name`.
pub(crate) fn lock_name(name: &OsStr) -> String {
    format!(".{}{LOCK}", name.to_string_lossy())
}

/// The name of the answer that belongs to the lock. `None` if `lock` is not a lock's name.
fn locked_by(lock: &OsStr) -> Option<&OsStr> {
    let name = lock.as_bytes().strip_prefix(b".")?;
    let name = OsStr::from_bytes(name.strip_suffix(LOCK.as_bytes())?);
    is_name_of_answer(name).then_some(name)
}

/// An answer in a cache.
struct Kept {
    name: OsString,
    mtime: Mtime,
    bytes: u64,
}

/// Removes the oldest answers of a cache until the rest is within its bound. Also removes locks
/// without an answer.
///
/// The answer `newest` and its lock stay. `is_ours` tells whether only root and the caller could
/// have made a file. Other files are neither counted nor removed. The same holds for a file of the
/// caller's own that only has an answer's name. A failure leaves the rest for the next time.
pub(crate) fn make_room(directory: &OwnedFd, newest: &OsStr, is_ours: impl Fn(&Stat) -> bool) {
    let (mut answers, mut locks) = (Vec::new(), Vec::new());
    if let Ok(listed) = open_for_reading(directory) {
        let _ = for_each_name(listed.as_fd(), |file| {
            let name = os(file);
            if is_name_of_answer(name) {
                answers.extend(kept(directory, name, &is_ours));
            } else {
                locks.extend(locked_by(name).map(OsStr::to_owned));
            }
        });
    }
    let mut bytes: u64 = answers.iter().map(|kept| kept.bytes).sum();
    answers.sort_by(|a, b| (a.mtime, &a.name).cmp(&(b.mtime, &b.name)));
    for old in answers.iter().filter(|kept| kept.name != newest) {
        if bytes <= MOST_BYTES {
            break;
        }
        if remove_answer(directory, &old.name, &is_ours).is_ok() {
            bytes -= old.bytes;
        }
    }
    let is_unused = |name: &OsString| matches!(stat_at(directory, name), Ok(None));
    for name in locks.iter().filter(|name| *name != newest) {
        if is_unused(name) {
            let _ = remove_lock(directory, name, &is_ours);
        }
    }
}

/// The answer `name`; `None` if that file is somebody else's, or holds no answer.
fn kept(directory: &OwnedFd, name: &OsStr, is_ours: impl Fn(&Stat) -> bool) -> Option<Kept> {
    let file = File::from(open_file(directory, name, OFlags::RDONLY).ok()?);
    let stat = fstat(&file).ok().filter(is_ours)?;
    Stored::is_in(&file).ok()?.then_some(())?;
    Some(Kept {
        name: name.to_owned(),
        mtime: Mtime::of(&stat),
        bytes: stat.st_size.unsigned_abs().max(FEWEST_BYTES),
    })
}

/// Removes an answer and its lock.
///
/// # Errors
/// If somebody holds the lock, if the answer is gone, or if the system fails.
fn remove_answer(
    directory: &OwnedFd,
    name: &OsStr,
    is_ours: impl Fn(&Stat) -> bool,
) -> rustix::io::Result<()> {
    let lock = take_lock(directory, name, &is_ours)?;
    // The caller may have put another file there since.
    kept(directory, name, is_ours).ok_or(Errno::NOENT)?;
    unlinkat(directory, name, AtFlags::empty())?;
    match lock {
        Some(_) => unlinkat(directory, lock_name(name), AtFlags::empty()),
        None => Ok(()),
    }
}

/// Removes the lock of an answer that is gone.
fn remove_lock(
    directory: &OwnedFd,
    name: &OsStr,
    is_ours: impl Fn(&Stat) -> bool,
) -> rustix::io::Result<()> {
    match take_lock(directory, name, is_ours)? {
        Some(_) => unlinkat(directory, lock_name(name), AtFlags::empty()),
        None => Ok(()),
    }
}

/// Takes the lock of the answer `name` if nobody holds it. `None` if there is no such lock, or if
/// the file is somebody else's.
fn take_lock(
    directory: &OwnedFd,
    name: &OsStr,
    is_ours: impl Fn(&Stat) -> bool,
) -> rustix::io::Result<Option<Lock>> {
    let file = match open_file(directory, lock_name(name), OFlags::RDWR) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    if !is_ours(&fstat(&file)?) {
        return Ok(None);
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    let lock = Lock(file);
    match fstat(&lock.0)?.st_nlink {
        0 => Err(Errno::NOENT), // Another caller made room meanwhile.
        _ => Ok(Some(lock)),
    }
}
