//! `modstamp libvirt`: libvirt's own cache, for a libvirt that knows nothing of stamps.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use clap::Subcommand;
use modstamp::libvirt::{self, CacheFile, Cached, Evicted, Next, Refreshed};
use modstamp::{Durability, Error, Owner, Profile, Root, Verdict, printable};
use serde_json::{Value, json};

use super::report::Report;
use super::status::state;
use super::table::{Cell, Table};
use super::time::{age, ago};
use super::{ExitCode, Place, Which, end, load, print, print_json, say};

/// Show, refresh or evict libvirt's own cache, for a libvirt that knows nothing of stamps
#[derive(clap::Args)]
#[command(after_help = "Exit status: the command's; 2 if the arguments are wrong")]
pub struct Arguments {
    #[command(subcommand)]
    verb: LibvirtVerb,
}

#[derive(Subcommand)]
enum LibvirtVerb {
    Status(Status),
    Refresh(Refresh),
    Evict(Evict),
}

/// Show each file of libvirt's cache, the system's and your own, and whether it is stale
///
/// An answer is fresh if libvirt cached it after the last refresh, and if nothing that the refresh
/// saw was changed or touched since.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is shown, 1 if something could not be read, 2 if the arguments are wrong"
)]
struct Status {
    /// The profile: a name, or the path of a file; by default, each whose answers libvirt caches
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Make every libvirt, running or not, of the system and of every user, probe at its next look-up
///
/// It moves the time of the module directory that libvirt watches to a second that it never had. If
/// that fails, it moves the ctimes of the programs, by a chmod to the mode that each has. On a
/// read-only /usr it removes stale files from the system's cache instead. Then restart the running
/// daemons that it names, and have other users run “modstamp libvirt evict”.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if refreshed, 1 if not, 2 if the arguments are wrong")]
struct Refresh {
    #[command(flatten)]
    which: Which,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// Remove stale files from libvirt's cache: your own, and the system's if you are root
///
/// A running daemon keeps its answers in memory; only “refresh” reaches those. A link is never
/// followed, and another user's file is never removed.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all that is stale was removed, 1 if not, 2 if the arguments are wrong"
)]
struct Evict {
    #[command(flatten)]
    which: Which,
    /// Remove all files, not only the stale ones
    #[arg(long)]
    all: bool,
    /// Only show which files would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let done = match self.verb {
            LibvirtVerb::Status(status) => status.run(),
            LibvirtVerb::Refresh(refresh) => refresh.run(),
            LibvirtVerb::Evict(evict) => evict.run(),
        };
        end(done, 1)
    }
}

/// The version of the JSON. It moves if a key goes or means something else.
const VERSION: u32 = 2;

impl Status {
    fn run(self) -> anyhow::Result<ExitCode> {
        let root = self.place.root()?;
        let names: Vec<String> = match self.profile {
            Some(name) => vec![name],
            None => libvirt::profiles().map(str::to_owned).collect(),
        };
        let mut all = Vec::new();
        let mut untold = Vec::new();
        for name in &names {
            // An error in one profile must not hide the others.
            match find(name, &root) {
                Ok(found) => all.push(found),
                Err(error) => {
                    say("", format_args!("{error:#}"));
                    untold.push(name.as_str());
                }
            }
        }
        let errors = || all.iter().flat_map(|(_, cached)| cached.errors());
        let told = |error: &(Owner, Error)| {
            let label = if is_unexpected(error) { "" } else { "note: " };
            (label, error.1.to_string())
        };
        let all_told: BTreeSet<(&str, String)> = errors().map(told).collect();
        let all_told = all_told.iter();
        all_told.for_each(|(label, sentence)| say(label, sentence));
        match self.json {
            true => print_json(&json(&all))?,
            false if all.is_empty() => {}
            false => table(&all, &untold, &self.place).print()?,
        }
        let is_all_shown = all.len() == names.len() && !errors().any(is_unexpected);
        Ok(status(is_all_shown))
    }
}

fn find(name: &str, root: &Root) -> anyhow::Result<(Profile, Cached)> {
    let profile = load(name, root)?;
    let cached = Cached::find(&profile)?;
    Ok((profile, cached))
}

fn json(all: &[(Profile, Cached)]) -> Value {
    let row = |profile: &Profile, cached: &Cached, file: &CacheFile| {
        json!({
            "profile": profile.name(),
            "owner": file.owner(),
            "path": file.path().display().to_string(),
            // Negative if the file is ahead of the clock.
            "age_seconds": age(file.written()),
            // Null if the file cannot be read. The verdict then has the cause.
            "recorded": file.recorded().ok(),
            "modstamp": cached.verdict(file),
        })
    };
    let rows = all.iter().flat_map(|(profile, cached)| {
        let files = cached.files().iter();
        files.map(move |file| row(profile, cached, file))
    });
    json!({ "version": VERSION, "files": rows.collect::<Vec<_>>() })
}

/// The table of the profiles that could be looked at. `untold` names the others.
fn table(all: &[(Profile, Cached)], untold: &[&str], place: &Place) -> Table<4> {
    let mut table = Table::new(["PROGRAM", "WHOSE", "CACHED", "VERDICT"]);
    let files = || {
        all.iter()
            .flat_map(|(profile, it)| it.files().iter().map(move |file| (profile, it, file)))
    };
    for (_, cached, file) in files() {
        let state = match file.is_for_root() {
            true => "run as root, to see whether it is stale".to_owned(),
            false => state(&cached.verdict(file)),
        };
        let texts = [file.owner().to_string(), ago(age(file.written())), state];
        let [owner, age, state] = texts.map(Cell::Text);
        table.row([Cell::Path(file.title()), owner, age, state]);
    }
    if files().next().is_none() {
        let are_all_read = all.iter().all(|(_, cached)| cached.errors().is_empty());
        let names: Vec<&str> = all.iter().map(|(profile, _)| profile.name()).collect();
        let of = match untold.is_empty() {
            true => String::new(),
            false => format!(" of {}", names.join(" and ")),
        };
        table.note(match are_all_read {
            true => {
                format!("libvirt has cached no answers{of}, neither the system's nor your own")
            }
            false => format!("libvirt has cached no answers{of} that can be read"),
        });
    }
    if !untold.is_empty() {
        let names = untold.join(" and ");
        table.note(format_args!(
            "the answers of {names} are not shown, because of the error above"
        ));
    }
    let stale: Vec<Stale> = files()
        .filter(|(_, cached, file)| !file.is_for_root() && !cached.verdict(file).is_fresh())
        .map(|(profile, cached, file)| Stale::of(profile, cached, file, place))
        .collect();
    follow_ups(&stale).for_each(|note| table.note(note));
    table
}

/// A stale answer.
struct Stale {
    title: String,
    next: Next,
    /// What follows, as a clause.
    follow_up: String,
}

impl Stale {
    fn of(profile: &Profile, cached: &Cached, file: &CacheFile, place: &Place) -> Stale {
        let next = cached.next(file);
        let command = |verb: &str| place.verb_for(verb, profile.name());
        let follow_up = match next {
            Next::Refresh => {
                let command = command("libvirt refresh");
                format!(
                    "libvirt does not notice it and may still serve the answer; run “{command}” as root"
                )
            }
            Next::Evict => {
                let command = command("libvirt evict");
                format!("no refresh reaches it; run “{command}” as its owner")
            }
            Next::AsksAgain => {
                "libvirt notices it and asks again at its next look-up; nothing to do".to_owned()
            }
        };
        Stale {
            title: file.title(),
            next,
            follow_up,
        }
    }
}

/// One line for each thing to do about stale files. It names the files unless all of them need the
/// same.
fn follow_ups(stale: &[Stale]) -> impl Iterator<Item = String> {
    let in_order = [Next::Refresh, Next::Evict, Next::AsksAgain].into_iter();
    let in_order = in_order.flat_map(|next| stale.iter().filter(move |it| it.next == next));
    let mut told: Vec<&Stale> = in_order.collect();
    told.dedup_by_key(|it| &it.follow_up);
    told.into_iter().map(
        |Stale {
             next, follow_up, ..
         }| {
            let alike = stale.iter().filter(|it| it.follow_up == *follow_up);
            let titles: BTreeSet<&str> = alike.map(|it| it.title.as_str()).collect();
            let which = match next {
                _ if stale.iter().all(|it| it.follow_up == *follow_up) => "stale".to_owned(),
                Next::AsksAgain => "every other stale answer".to_owned(),
                _ => titles.into_iter().collect::<Vec<_>>().join(", "),
            };
            format!("{which}: {follow_up}")
        },
    )
}

impl Refresh {
    fn run(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let done = libvirt::refresh(&profile, Durability::Synced)?;
        for warning in &done.warnings {
            say("warning: ", warning);
        }
        if self.json {
            let report = Report {
                profile: &profile,
                stamp: None,
                touched: None,
                reasons: &[],
                why: None,
                refreshed: Some(&done),
                cures: &[],
                warnings: done.warnings.clone(),
                errors: Vec::new(),
            };
            report.print()?;
            return Ok(status(done.is_done));
        }
        let mut lines: Vec<String> = lines(&done).collect();
        if lines.is_empty() && done.is_done {
            lines.push("there was nothing to move or to remove\n".to_owned());
        }
        print(lines.concat())?;
        Ok(status(done.is_done))
    }
}

impl Evict {
    fn run(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let cached = Cached::find(&profile)?;
        let which = match self.all {
            true => libvirt::Eviction::All,
            false => libvirt::Eviction::Stale,
        };
        let (verb, Evicted { files, errors }) = match self.dry_run {
            true => ("would remove", cached.would_evict(which)),
            false => ("removed", cached.evict(which)),
        };
        print(removals(verb, &files, &cached))?;
        let is_closed = cached.errors().iter().any(|error| !is_unexpected(error));
        if is_closed || cached.left_to_root() > 0 {
            let command = self.which.verb("libvirt evict");
            say(
                "note: ",
                format_args!(
                    "the system's cache was left alone; as root, “{command}” removes what is \
                     stale there"
                ),
            );
        }
        let unseen = cached.errors().iter().filter(|error| is_unexpected(error));
        let errors: Vec<&Error> = unseen.map(|(_, error)| error).chain(&errors).collect();
        errors.iter().for_each(|error| say("", error));
        if !files.is_empty() && !self.dry_run {
            let daemons = libvirt::daemons(profile.root());
            daemons.iter().for_each(|daemon| say("note: ", daemon));
        }
        Ok(status(errors.is_empty()))
    }
}

fn status(is_well: bool) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One line for each file that was or would be removed.
fn removals(verb: &str, files: &[&CacheFile], cached: &Cached) -> String {
    if files.is_empty() {
        return "nothing to remove\n".to_owned();
    }
    let line = |file: &&CacheFile| {
        let why = match cached.verdict(file) {
            Verdict::Fresh => "fresh".to_owned(),
            stale => stale.reasons_for_people(2).join("; "),
        };
        let (path, title) = (file.path(), file.title());
        format!("{verb} {} ({title}): {why}\n", printable(&path))
    };
    files.iter().map(line).collect()
}

/// Whether an error is a failure. An ordinary user may be shut out of the system's cache.
pub fn is_unexpected((owner, error): &(Owner, Error)) -> bool {
    let is_shut = match error {
        Error::System { cause, .. } => cause.kind() == ErrorKind::PermissionDenied,
        _ => false,
    };
    let is_root = rustix::process::geteuid().is_root();
    is_root || *owner != Owner::System || !is_shut
}

/// One line for each thing that a refresh did.
pub fn lines(done: &Refreshed) -> impl Iterator<Item = String> {
    let moved = done
        .moved
        .iter()
        .map(|(path, _)| ("moved the time of", path));
    let changed = done.changed.iter().map(|path| ("moved the ctime of", path));
    let evicted = done.evicted.iter().map(|path| ("removed", path));
    let all = moved.chain(changed).chain(evicted);
    all.map(|(what, path)| format!("{what} {}\n", printable(path)))
}
