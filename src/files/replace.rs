//! The replacement of a file by a new one, in one step: a reader sees the old file or the new one.
//!
//! The new file is filled under a name of its own beside the old one, and then takes its place. The
//! name is `.NAME.new` for a writer that has the turn, and `.NAME.new.PROCESS.COUNT` for any other.
//! A killed process leaves such a file behind. The next writer with the turn removes `.NAME.new`.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::files::directory::stat_at;
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

/// A new file that can take the place of an old one. If it does not, the drop removes it.
pub(crate) struct Replacement<'a> {
    directory: &'a OwnedFd,
    /// The name of the file that it replaces.
    name: &'a OsStr,
    /// The name that it has until it takes that place.
    new: OsString,
    file: File,
}

impl<'a> Replacement<'a> {
    /// Creates an empty file that can take the place of `name`. It can be read and written.
    pub(crate) fn create(
        directory: &'a OwnedFd,
        name: &'a (impl AsRef<OsStr> + ?Sized),
        mode: Mode,
        writers: Writers,
    ) -> rustix::io::Result<Replacement<'a>> {
        let name = name.as_ref();
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (new, file) = loop {
            let new = new_name(name, writers);
            match (rustix::fs::openat(directory, &new, flags, mode), writers) {
                (Ok(file), _) => break (new, file),
                // A killed process left it.
                (Err(Errno::EXIST), Writers::One) => remove(directory, &new)?,
                // A process of this number in another container may write it. Take the next count.
                (Err(Errno::EXIST), Writers::Many) => {}
                (Err(errno), _) => return Err(errno),
            }
        };
        let replacement = Replacement {
            directory,
            name,
            new,
            file: file.into(),
        };
        rustix::fs::fchmod(&replacement.file, mode)?; // The umask must not narrow it.
        Ok(replacement)
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the new file in the place of the old one. Returns the mtime of the old one, if known.
    ///
    /// Exchanges the two if there is an old one. After a rename over a file, ext4 writes out the
    /// new file's data at once (`auto_da_alloc`, ext4(5)). That takes several times as long as the
    /// rest of a touch.
    pub(crate) fn take_place(self) -> rustix::io::Result<Option<Mtime>> {
        // As C strings, because each conversion in a call costs rpm's program 200 bytes.
        let c_string = |name: &OsStr| CString::new(name.as_bytes()).map_err(|_| Errno::INVAL);
        let (directory, name, new) = (self.directory, c_string(self.name)?, c_string(&self.new)?);
        let (name, new) = (name.as_c_str(), new.as_c_str());
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
        let _ = remove(self.directory, &self.new);
    }
}

fn new_name(name: &OsStr, writers: Writers) -> OsString {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut new = OsString::from(".");
    new.push(name);
    new.push(NEW);
    if writers == Writers::Many {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        new.push(format!(".{}.{count}", std::process::id()));
    }
    new
}

/// Whether `file` is `.NAME.new.PROCESS.COUNT`: a new file that a writer without the turn made.
pub(crate) fn is_new_file_of(name: &OsStr, file: &OsStr) -> bool {
    let rest = file.as_bytes().strip_prefix(b".");
    let rest = rest.and_then(|rest| rest.strip_prefix(name.as_bytes()));
    let rest = rest.and_then(|rest| rest.strip_prefix(NEW.as_bytes()));
    let numbers = rest
        .and_then(|rest| rest.strip_prefix(b"."))
        .unwrap_or_default();
    let mut numbers = numbers.split(|byte| *byte == b'.');
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    numbers.clone().count() == 2 && numbers.all(is_number)
}

/// Removes a file, or an empty directory: a mount of a missing file leaves one in its place.
pub(crate) fn remove(directory: &OwnedFd, name: impl AsRef<OsStr>) -> rustix::io::Result<()> {
    let name = name.as_ref();
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(directory, name, AtFlags::REMOVEDIR),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A directory with a file, and its names and that file's text after `work`.
    fn after(work: impl FnOnce(&OwnedFd)) -> (Vec<String>, String) {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("file"), "old").unwrap();
        work(&File::open(scratch.path()).unwrap().into());
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
        new.file().write_all(b"new").unwrap();
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
        let is_new = |file: &str| is_new_file_of("a".as_ref(), file.as_ref());
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
    fn the_file_of_a_killed_writer_is_in_nobodys_way() {
        let (names, text) = after(|directory| {
            std::mem::forget(create(directory, Writers::One));
            create(directory, Writers::One).take_place().unwrap();
        });
        assert_eq!((names, &*text), (vec!["file".to_owned()], "new"));
    }
}
