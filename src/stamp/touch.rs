//! A touch: gives the stamp an mtime that it never had, later than every one before.
//!
//! A touch gives its time to a new file, which then takes the stamp's place. So a reader sees the
//! old stamp or the new one, and no time in between.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};

use rustix::fs::OFlags;

use crate::files::directory::{open_file, stat_at};
use crate::files::replace::Replacement;
use crate::ground::environment::image_is_being_built;
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;
use crate::stamp::later::later_than;
use crate::stamp::stamp::{Durability, Stamp};
use crate::stamp::turn::{Kept, Turn};

/// The longest text of a note's line, in characters.
const LONGEST_LINE: usize = 500;

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
    /// its path, or if the stamp is not a regular file. The old stamp then stays. On a full file
    /// system a stamp still moves, but its text stays the old one.
    pub fn touch(&self, by: &str, why: &str, durability: Durability) -> Result<Option<Mtime>> {
        if self.waits_for_first_boot()? {
            return Ok(None);
        }
        let turn = self.take_turn()?;
        let mtime = turn.move_stamp(by, why, durability)?;
        turn.end(durability)?;
        Ok(Some(mtime))
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

/// A new stamp that took its place.
struct Placed {
    mtime: Mtime,
    /// The mtime of the stamp that was replaced, if it is known.
    before: Option<Mtime>,
}

impl Turn<'_> {
    /// Moves the stamp. [`Turn::end`] then puts it on disk.
    ///
    /// # Errors
    /// Like [`Stamp::touch`].
    pub(crate) fn move_stamp(&self, by: &str, why: &str, durability: Durability) -> Result<Mtime> {
        // This touch outdates the kept witness; remove it first.
        self.forget(Kept::Witness);
        let stat = stat_at(&self.directory, self.stamp.name());
        let stat = stat.map_err(|errno| self.stamp.refused(errno))?;
        if let Some(stat) = &stat {
            self.stamp.check_kind(stat)?;
        }
        let mut last = stat.as_ref().map(Mtime::of).max(self.latest_mtime());
        let author = format!("by: {}\nwhy: {}\n", one_line(by), one_line(why));
        loop {
            let placed = match self.replace_stamp(&author, last, durability) {
                Err(error) if stat.is_some() && is_full(&error) => {
                    return self.move_in_place(last, durability);
                }
                placed => placed?,
            };
            // This touch must also be later than one that somebody made by hand meanwhile.
            match placed.before {
                Some(by_hand) if by_hand >= placed.mtime => last = Some(by_hand),
                _ => return Ok(placed.mtime),
            }
        }
    }

    /// Replaces the stamp by a file with an mtime after `last`.
    fn replace_stamp(
        &self,
        author: &str,
        last: Option<Mtime>,
        durability: Durability,
    ) -> Result<Placed> {
        let name = self.stamp.name();
        let new = self
            .replace(&name)
            .map_err(|errno| self.stamp.refused(errno))?;
        // The note tells the time, so first find one that the file system can store.
        let mtime = self.move_past(last, |wanted| set_mtime(new.file(), wanted))?;
        let before = self.fill(new, mtime, author, durability);
        let before = before.map_err(|error| self.stamp.refused(error))?;
        Ok(Placed { mtime, before })
    }

    /// Fills a new stamp, and puts it in place. Returns the mtime of the old one, if it is known.
    fn fill(
        &self,
        new: Replacement<'_>,
        mtime: Mtime,
        author: &str,
        durability: Durability,
    ) -> io::Result<Option<Mtime>> {
        let when = Mtime::now().utc();
        let text = format!(
            "What counts is the modification time of this file; the text is for people.\n\
             mtime: {mtime}\nwhen: {when}\n{author}"
        );
        new.file().write_all(text.as_bytes())?;
        mtime.store_in(new.file())?; // The write moved it.
        durability.sync(new.file())?;
        // Remember the time before anybody sees it. A touch that is killed here only skips a time.
        self.remember(mtime);
        Ok(new.take_place()?)
    }

    /// Moves the stamp without a new file, for which there is no room.
    fn move_in_place(&self, last: Option<Mtime>, durability: Durability) -> Result<Mtime> {
        let refused = |errno| self.stamp.refused(errno);
        let file = open_file(&self.directory, self.stamp.name(), OFlags::WRONLY);
        let file = File::from(file.map_err(refused)?);
        let stat = rustix::fs::fstat(&file).map_err(refused)?;
        self.stamp.check_kind(&stat)?;
        let mtime = self.move_past(last, |wanted| {
            self.remember(wanted);
            set_mtime(&file, wanted)
        })?;
        durability.sync(&file).map_err(refused)?;
        Ok(mtime)
    }

    /// Stores an mtime later than `last`. Returns the time that the file system made of it.
    fn move_past(
        &self,
        last: Option<Mtime>,
        mut store: impl FnMut(Mtime) -> io::Result<Mtime>,
    ) -> Result<Mtime> {
        let now = Mtime::now();
        let stored = match last {
            Some(last) => later_than(last, now, store),
            None => store(now).map(Some),
        };
        let stored = stored.map_err(|error| self.stamp.refused(error))?;
        stored.ok_or_else(|| Error::NoLaterTime {
            path: self.stamp.path(),
            last: last.unwrap_or(now),
        })
    }
}

/// Gives a file an mtime. Returns the time that the file system made of it.
fn set_mtime(file: &File, wanted: Mtime) -> io::Result<Mtime> {
    wanted.store_in(file)?;
    Ok(Mtime::of(&rustix::fs::fstat(file)?))
}

fn is_full(error: &Error) -> bool {
    use ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        Error::System { cause, .. } => matches!(cause.kind(), QuotaExceeded | StorageFull),
        _ => false,
    }
}

/// The beginning of a text as one line of printable characters.
fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(LONGEST_LINE).map(printable).collect()
}
