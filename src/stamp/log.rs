//! The log beside a stamp, `<profile>.log`: when it was touched, by whom, and what followed.
//!
//! It is for people, and nothing depends on it. Each [`Event`] is a line, which one write appends
//! (`O_APPEND`, open(2)). A writer waits neither for the disk nor for a lock. A failure is a
//! warning. While an image is built, nothing is written.
//!
//! A kill or a power cut may leave a torn line. A reader skips it, and the next event begins a new
//! one. A log that would exceed [`MOST_BYTES`] is replaced by its newer half. A link, a FIFO, or
//! a file that others could have written is replaced by a new log.
//!
//! A writer usually has the turn. A writer that could not get it at once may lose its line, if
//! another one replaces the log at that moment.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::files::directory::open_file;
use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::trust::why_not_believed;
use crate::ground::environment::image_is_being_built;
use crate::ground::error::{Error, Result};
use crate::ground::time::Deadline;
use crate::stamp::event::Event;
use crate::stamp::stamp::{Owner, Stamp};
use crate::stamp::turn::Turn;

/// The longest log.
const MOST_BYTES: u64 = 64 << 10;

/// The longest log that is read. modstamp itself never makes one as long.
const MOST_READ: u64 = 16 << 20;

/// The extension of a log's name.
const EXTENSION: &str = "log";

impl Turn<'_> {
    /// Appends an event to the log. Returns a warning for people if that failed.
    pub(crate) fn log(&self, event: &Event) -> Option<String> {
        if image_is_being_built() {
            return None;
        }
        let name = self.stamp.name_beside(EXTENSION);
        let errno = self.append(&name, event.line()).err()?;
        let remedy = "make it writable; “modstamp log” lacks this event";
        let path = self.stamp.path().with_file_name(name);
        Some(Error::system("write to the log", path, errno, remedy).to_string())
    }

    fn append(&self, name: &str, mut line: String) -> rustix::io::Result<()> {
        let old = match open_file(&self.directory, name, OFlags::RDWR | OFlags::APPEND) {
            Ok(file) => {
                let stat = rustix::fs::fstat(&file)?;
                let is_ours = stat.st_nlink == 1 && why_not_believed(&stat).is_none();
                is_ours.then_some((file, stat.st_size as u64))
            }
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ISDIR | Errno::ACCESS) => None,
            Err(errno) => return Err(errno),
        };
        let kept = match old {
            None => Vec::new(),
            Some((file, size)) if size + (line.len() as u64) < MOST_BYTES => {
                let mut last = [b'\n'];
                if size > 0 {
                    rustix::io::pread(&file, &mut last, size - 1)?;
                }
                if last != [b'\n'] {
                    line.insert(0, '\n');
                }
                return write_all(&file, line.as_bytes());
            }
            Some((file, size)) => newer_half(&file, size)?,
        };
        let new = self.replace(name)?;
        write_all(new.file(), &[&kept, line.as_bytes()].concat())?;
        new.take_place().map(drop)
    }
}

/// Writes a text by one write(2), so that it stays together.
fn write_all(file: impl AsFd, text: &[u8]) -> rustix::io::Result<()> {
    match rustix::io::write(file, text)? {
        all if all == text.len() => Ok(()),
        _ => Err(Errno::NOSPC),
    }
}

/// The whole lines at the end of a log. There is room for another line after them.
fn newer_half(file: &OwnedFd, size: u64) -> rustix::io::Result<Vec<u8>> {
    let mut kept = vec![0; MOST_BYTES as usize / 2];
    let begin = size.saturating_sub(kept.len() as u64);
    let length = rustix::io::pread(file, &mut kept, begin)?;
    kept.truncate(length);
    let is_end = |byte: &u8| *byte == b'\n';
    kept.truncate(kept.iter().rposition(is_end).map_or(0, |end| end + 1));
    let first = kept.iter().position(is_end).map_or(0, |end| end + 1);
    Ok(kept.split_off(first))
}

impl Stamp {
    /// Appends an event to the log beside the stamp, for a caller without a turn. Never waits for
    /// one. Returns a warning for people if it failed.
    ///
    /// Without a directory for the stamp there is no log. The caller's other errors say so already.
    pub(crate) fn log(&self, event: &Event) -> Option<String> {
        if image_is_being_built() {
            return None;
        }
        let turn = self.take_turn_by(Deadline::after(Duration::ZERO)).ok()?;
        turn.log(event)
    }
}

/// The log beside one stamp, for a reader.
#[derive(Debug)]
pub struct Log {
    stamp: Stamp,
    /// The last event that was returned.
    last: Option<Event>,
}

impl Log {
    /// The logs of an owner in `root`.
    ///
    /// # Errors
    /// If the directory of the stamps cannot be read, or if somebody else could write it.
    pub fn all(root: &Root, owner: Owner) -> Result<Vec<Log>> {
        let stamps = Stamp::all_beside(root, owner, ".log")?.into_iter();
        Ok(stamps.map(|stamp| Log { stamp, last: None }).collect())
    }

    /// The stamp that the log lies beside.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The events since the last call of this function. The first call returns all.
    ///
    /// # Errors
    /// If the log cannot be read, or if somebody else could have written it.
    pub fn news(&mut self) -> Result<Vec<Event>> {
        let mut events = self.read()?;
        // The log may have been replaced by its newer half since.
        let seen = self.last.as_ref();
        let seen = seen.and_then(|last| events.iter().rposition(|event| event == last));
        let news = events.split_off(seen.map_or(0, |seen| seen + 1));
        if let Some(last) = news.last() {
            self.last = Some(last.clone());
        }
        Ok(news)
    }

    fn read(&self) -> Result<Vec<Event>> {
        let (attempt, remedy) = ("read the log", "make it readable, or remove it");
        let path = self
            .stamp
            .path()
            .with_file_name(self.stamp.name_beside(EXTENSION));
        let file = match self.stamp.open_beside(EXTENSION) {
            Ok(file) => file,
            Err(stop) if stop.is_missing() => return Ok(Vec::new()),
            Err(stop) => return Err(stop.into_error(attempt, path, remedy)),
        };
        let bytes = read_at_most(MOST_READ, file);
        let bytes = bytes.map_err(|cause| Error::system(attempt, path, cause, remedy))?;
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        // A writer may not have finished the last line.
        let lines = lines.filter_map(|line| line.strip_suffix(b"\n"));
        Ok(lines.filter_map(Event::of_line).collect())
    }
}
