//! `modstamp status`: what there is, and what a check would say.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::{Span, SpanRound, Timestamp, Unit, Zoned, tz::TimeZone};
use modstamp::{Cache, Mtime, Note, Owner, Profile, Root, Stamp, Verdict};
use serde::Serialize;

use super::{Place, end, print, say};

/// Show each profile's stamps, modules and programs, and whether the answers cached by “run” still hold
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is shown, 1 if something could not be read, 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// This profile alone: a name, or the path of a profile's file  [default: all that there are]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    profiles: &'a [Status],
}

#[derive(Serialize)]
struct Status {
    profile: String,
    stamps: Vec<StampStatus>,
    module_directories: Vec<DirectoryStatus>,
    #[serde(serialize_with = "texts")]
    programs: Vec<PathBuf>,
    #[serde(serialize_with = "texts")]
    files: Vec<PathBuf>,
    caches: Vec<CacheStatus>,
}

#[derive(Serialize)]
struct StampStatus {
    owner: Owner,
    #[serde(serialize_with = "text")]
    path: PathBuf,
    touched: Option<Touch>,
    error: Option<String>,
}

#[derive(Serialize)]
struct Touch {
    mtime: Mtime,
    /// Local time with its offset.
    local: String,
    /// Negative where the mtime is ahead of the clock.
    age_seconds: i64,
    /// Who, when and why, where the last touch said so.
    note: Option<Note>,
}

#[derive(Serialize)]
struct DirectoryStatus {
    #[serde(serialize_with = "text")]
    path: PathBuf,
    #[serde(serialize_with = "texts")]
    modules: Vec<PathBuf>,
}

#[derive(Serialize)]
struct CacheStatus {
    command: String,
    verdict: Verdict,
}

/// A path as JSON has it: what is not UTF-8 in it stands as “\u{fffd}”.
fn text<S: serde::Serializer>(path: &Path, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&path.display())
}

fn texts<S: serde::Serializer>(paths: &[PathBuf], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        end(self.status(), 1)
    }

    fn status(self) -> anyhow::Result<ExitCode> {
        let root = self.place.root()?;
        let names = match &self.profile {
            Some(name) => vec![name.clone()],
            None => Profile::names(&root),
        };
        let mut all = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for name in names {
            // One bad profile must not hide the others.
            match Profile::load_in(&name, &root).and_then(|profile| Status::of(&profile)) {
                Ok(status) => all.push(status),
                Err(error) => {
                    say("", error);
                    code = ExitCode::FAILURE;
                }
            }
        }
        print(match self.json {
            true => {
                serde_json::to_string(&Json {
                    version: 1,
                    profiles: &all,
                })? + "\n"
            }
            false => table(&all, &root)?,
        })?;
        Ok(code)
    }
}

impl Status {
    fn of(profile: &Profile) -> modstamp::Result<Status> {
        let inputs = profile.inputs()?;
        let owned = |paths: Vec<&Path>| paths.into_iter().map(Path::to_owned).collect::<Vec<_>>();
        let directories = inputs
            .module_directories()
            .map(|(path, modules)| DirectoryStatus {
                path: path.to_owned(),
                modules: owned(modules),
            });
        Ok(Status {
            profile: profile.name().to_owned(),
            stamps: profile.stamps().iter().map(StampStatus::of).collect(),
            module_directories: directories.collect(),
            programs: owned(inputs.programs().collect()),
            files: owned(inputs.files().collect()),
            caches: caches(profile)?,
        })
    }
}

/// The answers in the caller's cache. One that is not there yet is not made for a look.
fn caches(profile: &Profile) -> modstamp::Result<Vec<CacheStatus>> {
    let exists = |path: &PathBuf| Cache::exists(profile.root(), path);
    let Some(path) = Cache::default_path().filter(exists) else {
        return Ok(Vec::new());
    };
    let cache = match Cache::open(profile.root(), &path) {
        Ok(cache) => cache,
        Err(error) => {
            say("warning: ", error);
            return Ok(Vec::new());
        }
    };
    let verdicts = cache.verdicts(profile)?.into_iter();
    let status = |(command, verdict)| CacheStatus { command, verdict };
    Ok(verdicts.map(status).collect())
}

impl StampStatus {
    fn of(stamp: &Stamp) -> StampStatus {
        let (touched, error) = match stamp.mtime() {
            Ok(mtime) => (mtime.map(|mtime| Touch::of(mtime, stamp.note())), None),
            Err(error) => (None, Some(error.to_string())),
        };
        StampStatus {
            owner: stamp.owner(),
            path: stamp.path(),
            touched,
            error,
        }
    }

    fn sentence(&self) -> String {
        match (&self.error, &self.touched) {
            (Some(error), _) => error.clone(),
            (None, None) => "never touched".to_owned(),
            (None, Some(touch)) => touch.sentence(),
        }
    }
}

impl Touch {
    fn of(mtime: Mtime, note: Option<Note>) -> Touch {
        let time = Timestamp::new(mtime.seconds(), mtime.nanoseconds() as i32).unwrap_or_default();
        let local = Zoned::new(time, TimeZone::system());
        Touch {
            mtime,
            local: local.strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
            age_seconds: age(mtime.seconds()),
            note: note.filter(|note| note.mtime == mtime),
        }
    }

    fn sentence(&self) -> String {
        let age = ago(self.age_seconds);
        let who = match &self.note {
            Some(Note { by, why, .. }) => format!("by {by}: {why}"),
            None => "by hand".to_owned(),
        };
        format!("touched {} ({age}), {who}", self.local)
    }
}

/// How many seconds ago that second since 1970 was; negative where it is ahead of the clock.
pub fn age(seconds: i64) -> i64 {
    Timestamp::now().as_second().saturating_sub(seconds)
}

/// An age in seconds, for people.
pub fn ago(age: i64) -> String {
    if age < 0 {
        return "ahead of the clock".to_owned();
    }
    let days = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    let age = Span::new()
        .try_seconds(age)
        .and_then(|age| age.round(days))
        .unwrap_or_default();
    // Two units tell enough: "3d 4h".
    let age = format!("{age:#}");
    let age: Vec<&str> = age.split(' ').take(2).collect();
    format!("{} ago", age.join(" "))
}

/// One line a thing, in columns that line up.
fn table(all: &[Status], root: &Root) -> anyhow::Result<String> {
    let mut table = tabwriter::TabWriter::new(Vec::new()).padding(2);
    writeln!(table, "PROFILE\tWHAT\tWHERE\tSTATE")?;
    for status in all {
        let name = &status.profile;
        let outside = |path: &Path| root.outside(path).display().to_string();
        for stamp in &status.stamps {
            let (owner, path) = (stamp.owner, stamp.path.display());
            writeln!(table, "{name}\t{owner} stamp\t{path}\t{}", stamp.sentence())?;
        }
        for directory in &status.module_directories {
            let count = directory.modules.len();
            let modules = if count == 1 { "module" } else { "modules" };
            let path = outside(&directory.path);
            writeln!(table, "{name}\tmodule directory\t{path}\t{count} {modules}")?;
        }
        if status.module_directories.is_empty() {
            writeln!(
                table,
                "{name}\tmodule directory\t-\tnone of the profile's exists"
            )?;
        }
        for program in &status.programs {
            writeln!(table, "{name}\tprogram\t{}\tfound", outside(program))?;
        }
        for file in &status.files {
            writeln!(table, "{name}\tfile\t{}\tfound", outside(file))?;
        }
        for cache in &status.caches {
            let verdict = match cache.verdict.reasons_for_people(2).join("; ") {
                why if why.is_empty() => "fresh".to_owned(),
                why => format!("stale: {why}"),
            };
            writeln!(table, "{name}\tcached answer\t{}\t{verdict}", cache.command)?;
        }
    }
    Ok(String::from_utf8_lossy(&table.into_inner()?).into_owned())
}
