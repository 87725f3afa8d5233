//! `modstamp log`: when stamps were touched, by whom, why, and what followed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use modstamp::{Event, Log, Mtime, Owner, Root};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::{Value, json};

use super::time::local;
use super::{ExitCode, Place, end, load, print, print_json, say};

/// The version of the JSON. It rises if a key is removed or changes its meaning.
const VERSION: u32 = 1;

/// The time between two looks for new lines.
const PAUSE: Duration = Duration::from_millis(250);

/// The most logs that are shown.
const MOST_LOGS: usize = 1000;

/// The owners of stamps that may have a log.
const OWNERS: [Owner; 2] = [Owner::System, Owner::User];

/// Show when stamps were touched, by whom and why, how long that took, and what followed
///
/// Each stamp has a log beside it: /var/lib/modstamp/PROFILE.log for the system's, and another for
/// your own. It has each touch, each refresh and eviction of libvirt's cache, and each update that
/// found a change. It does not have touches by other programs, such as touch(1), or anything from
/// the time an image was built (SOURCE_DATE_EPOCH is set). A log longer than 64 KiB loses its older
/// half.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is shown, 1 if something could not be read, 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// Show only what happened since then: “2026-11-28”, “2026-11-28 03:00”, “today”, “yesterday”,
    /// “03:00”, “2 hours ago” or “-2h”. A time of day is the last one, today's or yesterday's
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = since)]
    since: Option<Timestamp>,
    /// Show only this profile: a name, or the path of a profile's file  [default: all with a log]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
    /// Keep running, and print new lines as they come
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    place: Place,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.log(), 1)
    }

    fn log(self) -> anyhow::Result<ExitCode> {
        let root = self.place.root()?;
        let profile = self.profile.as_deref();
        let profile = profile.map(|name| name_of(name, &root)).transpose()?;
        let mut shown = Shown {
            root,
            profile,
            since: self.since,
            logs: Vec::new(),
            known: HashSet::new(),
            told: HashSet::new(),
        };
        let mut lines = shown.news();
        let is_all_shown = shown.told.is_empty();
        if lines.is_empty() && is_all_shown && !self.json && !self.follow {
            print("the log is empty\n")?;
        }
        loop {
            lines.iter().try_for_each(|line| match self.json {
                true => print_json(&line.json()),
                false => print(line.sentence() + "\n"),
            })?;
            if !self.follow || has_nobody_to_print_to() {
                break;
            }
            lines = shown.news();
        }
        Ok(match is_all_shown {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// The name of a profile. A profile without a file has a name, too, if it has a log.
fn name_of(name: &str, root: &Root) -> anyhow::Result<String> {
    // An error here is told when the logs are read.
    let logs = OWNERS.map(|owner| Log::all(root, owner).unwrap_or_default());
    if logs
        .iter()
        .flatten()
        .any(|log| log.stamp().profile() == name)
    {
        return Ok(name.to_owned());
    }
    Ok(load(name, root)?.name().to_owned())
}

/// Waits for a while. Whether the reader of the output has left meanwhile.
fn has_nobody_to_print_to() -> bool {
    let out = std::io::stdout();
    // poll(2) reports errors even if it is asked for nothing.
    let mut fds = [PollFd::new(&out, PollFlags::empty())];
    let pause = Timespec {
        tv_sec: 0,
        tv_nsec: PAUSE.subsec_nanos().into(),
    };
    match rustix::event::poll(&mut fds, Some(&pause)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => false,
        Ok(_) | Err(_) => true,
    }
}

/// The logs that are shown.
struct Shown {
    root: Root,
    /// The only profile, if the caller named one.
    profile: Option<String>,
    since: Option<Timestamp>,
    logs: Vec<Log>,
    /// The paths of their stamps.
    known: HashSet<PathBuf>,
    /// The sentences that were told already.
    told: HashSet<String>,
}

/// An event, with the profile and the owner of its log.
struct Line {
    profile: String,
    owner: Owner,
    event: Event,
}

impl Shown {
    /// The lines that no earlier call returned, in the order of their times.
    ///
    /// Tells each error once. A log that cannot be read must not hide the others.
    fn news(&mut self) -> Vec<Line> {
        for owner in OWNERS {
            match Log::all(&self.root, owner) {
                Ok(all) => self.add(all),
                Err(error) => self.tell(error.to_string()),
            }
        }
        let mut lines = Vec::new();
        let mut errors = Vec::new();
        for log in &mut self.logs {
            let (profile, owner) = (log.stamp().profile().to_owned(), log.stamp().owner());
            let events = log.news().unwrap_or_else(|error| {
                errors.push(error);
                Vec::new()
            });
            lines.extend(events.into_iter().map(|event| Line {
                profile: profile.clone(),
                owner,
                event,
            }));
        }
        errors.iter().for_each(|error| self.tell(error.to_string()));
        let since = self.since.map(|since| {
            let nanoseconds = since.subsec_nanosecond();
            (since.as_second(), u32::try_from(nanoseconds).unwrap_or(0))
        });
        lines.retain(|line| since <= Some(parts(line.event.time)));
        lines.sort_by_key(|line| line.event.time);
        lines
    }

    /// Adds those logs of `all` that are new and wanted.
    fn add(&mut self, all: Vec<Log>) {
        for log in all {
            let path = log.stamp().path();
            let profile = self.profile.as_deref();
            let is_named = profile.is_none_or(|it| it == log.stamp().profile());
            if !is_named || self.known.contains(&path) {
                continue;
            }
            if self.logs.len() == MOST_LOGS {
                return self.tell(format!(
                    "there are more than {MOST_LOGS} logs, and the others are not shown; \
                     name one with “--profile”"
                ));
            }
            self.known.insert(path);
            self.logs.push(log);
        }
    }

    /// Tells a sentence once.
    fn tell(&mut self, sentence: String) {
        if self.told.contains(&sentence) {
            return;
        }
        say("", &sentence);
        self.told.insert(sentence);
    }
}

fn parts(time: Mtime) -> (i64, u32) {
    (time.seconds(), time.nanoseconds())
}

impl Line {
    fn sentence(&self) -> String {
        let profile = &self.profile;
        let whose = match self.owner {
            Owner::System => "",
            Owner::User => " (your own)",
        };
        let time = local(&self.event.time);
        format!("{time} {profile}{whose}: {}", sentence(&self.event))
    }

    /// The object that `log --json` prints. docs/administrators.md lists its keys.
    fn json(&self) -> Value {
        let event = &self.event;
        json!({
            "version": VERSION,
            "time": event.time,
            "local": local(&event.time),
            "profile": self.profile,
            "owner": self.owner,
            "verb": event.action,
            "by": event.by,
            "why": event.why,
            "duration_us": u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX),
            "followed": event.followed,
        })
    }
}

/// An event without its time and profile, as one line for people.
pub fn sentence(event: &Event) -> String {
    let Event {
        action, by, why, ..
    } = event;
    let took = match event.took.as_millis() {
        short @ ..10_000 => format!("{short} ms"),
        _ => format!("{} s", event.took.as_secs()),
    };
    let facts = event.followed.iter().map(|fact| format!("; {fact}"));
    let facts: String = facts.collect();
    format!("{action} by {by} ({why}), {took}{facts}")
}

/// Reads a time: an age, a day, a time of day, or both, perhaps with a zone.
fn since(text: &str) -> anyhow::Result<Timestamp> {
    since_at(text, &Zoned::now())
}

fn since_at(text: &str, now: &Zoned) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let zone = || -> TimeZone { now.time_zone().clone() };
    let local = text.parse::<DateTime>();
    if let Ok(time) = local.and_then(|local| local.to_zoned(zone())) {
        return Ok(time.timestamp());
    }
    let then = match (text, text.parse::<Time>()) {
        ("today", _) => now.start_of_day(),
        ("yesterday", _) => now.yesterday().and_then(|day| day.start_of_day()),
        (_, Ok(time)) => last(time, now),
        (_, Err(_)) => {
            let span = text.parse::<Span>().map(Span::abs);
            span.and_then(|age| now.checked_sub(age))
        }
    };
    then.map(|then| then.timestamp()).map_err(|_| {
        anyhow!(
            "this is not a time; write a date, as “2026-11-28” or “2026-11-28 03:00”; “today” or \
             “yesterday”; the last “03:00”; or an age, as “2 hours ago” or “-2h”"
        )
    })
}

/// The last time that the clock showed `time`: today, or yesterday if that is still to come.
fn last(time: Time, now: &Zoned) -> Result<Zoned, jiff::Error> {
    let today = now.with().time(time).build()?;
    match today > *now {
        true => now.yesterday()?.with().time(time).build(),
        false => Ok(today),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_in_the_local_zone_or_an_age() {
        let now: Zoned = "2026-11-29T12:00:00+01:00[Europe/Paris]".parse().unwrap();
        for (text, expected) in [
            ("2026-11-28", "2026-11-27T23:00:00Z"),
            ("2026-11-28 03:00", "2026-11-28T02:00:00Z"),
            ("2026-11-28T03:00:07", "2026-11-28T02:00:07Z"),
            ("2026-07-01 03:00", "2026-07-01T01:00:00Z"),
            ("2026-11-28T03:00:00Z", "2026-11-28T03:00:00Z"),
            ("2026-11-28T03:00:00+02:00", "2026-11-28T01:00:00Z"),
            ("2 hours ago", "2026-11-29T09:00:00Z"),
            ("-2h", "2026-11-29T09:00:00Z"),
            ("1 day ago", "2026-11-28T11:00:00Z"),
            ("1 month ago", "2026-10-29T11:00:00Z"),
            ("today", "2026-11-28T23:00:00Z"),
            ("yesterday", "2026-11-27T23:00:00Z"),
            ("12:00", "2026-11-29T11:00:00Z"),
            ("03:00:07", "2026-11-29T02:00:07Z"),
            ("12:01", "2026-11-28T11:01:00Z"),
            ("23:59", "2026-11-28T22:59:00Z"),
        ] {
            let expected: Timestamp = expected.parse().unwrap();
            assert_eq!(since_at(text, &now).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "soon",
            "03:00 tomorrow",
            "99999 years ago",
            "2026-13-01",
            "24:01",
            "tomorrow",
        ] {
            let error = since_at(text, &now).unwrap_err().to_string();
            assert!(error.contains("write a date"), "{text}: {error}");
        }
    }
}
