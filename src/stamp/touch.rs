//! A touch: gives the stamp an mtime that it never had, later than every one before.
//!
//! A touch gives its time to a new file, which then takes the stamp's place. So a reader sees the
//! old stamp or the new one, and no time in between.
//!
//! Touches take turns by a lock. A touch that cannot get it adds a number of its own to its time,
//! in nanoseconds. So no two of them choose the same time. Each looks at the stamp that it
//! replaced. If that one was later, the touch goes on to a still later time. So a reader may see an
//! earlier time for a moment, but none that the stamp had before. Once all touches have ended, the
//! stamp's time is later than all others.
//!
//! Two limits of touches without the lock: on a file system that keeps whole seconds, such a moment
//! may bring an old time back. On one that cannot exchange two files, the last time may not be the
//! latest.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::files::directory::{open_file, stat_at};
use crate::files::trust::why_linked;
use crate::files::write::write_all;
use crate::ground::environment::image_is_being_built;
use crate::ground::error::{Error, Result};
use crate::ground::text::one_line;
use crate::ground::time::{Deadline, Mtime, Precision};
use crate::stamp::event::{Action, Event, TOUCHED};
use crate::stamp::later::later_than;
use crate::stamp::stamp::{Durability, Stamp};
use crate::stamp::turn::{Kept, Turn};

impl Stamp {
    /// Moves the stamp, and so makes every answer stale: the mtime becomes one that it never had.
    ///
    /// `by` and `why` are for people. Makes the stamp and its directory if they are missing.
    /// Returns the new mtime. Removes the kept witness of the modules, which
    /// [`Profile::touch`](crate::observe::profile::Profile::touch) replaces.
    ///
    /// While an image is built (`SOURCE_DATE_EPOCH` is set) a touch makes no first stamp, and
    /// returns `None`. No stamp is a valid state. The first update on a host with that image makes
    /// one.
    ///
    /// # Errors
    /// If the stamp's directory cannot be made or written, if somebody else could bend a step of
    /// its path, or if the stamp is not a regular file. The old stamp then stays. If only the sync
    /// to disk fails, the stamp has moved, and the error says so. On a full file system a stamp
    /// still moves, but keeps its old text.
    pub fn touch(&self, by: &str, why: &str, durability: Durability) -> Result<Option<Mtime>> {
        let event = Event::begin(Action::Touch, by, why);
        self.touch_for(event, durability, Deadline::of_touch(), &mut Vec::new())
    }

    /// Touches the stamp, and adds the event to the log. The wait for a turn ends at `deadline`.
    ///
    /// # Errors
    /// Like [`Stamp::touch`].
    pub(crate) fn touch_for(
        &self,
        mut event: Event,
        durability: Durability,
        deadline: Deadline,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Mtime>> {
        let Some((turn, mtime)) =
            self.move_by(&event.by, &event.why, durability, deadline, warnings)?
        else {
            return Ok(None);
        };
        event.add(TOUCHED);
        warnings.extend(turn.log(&event.end(deadline.spent())));
        turn.end(durability)?;
        Ok(Some(mtime))
    }

    /// Like [`Stamp::touch`], for rpm's program, which has one deadline for all its waiting. Adds
    /// `warnings` for people.
    ///
    /// The log gets no line of it. rpm's program touches several times in a transaction, and the
    /// touch at the end of the transaction is in the log.
    ///
    /// # Errors
    /// Like [`Stamp::touch`].
    #[doc(hidden)] // Only the programs use it.
    pub fn touch_by(
        &self,
        by: &str,
        why: &str,
        durability: Durability,
        deadline: Deadline,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Mtime>> {
        let Some((turn, mtime)) = self.move_by(by, why, durability, deadline, warnings)? else {
            return Ok(None);
        };
        turn.end(durability)?;
        Ok(Some(mtime))
    }

    /// Moves the stamp. `None` while an image is built.
    fn move_by(
        &self,
        by: &str,
        why: &str,
        durability: Durability,
        deadline: Deadline,
        warnings: &mut Vec<String>,
    ) -> Result<Option<(Turn<'_>, Mtime)>> {
        if self.waits_for_first_boot()? {
            return Ok(None);
        }
        let turn = self.take_turn_by(deadline)?;
        warnings.extend(turn.absurd_time());
        let mtime = turn.move_stamp(by, why, durability)?;
        warnings.extend(turn.missing_lock());
        Ok(Some((turn, mtime)))
    }

    /// Whether the host's first boot has to make the stamp, because an image is being built.
    ///
    /// That keeps images reproducible: a stamp has a time, and its witness has inode numbers.
    ///
    /// # Errors
    /// Like [`Stamp::mtime`].
    pub(crate) fn waits_for_first_boot(&self) -> Result<bool> {
        Ok(image_is_being_built() && self.mtime()?.is_none())
    }
}

/// A new mtime that the stamp got.
struct Placed {
    mtime: Mtime,
    /// The stamp's mtime just before that, if it is known.
    before: Option<Mtime>,
}

impl Turn<'_> {
    /// Moves the stamp. [`Turn::end`] then puts it on disk.
    ///
    /// # Errors
    /// Like [`Stamp::touch`].
    pub(crate) fn move_stamp(&self, by: &str, why: &str, durability: Durability) -> Result<Mtime> {
        // This touch outdates the kept witness; remove it first. Its reader compares the times, but
        // a plain touch could give the stamp its old time back.
        self.forget(Kept::Witness);
        let stat = stat_at(&self.directory, self.stamp.name());
        let stat = stat.map_err(|errno| self.stamp.refused(errno))?;
        if let Some(stat) = &stat {
            self.stamp.check_kind(stat)?;
        }
        let last = stat.as_ref().map(Mtime::of).max(self.latest_mtime());
        let mut last = last.unwrap_or(Mtime::BEGINNING);
        let author = format!("by: {}\nwhy: {}\n", one_line(by), one_line(why));
        loop {
            let placed = match self.replace_stamp(&author, last, durability) {
                Err(error) if stat.is_some() && is_full(&error) => {
                    self.move_in_place(last, durability)?
                }
                placed => placed?,
            };
            // This touch must also be later than one that somebody made meanwhile, by hand or
            // without the lock.
            match placed.before {
                Some(before) if before >= placed.mtime => last = before,
                _ => return Ok(placed.mtime),
            }
        }
    }

    /// Replaces the stamp by a file with an mtime after `last`.
    fn replace_stamp(&self, author: &str, last: Mtime, durability: Durability) -> Result<Placed> {
        let name = self.stamp.name();
        let refused = |errno: Errno| self.stamp.refused(errno);
        let new = self.replace(&name).map_err(refused)?;
        // The note tells the time, so first find one that the file system can store.
        let mtime = self.move_past(last, new.file())?;
        fill(new.file(), mtime, author).map_err(refused)?;
        let before = durability.sync(new.file()).and_then(|()| new.take_place());
        let before = before.map_err(refused)?;
        Ok(Placed { mtime, before })
    }

    /// Moves the stamp without a new file, for which there is no room.
    fn move_in_place(&self, last: Mtime, durability: Durability) -> Result<Placed> {
        let refused = |errno: Errno| self.stamp.refused(errno);
        let file = open_file(&self.directory, self.stamp.name(), OFlags::WRONLY);
        let file = file.map_err(refused)?;
        let stat = rustix::fs::fstat(&file).map_err(refused)?;
        self.stamp.check_kind(&stat)?;
        if let Some(problem) = why_linked(&stat, &self.directory).map_err(refused)? {
            return Err(self.stamp.not_moved(problem));
        }
        let mtime = self.move_past(last, &file)?;
        let not_on_disk = |errno| self.stamp.not_on_disk(errno);
        durability.sync(&file).map_err(not_on_disk)?;
        let before = Some(Mtime::of(&stat));
        Ok(Placed { mtime, before })
    }

    /// Gives a file an mtime later than `last`. Returns the time that the file system made of it.
    fn move_past(&self, last: Mtime, file: &OwnedFd) -> Result<Mtime> {
        let mut now = Mtime::now();
        if !self.is_locked() {
            now = now.max(last.plus(0, 1)).plus(0, own_number());
        }
        let stored = later_than(last, now, |wanted| {
            // Remember the time before anybody sees it. A touch that is killed then only skips it.
            self.remember(wanted);
            wanted.store_in(file)?;
            rustix::fs::fstat(file).map(|stat| Mtime::of(&stat))
        });
        let stored = stored.map_err(|errno| self.stamp.refused(errno))?;
        stored.ok_or_else(|| Error::NoLaterTime {
            path: self.stamp.path(),
            last,
        })
    }
}

/// A number that no other touch at this time has, of less than 2^28.
fn own_number() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let process = rustix::process::getpid().as_raw_nonzero().get() as u32;
    number_of(process, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Mixes a number from that of the process (below 2^22, `PID_MAX_LIMIT`, proc_sys_kernel(5)) and a
/// count, which begins again after 64.
///
/// Each step of the mixing is one to one, so numbers stay different. Without it, touches that
/// follow each other in two orders would add up to the same time.
fn number_of(process: u32, count: u32) -> u32 {
    let mix = |number: u32| (number ^ (number >> 14)).wrapping_mul(0x9e37_79b1) % (1 << 28);
    mix(mix(mix(process + ((count % 64) << 22))))
}

/// Fills a new stamp, and gives it its mtime again.
fn fill(new: &OwnedFd, mtime: Mtime, author: &str) -> rustix::io::Result<()> {
    let when = Mtime::now().utc(Precision::Second);
    let text = format!(
        "What counts is the modification time of this file; the text is for people.\n\
         mtime: {mtime}\nwhen: {when}\n{author}"
    );
    write_all(new, text.as_bytes())?;
    mtime.store_in(new) // The write moved it.
}

/// Whether there is no room for a new stamp, or none below the limit of file sizes (setrlimit(2)).
fn is_full(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::FBIG | Errno::DQUOT | Errno::NOSPC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::root::Root;

    #[test]
    fn a_stamp_moves_in_place_only_if_there_is_no_room_for_a_new_one() {
        let is_full = |errno: Errno| is_full(&Error::system("touch", "/a", errno, ""));
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(is_full(errno), "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::ROFS, Errno::NOENT] {
            assert!(!is_full(errno), "{errno}");
        }
    }

    #[test]
    fn a_touch_that_fails_for_another_cause_leaves_the_stamp_as_it_was() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let stamp = Stamp::system(&root, "qemu").unwrap();
        let touch = || stamp.touch("a test", "", Durability::NotSynced);
        touch().unwrap();
        let before = stamp.mtime().unwrap();
        let in_the_way = scratch.path().join("var/lib/modstamp/.qemu.stamp.new/full");
        std::fs::create_dir_all(in_the_way).unwrap();
        assert!(touch().is_err());
        assert_eq!(stamp.mtime().unwrap(), before);
    }

    #[test]
    fn a_stamp_that_others_could_have_linked_does_not_move_in_place() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let stamp = Stamp::system(&root, "qemu").unwrap();
        let turn = stamp.take_turn().unwrap();
        let last = turn.move_stamp("a test", "", Durability::NotSynced);
        let last = last.unwrap();
        let private = scratch.path().join("private");
        std::fs::hard_link(stamp.path(), &private).unwrap();
        let in_place = || turn.move_in_place(last, Durability::NotSynced).is_ok();
        let open_to = |mode: u32| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(stamp.path().parent().unwrap(), mode).unwrap();
        };
        open_to(0o1777);
        assert!(!in_place());
        assert_eq!(stamp.mtime().unwrap(), Some(last));
        open_to(0o755);
        assert!(in_place(), "nobody else could have linked it");
    }

    #[test]
    fn a_touch_adds_a_number_of_its_own_only_without_the_lock() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let stamp = Stamp::system(&root, "qemu").unwrap();
        let turn = stamp.take_turn().unwrap();
        turn.move_stamp("a test", "", Durability::NotSynced)
            .unwrap();
        // The clock is far behind, so each touch reckons from the last time.
        let last = Mtime::new(4_000_000_000, 0);
        last.store_in(std::fs::File::open(stamp.path()).unwrap())
            .unwrap();
        let next = turn.move_stamp("a test", "", Durability::NotSynced);
        let next = next.unwrap();
        assert_eq!(next, last.plus(0, 1));
        let late = Deadline::after(std::time::Duration::ZERO);
        let without = stamp.take_turn_by(late).unwrap();
        let third = without.move_stamp("a test", "", Durability::NotSynced);
        assert!(third.unwrap() > next.plus(0, 1));
    }

    #[test]
    fn two_touches_have_different_numbers() {
        assert_ne!(own_number(), own_number());
    }

    #[test]
    fn touches_of_all_processes_have_different_numbers() {
        // The lowest and the highest numbers of processes.
        let processes = (1..500).chain((1 << 22) - 500..1 << 22);
        let counts = processes.flat_map(|process| (0..64).map(move |count| (process, count)));
        let mut numbers: Vec<u32> = counts
            .map(|(process, count)| number_of(process, count))
            .collect();
        assert!(numbers.iter().all(|number| *number < 1 << 28));
        let all = numbers.len();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
        assert_eq!(number_of(1, 64), number_of(1, 0));
    }
}
