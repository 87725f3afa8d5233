//! Trust: whether anyone but root and the caller could have redirected a path, or written a file.
//!
//! Judges opened descriptors, never names: a name may lead elsewhere a moment later.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::directory::{for_each_name, open_for_reading};
use crate::ground::platform::OsStr;

/// Room for an ACL of 127 entries. A longer one is not read, and then not trusted.
const LONGEST_ACL: usize = 1024;

/// Why somebody else could bend a way at one of its steps; `None` if nobody else could.
///
/// The caller's primary group may write a step. Distributions give each user a group, and let it
/// write the user's home (`USERGROUPS_ENAB`, login.defs(5)). Other members of that group can
/// replace files below the step. So an answer's file has to pass [`why_not_believed`], too.
pub(crate) fn why_bendable(step: BorrowedFd<'_>, stat: &Stat) -> Option<String> {
    if let Some(problem) = why_foreign(stat) {
        return Some(problem);
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Symlink {
        return None; // A link's own permissions mean nothing (symlink(7)).
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if kind.is_dir() && mode.contains(Mode::SVTX) {
        return None; // Like /tmp: others may add files, but only replace their own.
    }
    if mode.contains(Mode::WOTH) {
        return Some("can be written by every user".to_owned());
    }
    if !mode.contains(Mode::WGRP) {
        return None; // No ACL entry grants more: the group bits are its mask (acl(5)).
    }
    if !is_own_group(stat.st_gid) {
        return Some(format!("can be written by group {}", stat.st_gid));
    }
    why_bendable_by_acl(step, kind)
}

/// Why somebody else could have written an opened file; `None` if only root and the caller could.
///
/// Only the file is judged, even if others can write its directory. Files that others own are
/// refused. Others can restore an older answer of the caller's. Its own question and witness then
/// judge it.
pub(crate) fn why_not_believed(stat: &Stat) -> Option<String> {
    if let Some(problem) = why_foreign(stat) {
        return Some(problem);
    }
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Some("is not a regular file".to_owned());
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.contains(Mode::WOTH) {
        return Some("can be written by every user".to_owned());
    }
    // With an ACL these bits are its mask: no user or group that it names may do more (acl(5)).
    mode.contains(Mode::WGRP).then(|| {
        let group = stat.st_gid;
        format!("can be written by group {group} or by others that its ACL names")
    })
}

/// Why somebody else could have put a link into a directory; `None` if nobody else could.
///
/// The kernel's own rule is for sticky directories alone (`protected_symlinks`, proc_sys_fs(5)).
pub(crate) fn why_foreign_link(
    link: &Stat,
    directory: BorrowedFd<'_>,
) -> rustix::io::Result<Option<String>> {
    if let Some(problem) = why_foreign(link) {
        return Ok(Some(format!("is a symbolic link that {problem}")));
    }
    let stat = rustix::fs::fstat(directory)?;
    let problem = why_bendable(directory, &stat);
    let problem =
        problem.map(|problem| format!("is a symbolic link in a directory that {problem}"));
    match problem {
        None => why_linked(link, directory),
        problem => Ok(problem),
    }
}

/// Why somebody else could have given a file its name in `directory`; `None` if nobody else could.
///
/// Others can link a file of root's into a directory such as `/tmp`. `fs.protected_hardlinks`
/// forbids that (proc_sys_fs(5)), but it may be off.
pub(crate) fn why_linked(file: &Stat, directory: impl AsFd) -> rustix::io::Result<Option<String>> {
    let names = file.st_nlink;
    if names < 2 || FileType::from_raw_mode(file.st_mode).is_dir() {
        return Ok(None);
    }
    let is_open = can_others_add(&rustix::fs::fstat(directory)?);
    Ok(is_open.then(|| format!("has {names} names, in a directory to which others can add some")))
}

/// Whether others can replace the caller's files in a directory. An ACL shows in the group bits.
fn can_others_replace(directory: &Stat) -> bool {
    let mode = Mode::from_raw_mode(directory.st_mode);
    let is_open = mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.contains(Mode::SVTX);
    is_open || why_foreign(directory).is_some()
}

/// Whether others can add files to a directory.
pub(crate) fn can_others_add(directory: &Stat) -> bool {
    let mode = Mode::from_raw_mode(directory.st_mode);
    mode.intersects(Mode::WGRP | Mode::WOTH) || why_foreign(directory).is_some()
}

/// Opens the directory that the caller just made in `parent`, and gives it `mode`: the umask must
/// not hide the stamp from its readers.
///
/// If somebody else has put something in its place since, that is left alone. The inner error then
/// tells the problem.
pub(crate) fn open_made(
    parent: &OwnedFd,
    name: &OsStr,
    mode: Mode,
) -> rustix::io::Result<Result<OwnedFd, String>> {
    let replaced = || Ok(Err("was replaced by somebody else".to_owned()));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return replaced(),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&made)?;
    if let Some(problem) = why_bendable(made.as_fd(), &stat) {
        return Ok(Err(problem));
    }
    if stat.st_mode & 0o7777 != mode.as_raw_mode() {
        // Somebody may have moved a private directory of the caller's here. The new one is empty.
        let mut is_new = stat.st_uid == rustix::process::geteuid().as_raw();
        if is_new && can_others_replace(&rustix::fs::fstat(parent)?) {
            for_each_name(made.as_fd(), |_| is_new = false)?;
        }
        if !is_new {
            return replaced();
        }
        rustix::fs::fchmod(&made, mode)?;
    }
    Ok(Ok(made))
}

/// Why the owner is not trusted; `None` for root and the caller.
fn why_foreign(stat: &Stat) -> Option<String> {
    let owner = stat.st_uid;
    (!is_own_user(owner)).then(|| format!("belongs to user {owner}"))
}

pub(crate) fn is_own_user(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

fn is_own_group(group: u32) -> bool {
    group == 0 || group == rustix::process::getegid().as_raw()
}

/// Why a step's ACL lets others write; `None` if it does not, or if there is none.
fn why_bendable_by_acl(step: BorrowedFd<'_>, kind: FileType) -> Option<String> {
    let mut acl = [0; LONGEST_ACL];
    let mut read =
        |file: BorrowedFd<'_>| rustix::fs::fgetxattr(file, c"system.posix_acl_access", &mut acl);
    // An `O_PATH` descriptor cannot read an ACL, but a directory can be reopened by it (open(2)).
    let length = match kind.is_dir() {
        true => open_for_reading(step).and_then(|directory| read(directory.as_fd())),
        false => read(step),
    };
    let length = match length {
        Ok(length) => length,
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return None, // It has none.
        Err(Errno::BADF) => return None, // A file opened as a place: nothing is read from it.
        Err(_) => return Some("has an ACL that cannot be read".to_owned()),
    };
    // A version of 4 bytes; then entries of tag, permissions and id (linux/posix_acl_xattr.h).
    let (_, entries) = acl[..length].split_at_checked(4)?;
    entries.chunks_exact(8).find_map(|entry| {
        let [tag, _, permissions, _, id @ ..] = entry else {
            return None;
        };
        let id = u32::from_le_bytes(id.try_into().ok()?);
        match (tag, permissions & 2 != 0) {
            (2, true) if !is_own_user(id) => Some(format!("can be written by user {id}")),
            (8, true) if !is_own_group(id) => Some(format!("can be written by group {id}")),
            _ => None,
        }
    })
}
