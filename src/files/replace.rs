//! The replacement of a file by a new one, in one step: a reader sees the old file or the new one.
//!
//! The new file is filled under a name of its own beside the old one, and then takes its place. The
//! name is `.NAME.new` for a writer that has the turn, and `.NAME.new.PROCESS.COUNT` for any other.
//!
//! A killed process leaves such a file behind. `.NAME.new` goes when the next writer with the turn
//! needs its name. [`remove_leftovers`] removes the others. A living writer holds a lock on its own
//! file (flock(2)), so that stays.

use alloc::borrow::ToOwned;
use alloc::ffi::CString;
use alloc::format;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::files::directory::{for_each_name, open_file, open_for_reading, os, stat_at};
use crate::ground::platform::{OsStr, OsStrExt};
use crate::ground::time::Mtime;

/// Follows the name of the old file in that of the new one.
const NEW: &str = ".new";

/// How many writers may replace a file at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writers {
    /// Only the caller, because it has the turn.
    One,
    /// Others, too, because the caller has no turn.
    Many,
}

/// Whether a new file took the place of an old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    Yes,
    /// Something is in that place which must stay.
    No,
}

/// A new file that can take the place of an old one. If it does not, the drop removes it.
pub(crate) struct Replacement<'a> {
    directory: &'a OwnedFd,
    /// The name of the file that it replaces.
    name: CString,
    /// The name that it has until it takes that place.
    new: CString,
    file: OwnedFd,
}

impl<'a> Replacement<'a> {
    /// Creates an empty file that can take the place of `name`. It can be read and written.
    pub(crate) fn create(
        directory: &'a OwnedFd,
        name: &(impl AsRef<OsStr> + ?Sized),
        mode: Mode,
        writers: Writers,
    ) -> rustix::io::Result<Replacement<'a>> {
        // The names are C strings: each conversion in a call would add 200 bytes to rpm's program.
        let name = c_string(name.as_ref())?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody else can open it, and so lock it, before its writer has.
        let private = Mode::RUSR | Mode::WUSR;
        loop {
            let new = new_name(&name, writers)?;
            let new = new.as_c_str();
            let file = match (rustix::fs::openat(directory, new, flags, private), writers) {
                (Ok(file), _) => file,
                // A killed process left it.
                (Err(Errno::EXIST), Writers::One) => {
                    remove(directory, new)?;
                    continue;
                }
                // A process of this number in another container may write it. Take the next count.
                (Err(Errno::EXIST), Writers::Many) => continue,
                (Err(errno), _) => return Err(errno),
            };
            let replacement = Replacement {
                directory,
                name: name.clone(),
                new: new.to_owned(),
                file,
            };
            if writers == Writers::Many && !lock(&replacement.file)? {
                continue; // It was taken for a leftover.
            }
            rustix::fs::fchmod(&replacement.file, mode)?; // The umask must not narrow it.
            return Ok(replacement);
        }
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Puts the new file in the place of the old one, if `may_go` accepts the old one.
    ///
    /// The method exchanges the two first, then shows `may_go` the old file under its new name. So
    /// nobody can swap the old file between that check and the replacement.
    pub(crate) fn take_place_if(
        self,
        may_go: impl Fn(&OsStr) -> bool,
    ) -> rustix::io::Result<Placed> {
        let (directory, name, new) = (self.directory, &*self.name, &*self.new);
        let rename = |from, to, flags| renameat_with(directory, from, directory, to, flags);
        loop {
            match rename(new, name, RenameFlags::EXCHANGE) {
                Ok(()) if may_go(os(new)) => return Ok(Placed::Yes),
                Ok(()) => {
                    let back = rename(new, name, RenameFlags::EXCHANGE);
                    if back.is_err() {
                        core::mem::forget(self); // The drop would remove the file that must stay.
                    }
                    return back.map(|()| Placed::No);
                }
                Err(Errno::NOENT) => match rename(new, name, RenameFlags::NOREPLACE) {
                    Err(Errno::EXIST) => continue,
                    Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                    renamed => return renamed.map(|()| Placed::Yes),
                },
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
            // The file system can do neither.
            return match may_go(os(name)) {
                true => renameat(directory, new, directory, name).map(|()| Placed::Yes),
                false => Ok(Placed::No),
            };
        }
    }

    /// Puts the new file in the place of the old one. Returns the mtime of the old one, if known.
    ///
    /// Exchanges the two if there is an old one. After a rename over a file, ext4 writes out the
    /// new file's data at once (`auto_da_alloc`, ext4(5)). That takes several times as long as the
    /// rest of a touch.
    pub(crate) fn take_place(self) -> rustix::io::Result<Option<Mtime>> {
        let (directory, name, new) = (self.directory, &*self.name, &*self.new);
        match renameat_with(directory, new, directory, name, RenameFlags::EXCHANGE) {
            // The drop removes the old file, which has the new one's name now.
            Ok(()) => {
                let old = stat_at(directory, new).ok().flatten();
                Ok(old.as_ref().map(Mtime::of))
            }
            // There is no old file, or the file system cannot exchange.
            Err(_) => renameat(directory, new, directory, name).map(|()| None),
        }
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        let _ = remove(self.directory, &*self.new);
    }
}

fn c_string(name: &OsStr) -> rustix::io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)
}

fn new_name(name: &CStr, writers: Writers) -> rustix::io::Result<CString> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut new = [b".", name.to_bytes(), NEW.as_bytes()].concat();
    if writers == Writers::Many {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = rustix::process::getpid();
        new.extend(format!(".{process}.{count}").bytes());
    }
    c_string(OsStr::from_bytes(&new))
}

/// Locks a new file for as long as its writer has it open. `false` if it was taken for a leftover.
fn lock(file: &OwnedFd) -> rustix::io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        // On a file system without locks nobody can take the file for a leftover.
        Ok(()) | Err(_) => Ok(rustix::fs::fstat(file)?.st_nlink > 0),
    }
}

/// Removes the new files that killed writers left. Those of living writers stay.
///
/// `is_ours` gets the name of a new file, and that of the file that it was to replace.
pub(crate) fn remove_leftovers(directory: &OwnedFd, is_ours: impl Fn(&OsStr, &OsStr) -> bool) {
    let mut left = Vec::new();
    if let Ok(listed) = open_for_reading(directory) {
        // The rest can be removed at another time.
        let _ = for_each_name(listed.as_fd(), |file| {
            if replaced_by(os(file)).is_some_and(|of| is_ours(os(file), of)) {
                left.push(os(file).to_owned());
            }
        });
    }
    for file in left {
        let lock = open_file(directory, &file, OFlags::RDONLY)
            .and_then(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file));
        if lock.is_ok() {
            let _ = remove(directory, &file);
        }
    }
}

/// The NAME, if `file` is `.NAME.new.PROCESS.COUNT`: a new file of a writer without the turn.
fn replaced_by(file: &OsStr) -> Option<&OsStr> {
    let mut parts = file
        .as_bytes()
        .strip_prefix(b".")?
        .rsplitn(3, |byte| *byte == b'.');
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let are_numbers = is_number(parts.next()?) && is_number(parts.next()?);
    let name = parts.next()?.strip_suffix(NEW.as_bytes())?;
    (are_numbers && !name.is_empty()).then(|| OsStr::from_bytes(name))
}

/// Removes a file, or an empty directory: a mount of a missing file leaves one in its place.
pub(crate) fn remove(directory: &OwnedFd, name: impl Arg) -> rustix::io::Result<()> {
    name.into_with_c_str(|name| match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(directory, name, AtFlags::REMOVEDIR),
        removed => removed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::write::write_all;

    /// A directory with a file, and its names and that file's text after `work`.
    fn after(work: impl FnOnce(&OwnedFd)) -> (Vec<String>, String) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "old").unwrap();
        work(&std::fs::File::open(scratch.path()).unwrap().into());
        let names = std::fs::read_dir(scratch.path()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let names = names.map(|entry| name(entry).into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        let text = std::fs::read_to_string(scratch.path().join("file")).unwrap();
        (names, text)
    }

    fn create(directory: &OwnedFd, writers: Writers) -> Replacement<'_> {
        let mode = Mode::from_raw_mode(0o600);
        let new = Replacement::create(directory, "file", mode, writers).unwrap();
        write_all(new.file(), b"new").unwrap();
        new
    }

    #[test]
    fn a_file_that_took_its_place_leaves_no_other() {
        for writers in [Writers::One, Writers::Many] {
            let (names, text) = after(|directory| {
                assert!(create(directory, writers).take_place().unwrap().is_some());
            });
            assert_eq!((names, &*text), (vec!["file".to_owned()], "new"));
        }
    }

    #[test]
    fn a_file_that_never_took_its_place_is_removed() {
        let (names, text) = after(|directory| drop(create(directory, Writers::One)));
        assert_eq!((names, &*text), (vec!["file".to_owned()], "old"));
    }

    #[test]
    fn a_file_of_another_purpose_is_not_taken_for_a_new_one() {
        let is_new = |file: &str| replaced_by(file.as_ref()) == Some("a".as_ref());
        assert!(is_new(".a.new.12.3"));
        for other in [
            ".a.new",
            ".a.news",
            ".a.new.lock",
            ".a.new.new.1.2",
            ".a.new.1",
            "a.new.1.2",
        ] {
            assert!(!is_new(other), "{other}");
        }
    }

    #[test]
    fn the_file_of_a_killed_writer_goes_and_that_of_a_living_one_stays() {
        let (names, text) = after(|directory| {
            let living = create(directory, Writers::Many);
            let dead = OFlags::CREATE | OFlags::WRONLY;
            for name in [".file.new.1.0", ".file.new.1.1", ".other.new.1.0"] {
                rustix::fs::openat(directory, name, dead, Mode::RUSR).unwrap();
            }
            remove_leftovers(directory, |_, of| of == "file");
            assert!(living.take_place().is_ok());
            std::mem::forget(create(directory, Writers::Many)); // It is open, and so alive.
            remove_leftovers(directory, |_, of| of == "file");
        });
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with(".file.new.") && names[0] != ".file.new.1.0");
        assert_eq!(
            (&*names[1], &*names[2], &*text),
            (".other.new.1.0", "file", "new")
        );
    }

    #[test]
    fn a_file_that_must_stay_keeps_its_place() {
        let stays = |directory: &OwnedFd| {
            let placed = create(directory, Writers::Many).take_place_if(|_| false);
            assert_eq!(placed, Ok(Placed::No));
        };
        assert_eq!(after(stays), (vec!["file".to_owned()], "old".to_owned()));
        let goes = |directory: &OwnedFd| {
            let placed = create(directory, Writers::Many).take_place_if(|_| true);
            assert_eq!(placed, Ok(Placed::Yes));
            remove(directory, "file").unwrap();
            let placed = create(directory, Writers::Many).take_place_if(|_| false);
            assert_eq!(placed, Ok(Placed::Yes), "there is nothing to stay");
        };
        assert_eq!(after(goes), (vec!["file".to_owned()], "new".to_owned()));
    }

    #[test]
    fn the_file_of_a_killed_writer_is_in_nobodys_way() {
        let (names, text) = after(|directory| {
            std::mem::forget(create(directory, Writers::One));
            create(directory, Writers::One).take_place().unwrap();
        });
        assert_eq!((names, &*text), (vec!["file".to_owned()], "new"));
    }
}
