//! Times as file systems keep them, and the end of all waiting.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use rustix::fd::AsFd;
use rustix::fs::{Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::time::{ClockId, clock_gettime};

pub(crate) const SECONDS_A_DAY: i64 = 24 * 60 * 60;

/// How exactly a time is shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// To the second.
    Second,
    /// Whole. This tells times within one second apart.
    Nanosecond,
}

/// A modification time as the file system stores it: seconds and nanoseconds since 1970.
///
/// Only a stamp compares two of them for order, to make sure that it moves forward. Caches are
/// judged by equality alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtime {
    seconds: i64,
    nanoseconds: u32,
}

impl Mtime {
    /// Earlier than every time that a file has.
    pub(crate) const BEGINNING: Mtime = Mtime::new(i64::MIN, 0);

    pub(crate) const fn new(seconds: i64, nanoseconds: u32) -> Mtime {
        Mtime {
            seconds,
            nanoseconds,
        }
    }

    /// The seconds since 1970-01-01 00:00 UTC; negative before that.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// The nanoseconds on top, below 1,000,000,000.
    pub fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }

    pub(crate) fn of(stat: &Stat) -> Mtime {
        Mtime::new(stat.st_mtime, stat.st_mtime_nsec as u32)
    }

    pub(crate) fn of_ctime(stat: &Stat) -> Mtime {
        Mtime::new(stat.st_ctime, stat.st_ctime_nsec as u32)
    }

    pub(crate) fn now() -> Mtime {
        clock_gettime(ClockId::Realtime).into()
    }

    /// Gives this mtime to an opened file or directory. Its access time stays.
    pub(crate) fn store_in(self, file: impl AsFd) -> rustix::io::Result<()> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: self.seconds,
                tv_nsec: self.nanoseconds.into(),
            },
        };
        rustix::fs::futimens(file, &times)
    }

    pub(crate) fn plus(self, seconds: i64, nanoseconds: u32) -> Mtime {
        let nanoseconds = self.nanoseconds() + nanoseconds;
        let carried = i64::from(nanoseconds / 1_000_000_000);
        let seconds = self.seconds().saturating_add(seconds);
        Mtime::new(seconds.saturating_add(carried), nanoseconds % 1_000_000_000)
    }

    /// The time in UTC, in the form of RFC 3339: `2023-11-14T22:13:20Z`.
    pub(crate) fn utc(self, precision: Precision) -> String {
        let days = self.seconds().div_euclid(SECONDS_A_DAY);
        let second = self.seconds().rem_euclid(SECONDS_A_DAY);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let fraction = match precision {
            Precision::Second => String::new(),
            Precision::Nanosecond => format!(".{:09}", self.nanoseconds()),
        };
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
    }
}

/// The year, month and day in the Gregorian calendar, `days` after 1970-01-01.
///
/// A year begins with March here, so that a leap day is its last.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // since 0000-03-01
    let era = days.div_euclid(146_097); // the days of 400 years
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let january_or_february = i64::from(month >= 10);
    let year = era * 400 + year_of_era + january_or_february;
    (year, (month + 2) % 12 + 1, day)
}

impl From<Timespec> for Mtime {
    fn from(time: Timespec) -> Mtime {
        Mtime::new(time.tv_sec, time.tv_nsec as u32)
    }
}

impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds(), self.nanoseconds())
    }
}

/// The end of all waiting. Each step may wait for as long as the steps before it left.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    begun: Duration,
    end: Duration,
}

impl Deadline {
    /// The moment that is `patience` from now.
    pub fn after(patience: Duration) -> Deadline {
        let begun = since_boot();
        Deadline {
            begun,
            end: begun + patience,
        }
    }

    /// The time since the first step began.
    pub(crate) fn spent(self) -> Duration {
        since_boot().saturating_sub(self.begun)
    }

    /// The time that is left; zero once it is over.
    pub(crate) fn left(self) -> Duration {
        self.end.saturating_sub(since_boot())
    }
}

/// The time since the boot. No clock step moves it (clock_gettime(2)).
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A text that is no time of the form `1700000000.000000000`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not a time of the form 1700000000.000000000")]
pub struct NotATime;

impl FromStr for Mtime {
    type Err = NotATime;

    /// Reads a time in the form of [`Display`](fmt::Display), such as `1700000000.000000000`.
    fn from_str(text: &str) -> Result<Mtime, NotATime> {
        let (seconds, nanoseconds) = text.split_once('.').ok_or(NotATime)?;
        let are_digits = nanoseconds.bytes().all(|byte| byte.is_ascii_digit());
        if nanoseconds.len() != 9 || !are_digits {
            return Err(NotATime);
        }
        let seconds = seconds.parse().map_err(|_| NotATime)?;
        let nanoseconds = nanoseconds.parse().map_err(|_| NotATime)?;
        Ok(Mtime::new(seconds, nanoseconds))
    }
}

impl serde::Serialize for Mtime {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Mtime {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Mtime, D::Error> {
        let text = <alloc::borrow::Cow<str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_back_as_it_was_written() {
        for text in ["0.000000000", "-5.000000001", "1700000000.999999999"] {
            assert_eq!(text.parse::<Mtime>().unwrap().to_string(), text);
        }
        for text in ["", "1", "1.5", "1.0000000000", "x.000000000", "1.00000000x"] {
            assert!(text.parse::<Mtime>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_in_utc_has_its_nanoseconds_if_asked() {
        let time = Mtime::new(1_700_000_000, 5).utc(Precision::Nanosecond);
        assert_eq!(time, "2023-11-14T22:13:20.000000005Z");
    }

    #[test]
    fn the_note_on_a_stamp_has_the_calendar_s_date() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(Mtime::new(seconds, 5).utc(Precision::Second), text);
        }
    }
}
