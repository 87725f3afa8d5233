//! A file that is kept beside a stamp, and its version.
//!
//! A look is slow, and a turn makes others wait. So a caller looks first, then takes the turn. It
//! looks again only if the kept file's version changed meanwhile.

use std::io;
use std::os::fd::OwnedFd;

use crate::files::way::Stop;
use crate::ground::error::Result;
use crate::ground::time::Mtime;
use crate::stamp::stamp::Stamp;
use crate::stamp::turn::Turn;

/// A file that is kept beside a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// `<profile>.witness`: the modules as they were at the last touch.
    Witness,
    /// `<profile>.libvirt`: the record of the last refresh of libvirt.
    #[cfg_attr(not(feature = "libvirt"), allow(dead_code))]
    LibvirtRecord,
    /// `<profile>.remedies`: the record of the last remedy of each cache of another program.
    RemedyRecord,
}

/// Tells whether a kept file was replaced, removed or written between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Each touch outdates the kept witness, so the stamp's mtime is a part of its version.
    Witness {
        stamp: Option<Mtime>,
        file: Option<FileVersion>,
    },
    /// The caller of a refresh touches the stamp first, so this version leaves the stamp out. The
    /// witness in the record has the stamp's mtime, and a check compares that.
    Record {
        kept: Kept,
        file: Option<FileVersion>,
    },
}

/// Differs after every change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileVersion {
    inode: u64,
    ctime: Mtime,
}

/// A value, and the version that a kept file had just before the value was looked up.
#[derive(Debug)]
pub(crate) struct Versioned<T> {
    version: Version,
    pub(crate) value: T,
}

impl<T> Versioned<T> {
    /// Another value of the same version.
    #[cfg(feature = "libvirt")]
    pub(crate) fn map<U>(self, value: impl FnOnce(T) -> U) -> Versioned<U> {
        Versioned {
            version: self.version,
            value: value(self.value),
        }
    }
}

impl Kept {
    /// The file's name in the stamp's directory.
    pub(crate) fn name(self, stamp: &Stamp) -> String {
        stamp.name_beside(self.extension())
    }

    fn extension(self) -> &'static str {
        match self {
            Kept::Witness => "witness",
            Kept::LibvirtRecord => "libvirt",
            Kept::RemedyRecord => "remedies",
        }
    }
}

impl Stamp {
    /// Opens a kept file for reading.
    ///
    /// # Errors
    /// If it is missing, cannot be reached, or could have been written by somebody else.
    pub(crate) fn open_kept(&self, kept: Kept) -> std::result::Result<OwnedFd, Stop> {
        self.open_beside(kept.extension())
    }

    /// Like `open_kept`; `None` if there is no file, or if somebody else could have written it.
    ///
    /// # Errors
    /// The system's own.
    pub(crate) fn find_kept(&self, kept: Kept) -> io::Result<Option<OwnedFd>> {
        match self.open_kept(kept) {
            Ok(file) => Ok(Some(file)),
            Err(Stop::Untrusted { .. }) => Ok(None),
            Err(stop) if stop.leads_nowhere() => Ok(None),
            Err(stop) => Err(stop.into()),
        }
    }

    /// Whether a look shows that a kept file is missing. If the look fails, it may be there.
    #[cfg(feature = "libvirt")]
    pub(crate) fn lacks_kept(&self, kept: Kept) -> bool {
        let path = self.directory.join(kept.name(self));
        matches!(self.root.stat(&path), Ok(None))
    }

    fn version(&self, kept: Kept) -> Version {
        let stat = |file: OwnedFd| rustix::fs::fstat(file).ok();
        let stat = self.open_kept(kept).ok().and_then(stat);
        let file = stat.map(|stat| FileVersion {
            inode: stat.st_ino,
            ctime: Mtime::of_ctime(&stat),
        });
        match kept {
            Kept::Witness => Version::Witness {
                stamp: self.mtime().ok().flatten(),
                file,
            },
            Kept::LibvirtRecord | Kept::RemedyRecord => Version::Record { kept, file },
        }
    }

    /// Looks a value up, and notes the version of a kept file before that.
    ///
    /// # Errors
    /// Those of `look`.
    pub(crate) fn look<T>(
        &self,
        kept: Kept,
        look: impl FnOnce() -> Result<T>,
    ) -> Result<Versioned<T>> {
        let version = self.version(kept);
        let value = look()?;
        Ok(Versioned { version, value })
    }

    /// The value, or that of another look if somebody else changed the kept file since.
    ///
    /// The caller has the turn, so that nobody can change it afterwards.
    ///
    /// # Errors
    /// Those of `look`.
    pub(crate) fn look_again_if_changed<T>(
        &self,
        seen: Versioned<T>,
        look: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match self.is_unchanged(&seen) {
            true => Ok(seen.value),
            false => look(),
        }
    }

    /// Takes a turn; `None` if somebody else changed the kept file since the look.
    pub(crate) fn take_turn_if_unchanged<T>(&self, seen: &Versioned<T>) -> Option<Turn<'_>> {
        let turn = self.take_turn().ok()?;
        self.is_unchanged(seen).then_some(turn)
    }

    fn is_unchanged<T>(&self, seen: &Versioned<T>) -> bool {
        let kept = match seen.version {
            Version::Witness { .. } => Kept::Witness,
            Version::Record { kept, .. } => kept,
        };
        self.version(kept) == seen.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::root::Root;
    use crate::stamp::stamp::Durability;

    /// A stamp in a root of its own, after a touch that kept a witness and a record.
    fn touched() -> (tempfile::TempDir, Stamp) {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let stamp = Stamp::system(&root, "qemu").unwrap();
        let turn = stamp.take_turn().unwrap();
        turn.move_stamp("a test", "", Durability::NotSynced)
            .unwrap();
        for kept in [Kept::Witness, Kept::LibvirtRecord] {
            turn.keep(kept, "", Durability::NotSynced).unwrap();
        }
        drop(turn);
        (scratch, stamp)
    }

    fn is_repeated(stamp: &Stamp, kept: Kept, meanwhile: impl FnOnce(&Turn)) -> bool {
        let seen = stamp.look(kept, || Ok(false)).unwrap();
        meanwhile(&stamp.take_turn().unwrap());
        let is_unchanged = stamp.take_turn_if_unchanged(&seen).is_some();
        let is_repeated = stamp.look_again_if_changed(seen, || Ok(true)).unwrap();
        assert_eq!(is_unchanged, !is_repeated);
        is_repeated
    }

    #[test]
    fn a_look_is_repeated_if_the_kept_file_changed_meanwhile_and_only_then() {
        let (_scratch, stamp) = touched();
        for kept in [Kept::Witness, Kept::LibvirtRecord] {
            assert!(!is_repeated(&stamp, kept, |_| ()), "{kept:?}");
            let replace = |turn: &Turn| turn.keep(kept, "", Durability::NotSynced).unwrap();
            assert!(is_repeated(&stamp, kept, replace), "{kept:?}");
            assert!(
                is_repeated(&stamp, kept, |turn| turn.forget(kept)),
                "{kept:?}"
            );
        }
    }

    #[test]
    fn a_touch_meanwhile_outdates_a_look_for_the_witness_but_none_for_the_record() {
        let (_scratch, stamp) = touched();
        let touch = |turn: &Turn| {
            turn.move_stamp("a test", "", Durability::NotSynced)
                .unwrap();
        };
        assert!(is_repeated(&stamp, Kept::Witness, touch));
        assert!(!is_repeated(&stamp, Kept::LibvirtRecord, touch));
    }
}
