//! The turn: the exclusive right to change files in the stamp's directory.
//!
//! Turns are taken by a lock on a file of their own, `.<profile>.lock`, which only its owner can
//! open. Everybody can open the stamp, so everybody could hold a lock on it (flock(2)). The lock
//! file's mtime is the latest that the stamp ever had: a stamp that was removed goes on from there.
//!
//! Somebody, or a broken disk, may give the lock file a time far ahead. A stamp that is there does
//! not follow it ([`Memory`]). A stamp that is missing does: a repeated time would do more harm.
//!
//! A process that hangs may hold the lock for ever. So a touch that waited long enough goes on
//! without it. `touch.rs` explains how even such a touch leaves a time later than all others.
//!
//! A look is slow, and a turn makes others wait. So a caller looks first, then takes the turn. It
//! looks again only if the kept file's version changed meanwhile.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, Stat};
use rustix::io::Errno;

use crate::files::directory::stat_at;
use crate::files::lock::{Lock, open_private};
use crate::files::replace::{Replacement, Writers, remove, remove_leftovers};
use crate::files::root::mode_of_own;
use crate::files::way::{Steps, Stop};
use crate::files::write::write_all;
use crate::ground::error::{Error, Result};
use crate::ground::platform::{Path, PathBuf, io, os_str};
use crate::ground::text::Printable;
use crate::ground::time::{Deadline, Mtime, SECONDS_A_DAY};
use crate::stamp::stamp::{Durability, Owner, Stamp};

/// The longest wait of a touch. Only root and the stamp's owner can make a touch wait for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

impl Deadline {
    /// The end of all waiting of a touch, or of a trigger, that begins now.
    pub(crate) fn of_touch() -> Deadline {
        Deadline::after(PATIENCE)
    }
}

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

/// The exclusive right to change files in a stamp's directory. The drop ends it.
pub(crate) struct Turn<'a> {
    pub(crate) stamp: &'a Stamp,
    pub(crate) directory: OwnedFd,
    /// The number of levels of the directory that this turn made.
    made: usize,
    hold: Hold,
}

/// How a turn keeps others out.
enum Hold {
    Locked(Lock),
    /// Not at all: the wait was too long. Others may change the files at the same time.
    TooLong(OwnedFd),
    /// Not at all: the lock file cannot be opened or locked.
    NoLock(Errno),
}

/// What the lock file tells of the stamp's latest mtime.
enum Memory {
    /// Nothing: no touch stored it, or the file cannot be looked at.
    Nothing,
    Latest(Mtime),
    /// A time that no touch stored. It is more than a day ahead of the stamp, of the clock, and of
    /// the clock at the moment when it was stored.
    Absurd,
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
    pub(crate) fn open_kept(&self, kept: Kept) -> core::result::Result<OwnedFd, Stop> {
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

    /// The mtime that the last touch of ours left. A plain `touch FILE` since then changes nothing.
    ///
    /// # Errors
    /// The system's own.
    pub(crate) fn last_own_mtime(&self) -> io::Result<Option<Mtime>> {
        let lock = self.root.stat(&self.directory.join(self.lock_name()))?;
        Ok(lock.as_ref().and_then(remembered))
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

    /// Takes a turn. Makes the stamp's directory, if it is missing.
    ///
    /// # Errors
    /// If the directory cannot be made or opened, or if somebody else could bend the way to it.
    pub(crate) fn take_turn(&self) -> Result<Turn<'_>> {
        self.take_turn_by(Deadline::of_touch())
    }

    /// Like [`Stamp::take_turn`], for a caller that has waited already.
    pub(crate) fn take_turn_by(&self, deadline: Deadline) -> Result<Turn<'_>> {
        let mode_of: &dyn Fn(&Path) -> Mode = match self.owner() {
            Owner::System => &|_| Mode::from_raw_mode(0o755),
            Owner::User => &mode_of_own,
        };
        let (directory, made) =
            self.root
                .make_directory(&self.directory, mode_of)
                .map_err(|stop| {
                    let remedy = match stop.is_missing() {
                        // A missing directory would have been made.
                        true => "remove what is in a directory's place, such as a dangling link",
                        false => self.owner_remedy(),
                    };
                    stop.into_error("touch the stamp", self.path(), remedy)
                })?;
        let lock = open_private(&directory, self.lock_name());
        let hold = match lock.map(|lock| Lock::by(deadline, lock)) {
            Ok(Ok(lock)) => Hold::Locked(lock),
            Ok(Err((file, Errno::WOULDBLOCK))) => Hold::TooLong(file),
            Ok(Err((_, errno))) | Err(errno) => Hold::NoLock(errno),
        };
        Ok(Turn {
            stamp: self,
            directory,
            made,
            hold,
        })
    }
}

impl Turn<'_> {
    /// Puts a file with that text in the place of the kept one.
    pub(crate) fn keep(
        &self,
        kept: Kept,
        text: &str,
        durability: Durability,
    ) -> rustix::io::Result<()> {
        self.keep_with(kept, text, durability, |_| Ok(()))
    }

    /// Like [`Turn::keep`], but `prepare` can set the new file's mtime before anybody sees it.
    ///
    /// # Errors
    /// The system's own, and those of `prepare`.
    pub(crate) fn keep_with<E: From<Errno>>(
        &self,
        kept: Kept,
        text: &str,
        durability: Durability,
        prepare: impl FnOnce(&OwnedFd) -> core::result::Result<(), E>,
    ) -> core::result::Result<(), E> {
        // rpm's program keeps nothing, so it spends no time on this.
        remove_leftovers(&self.directory, |_, of| self.stamp.is_beside(of));
        let name = kept.name(self.stamp);
        let new = self.replace(&name)?;
        write_all(new.file(), text.as_bytes())?;
        prepare(new.file())?;
        durability.sync(new.file())?;
        new.take_place()?;
        Ok(durability.sync(&self.directory)?)
    }

    /// Removes a kept file.
    pub(crate) fn forget(&self, kept: Kept) {
        let _ = remove(&self.directory, kept.name(self.stamp));
    }

    /// Begins to replace a file of the directory. Everybody may read the new one.
    pub(crate) fn replace<'a>(&'a self, name: &'a str) -> rustix::io::Result<Replacement<'a>> {
        let writers = match self.is_locked() {
            true => Writers::One,
            false => Writers::Many,
        };
        Replacement::create(&self.directory, name, Mode::from_raw_mode(0o644), writers)
    }

    /// Whether nobody else changes the files meanwhile.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.hold, Hold::Locked(_))
    }

    /// Warns people if the lock file has an absurd time.
    ///
    /// The caller must ask before it moves the stamp, because a move corrects that time.
    pub(crate) fn absurd_time(&self) -> Option<String> {
        matches!(self.memory(), Memory::Absurd).then(|| {
            format!(
                "the time of {} is more than a day ahead of the clock and the stamp, so the stamp \
                 does not go on from there; see that nothing but modstamp changes that file",
                Printable(os_str(&self.lock_path()))
            )
        })
    }

    fn lock_path(&self) -> PathBuf {
        self.stamp.path().with_file_name(self.stamp.lock_name())
    }

    /// Warns people if this turn kept nobody out. The caller asks after the stamp moved.
    pub(crate) fn missing_lock(&self) -> Option<String> {
        let (cause, remedy) = match self.hold {
            Hold::Locked(_) => return None,
            Hold::TooLong(_) => (
                io::Error::other("timed out"),
                "modstamp went on without it; if the process that lslocks(8) names hangs, end it",
            ),
            Hold::NoLock(errno) => (
                io::Error::from(errno),
                "modstamp went on without it; make it writable",
            ),
        };
        Some(Error::system("lock", self.lock_path(), cause, remedy).to_string())
    }

    fn lock_file(&self) -> Option<&OwnedFd> {
        match &self.hold {
            Hold::Locked(Lock(file)) | Hold::TooLong(file) => Some(file),
            Hold::NoLock(_) => None,
        }
    }

    fn memory(&self) -> Memory {
        let lock = self.lock_file().map(rustix::fs::fstat);
        let Some(Ok(lock)) = lock else {
            return Memory::Nothing;
        };
        let Some(latest) = remembered(&lock) else {
            return Memory::Nothing;
        };
        let is_near = |time: Mtime| latest <= time.plus(SECONDS_A_DAY, 0);
        // The kernel sets the ctime by the clock, whatever mtime it stores.
        if is_near(Mtime::of_ctime(&lock)) || is_near(Mtime::now()) {
            return Memory::Latest(latest);
        }
        match stat_at(&self.directory, self.stamp.name()) {
            Ok(Some(stamp)) if !is_near(Mtime::of(&stamp)) => Memory::Absurd,
            _ => Memory::Latest(latest),
        }
    }

    /// The latest mtime that the stamp ever had, as far as the lock file knows.
    pub(crate) fn latest_mtime(&self) -> Option<Mtime> {
        match self.memory() {
            Memory::Latest(latest) => Some(latest),
            Memory::Nothing | Memory::Absurd => None,
        }
    }

    /// Has the lock file remember an mtime that the stamp is about to get. It forgets no later one,
    /// which another touch without the lock may have left.
    pub(crate) fn remember(&self, mtime: Mtime) {
        let latest = self.latest_mtime();
        let Some(file) = self.lock_file().filter(|_| latest < Some(mtime)) else {
            return;
        };
        if latest.is_none() {
            let _ = rustix::fs::ftruncate(file, 1);
        }
        let _ = mtime.store_in(file);
    }

    /// Ends the turn, and puts the names in the directory on disk.
    ///
    /// # Errors
    /// If the system cannot write them.
    pub(crate) fn end(self, durability: Durability) -> Result<()> {
        drop(self.hold); // Nobody has to wait for the disk.
        if durability == Durability::NotSynced {
            return Ok(());
        }
        let refused = |errno| self.stamp.not_on_disk(errno);
        rustix::fs::fsync(&self.directory).map_err(refused)?;
        // The names of new levels are in their parents. A touch that did not sync may have made the
        // last level, so sync one parent at least.
        let parents = self.stamp.directory.ancestors().skip(1);
        for parent in parents.take(self.made.max(1)) {
            if let Ok(parent) = self.stamp.root.read(parent, Steps::Any) {
                rustix::fs::fsync(&parent).map_err(refused)?;
            }
        }
        Ok(())
    }
}

/// The mtime that a lock file remembers. The mtime of an empty one is that of its creation.
fn remembered(lock: &Stat) -> Option<Mtime> {
    (lock.st_size > 0).then(|| Mtime::of(lock))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::root::Root;

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

    #[test]
    fn the_time_of_a_lock_file_counts_only_if_the_file_is_not_empty() {
        let ahead = Mtime::new(4_000_000_000, 0);
        for (text, is_remembered) in [("", false), ("\0", true)] {
            let (_scratch, stamp) = touched();
            std::fs::remove_file(stamp.path()).unwrap();
            let lock = stamp.path().with_file_name(stamp.lock_name());
            std::fs::write(&lock, text).unwrap();
            ahead.store_in(std::fs::File::open(&lock).unwrap()).unwrap();
            let turn = stamp.take_turn().unwrap();
            let next = turn.move_stamp("a test", "", Durability::NotSynced);
            assert_eq!(next.unwrap() > ahead, is_remembered, "{text:?}");
        }
    }
}
