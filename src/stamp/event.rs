//! An event: one line in the log of a stamp, which `log.rs` keeps.
//!
//! A line ends with a newline. These are its fields, with a tab between two of them:
//!
//! 1. `1`, the version of this form. A reader skips a line of another version.
//! 2. The time at the end of the event, in seconds since 1970 with nine decimals.
//! 3. The [`Action`].
//! 4. The author, such as `dpkg`, `root` or `user 1000`.
//! 5. The duration in microseconds.
//! 6. The reason.
//! 7. The facts: what followed. There may be none, and none is the word of the last field.
//! 8. `end`. A line that a kill or a power cut tore lacks it, and a reader skips that line.
//!
//! A text is cut after a few hundred characters. A space stands for each character in it that a
//! terminal may obey, so no text has a tab or a newline.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::fmt::Write as _;
use core::time::Duration;

use crate::ground::error::Error;
use crate::ground::platform::{PathBuf, os_str};
use crate::ground::text::{Printable, is_unsafe, one_line};
use crate::ground::time::Mtime;

/// The first field of each line.
const VERSION: &str = "1";

/// The last field of each line.
const END: &str = "end";

/// The most facts of one event.
const MOST_FACTS: usize = 12;

/// The fact that the stamp has a new time.
pub(crate) const TOUCHED: &str = "touched the stamp";

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// A touch by a person, a script or a program.
    Touch,
    /// A touch by a package manager's trigger.
    Trigger,
    /// An update that found a change.
    Update,
    /// A refresh of caches that somebody asked for.
    Refresh,
    /// A removal from libvirt's cache that somebody asked for.
    Evict,
}

/// One event of a stamp's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The clock's time at the end of the event.
    pub time: Mtime,
    /// The kind of the event.
    pub action: Action,
    /// The author.
    pub by: String,
    /// The reason.
    pub why: String,
    /// The duration. A line keeps whole microseconds.
    pub took: Duration,
    /// What followed, one fact each, for people.
    pub followed: Vec<String>,
}

impl Action {
    const ALL: [Action; 5] = [
        Action::Touch,
        Action::Trigger,
        Action::Update,
        Action::Refresh,
        Action::Evict,
    ];

    fn word(self) -> &'static str {
        match self {
            Action::Touch => "touch",
            Action::Trigger => "trigger",
            Action::Update => "update",
            Action::Refresh => "refresh",
            Action::Evict => "evict",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Event {
    /// Begins an event, which has no facts yet.
    pub(crate) fn begin(action: Action, by: &str, why: &str) -> Event {
        Event {
            time: Mtime::BEGINNING,
            action,
            by: by.to_owned(),
            why: why.to_owned(),
            took: Duration::ZERO,
            followed: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, fact: &str) {
        self.followed.push(fact.to_owned());
    }

    /// Adds one fact about all of `paths`.
    pub(crate) fn add_paths(&mut self, done: &str, paths: &[PathBuf]) {
        let Some(first) = paths.first() else {
            return;
        };
        let first = Printable(os_str(first));
        self.add(&match paths.len() - 1 {
            0 => format!("{done} {first}"),
            more => format!("{done} {first} and {more} more"),
        });
    }

    /// Adds what went wrong.
    pub(crate) fn fail<'a>(&mut self, errors: impl IntoIterator<Item = &'a Error>) {
        let errors = errors.into_iter();
        errors.for_each(|error| self.add(&format!("error: {error}")));
    }

    /// Adds sentences for people.
    pub(crate) fn warn<'a>(&mut self, warnings: impl IntoIterator<Item = &'a str>) {
        let warnings = warnings.into_iter();
        warnings.for_each(|warning| self.add(&format!("warning: {warning}")));
    }

    /// Ends the event, which took that long.
    pub(crate) fn end(self, took: Duration) -> Event {
        Event {
            time: Mtime::now(),
            took,
            ..self
        }
    }

    /// The line of the log, with its newline.
    pub(crate) fn line(&self) -> String {
        let (by, why) = (one_line(&self.by), one_line(&self.why));
        let (time, action) = (self.time, self.action.word());
        let took = self.took.as_micros() as u64;
        let mut line = format!("{VERSION}\t{time}\t{action}\t{by}\t{took}\t{why}");
        for fact in self.followed.iter().take(MOST_FACTS) {
            let _ = write!(line, "\t{}", one_line(fact));
        }
        line.push_str("\tend\n");
        line
    }

    /// Reads a line, without its newline. `None` if the line is torn, or of another version.
    pub(crate) fn of_line(line: &[u8]) -> Option<Event> {
        let line = core::str::from_utf8(line).ok()?;
        if line.contains(|c: char| c != '\t' && is_unsafe(c)) {
            return None; // A power cut can leave zeros.
        }
        let line = line.strip_suffix(END)?.strip_suffix('\t')?;
        let mut fields = line.split('\t');
        let mut next = || fields.next();
        next().filter(|version| *version == VERSION)?;
        let time = next()?.parse().ok()?;
        let word = next()?;
        let action = Action::ALL.into_iter().find(|it| it.word() == word)?;
        let by = next()?.to_owned();
        let took = Duration::from_micros(next()?.parse().ok()?);
        let why = next()?.to_owned();
        Some(Event {
            time,
            action,
            by,
            why,
            took,
            followed: fields.map(str::to_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let mut event = Event::begin(Action::Trigger, "dpkg", "a\tmodule\ncame \\ “é”");
        event.add(TOUCHED);
        event.add("warning: \x1b[31m");
        event.end(Duration::from_nanos(12_345_678))
    }

    fn read(line: &[u8]) -> Option<Event> {
        Event::of_line(line.strip_suffix(b"\n").unwrap_or(line))
    }

    #[test]
    fn an_event_is_read_back_without_what_a_terminal_obeys() {
        let event = event();
        let read = read(event.line().as_bytes()).unwrap();
        let expected = Event {
            why: "a module came \\ “é”".to_owned(),
            took: Duration::from_micros(12_345),
            followed: vec![TOUCHED.to_owned(), "warning:  [31m".to_owned()],
            ..event
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn a_line_cut_off_anywhere_or_with_zeros_in_it_is_no_event() {
        let line = event().line();
        let whole = line.trim_end().as_bytes();
        for length in 0..whole.len() {
            assert_eq!(Event::of_line(&whole[..length]), None, "{length}");
            let mut torn = whole.to_vec();
            torn[length] = 0;
            assert_eq!(Event::of_line(&torn), None, "{length}");
        }
        assert_eq!(read(line.replacen('1', "2", 1).as_bytes()), None);
    }

    #[test]
    fn the_longest_event_is_a_short_line() {
        let text = "\u{10ffff}".repeat(10_000);
        let mut event = Event::begin(Action::Touch, &text, &text);
        (0..1000).for_each(|_| event.add(&text));
        let line = event.line();
        assert!(line.len() < 32 << 10, "{}", line.len());
        assert!(read(line.as_bytes()).is_some());
    }
}
