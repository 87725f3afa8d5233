//! Times as people read them: local times, and ages.

use jiff::{Span, SpanRound, Timestamp, Unit, Zoned, tz::TimeZone};
use modstamp::{Mtime, Precision};

/// The local time to the second, with its offset from UTC.
pub fn local(mtime: &Mtime) -> String {
    shown(*mtime, Precision::Second)
}

/// The local time, with its offset from UTC.
pub fn shown(mtime: Mtime, precision: Precision) -> String {
    let form = match precision {
        Precision::Second => "%Y-%m-%d %H:%M:%S %:z",
        Precision::Nanosecond => "%Y-%m-%d %H:%M:%S%.9f %:z",
    };
    let Ok(time) = Timestamp::new(mtime.seconds(), mtime.nanoseconds() as i32) else {
        return mtime.to_string(); // The calendar ends with the year 9999.
    };
    let local = Zoned::new(time, TimeZone::system());
    local.strftime(form).to_string()
}

/// The seconds since a time, given in seconds since 1970. Negative if the time is ahead of the
/// clock.
pub fn age(seconds: i64) -> i64 {
    Timestamp::now().as_second().saturating_sub(seconds)
}

/// An age in seconds, for people: "3d 4h ago".
pub fn ago(age: i64) -> String {
    if age < 0 {
        return "ahead of the clock".to_owned();
    }
    let days = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let age = Span::new().try_seconds(age);
    let Ok(age) = age.and_then(|age| age.round(days)) else {
        return "more than 10,000 years ago".to_owned();
    };
    let age = format!("{age:#}");
    let units: Vec<&str> = age.split(' ').take(2).collect();
    format!("{} ago", units.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_two_largest_units() {
        let (minute, hour, day) = (60, 3600, 86400);
        for (age, text) in [
            (-1, "ahead of the clock"),
            (0, "0s ago"),
            (59, "59s ago"),
            (5 * minute + 7, "5m 7s ago"),
            (3 * day + 4 * hour + 5 * minute, "3d 4h ago"),
            (3 * day + 5 * minute, "3d 5m ago"),
            (400 * day, "400d ago"),
            (i64::MAX, "more than 10,000 years ago"),
        ] {
            assert_eq!(ago(age), text);
        }
    }
}
