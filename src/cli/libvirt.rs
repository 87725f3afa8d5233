//! `modstamp libvirt`: libvirt's own cache, for a libvirt that knows nothing of stamps.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use modstamp::libvirt::{self, CacheFile, Cached, Recorded, Refreshed, Rule};
use modstamp::{Durability, Error, Owner, Profile, Verdict, printable};
use serde::Serialize;

use super::status::{age, ago};
use super::{Place, Which, end, print, say};

/// libvirt's own cache, for a libvirt that knows nothing of stamps: see it, have it asked again, remove from it
#[derive(clap::Args)]
#[command(after_help = "Exit status: the command's; 2 if the arguments are wrong")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Status(Status),
    Refresh(Refresh),
    Evict(Evict),
}

/// Show each file of libvirt's cache, the system's and your own: what libvirt's rule says of it, and what modstamp says
///
/// libvirt's rule is told as a daemon would apply it that is started now. “fresh” is what was cached since the last refresh, where
/// nothing was touched since.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is shown, 1 if something could not be read, 2 if the arguments are wrong"
)]
struct Status {
    /// The profile: a name, or the path of a profile's file; all that libvirt caches for where none is named
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Make every libvirt, running or not, the system's and every user's, probe again at its next look-up
///
/// Moves the time of the module directory that libvirt watches to a second that it never had. Where it cannot be moved, the
/// programs get a new ctime by a chmod to the mode that they have. On a read-only /usr, removes what is stale from the
/// system's cache; daemons that run are then to be restarted, and other users to run “modstamp libvirt evict”.
#[derive(clap::Args)]
#[command(after_help = "Exit status: 0 if refreshed, 1 if not, 2 if the arguments are wrong")]
struct Refresh {
    #[command(flatten)]
    which: Which,
}

/// Remove what is stale from libvirt's cache, the system's if you are root and your own
///
/// A running daemon keeps what it has in memory: “refresh” reaches that, too. A link is never followed, and a file of another
/// user's left alone.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all that is stale was removed, 1 if not, 2 if the arguments are wrong"
)]
struct Evict {
    #[command(flatten)]
    which: Which,
    /// Remove all files, not only what is stale
    #[arg(long)]
    all: bool,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        let done = match self.verb {
            Verb::Status(status) => status.run(),
            Verb::Refresh(refresh) => refresh.run(),
            Verb::Evict(evict) => evict.run(),
        };
        end(done, 1)
    }
}

/// A cache file in JSON.
#[derive(Serialize)]
struct Row {
    profile: String,
    owner: Owner,
    path: String,
    /// `null` where the file does not say, as what it recorded.
    program: Option<String>,
    /// Negative where the file is ahead of the clock.
    age_seconds: i64,
    recorded: Option<Times>,
    libvirt: Libvirt,
    modstamp: Verdict,
}

#[derive(Serialize)]
struct Times {
    program_ctime: i64,
    directories: Vec<Directory>,
    self_ctime: i64,
    self_version: i64,
}

/// A module directory; `null` where libvirt does not say which.
#[derive(Serialize)]
struct Directory {
    path: Option<String>,
    mtime: i64,
}

/// What libvirt's own rule says.
#[derive(Serialize)]
struct Libvirt {
    /// `null` where it is not known.
    valid: Option<bool>,
    clauses: Vec<libvirt::Clause>,
    unknown: Option<String>,
}

#[derive(Serialize)]
struct Json {
    version: u32,
    files: Vec<Row>,
}

impl Status {
    fn run(self) -> anyhow::Result<ExitCode> {
        let root = self.place.root()?;
        let names = match &self.profile {
            Some(name) => vec![name.clone()],
            None => libvirt::profiles().map(str::to_owned).collect(),
        };
        let mut rows = Vec::new();
        let mut notes = BTreeSet::new();
        let mut code = ExitCode::SUCCESS;
        let mut table = tabwriter::TabWriter::new(Vec::new()).padding(2);
        writeln!(table, "PROGRAM\tWHOSE\tCACHED\tLIBVIRT SAYS\tMODSTAMP SAYS")?;
        for name in names {
            // One bad profile must not hide the others.
            let found = Profile::load_in(&name, &root)
                .and_then(|profile| Ok((Cached::find(&profile)?, profile)));
            let (cached, profile) = match found {
                Ok(found) => found,
                Err(error) => {
                    say("", error);
                    code = ExitCode::FAILURE;
                    continue;
                }
            };
            notes.extend(cached.errors().iter().map(|(_, error)| error.to_string()));
            for file in cached.files() {
                let (rule, verdict) = (cached.rule(file), cached.verdict(file));
                let age = ago(age(file.written()));
                let rule_says = match file.recorded() {
                    Ok(_) => rule.to_string(),
                    Err(_) => "not known".to_owned(),
                };
                let says = match verdict.reasons_for_people(2).join("; ") {
                    why if why.is_empty() => "fresh".to_owned(),
                    why => format!("stale: {why}"),
                };
                let (title, owner) = (file.title(), file.owner());
                writeln!(table, "{title}\t{owner}\t{age}\t{rule_says}\t{says}")?;
                rows.push(Row::new(&profile, file, rule, verdict));
            }
        }
        for note in notes {
            say("note: ", note);
        }
        let table = String::from_utf8_lossy(&table.into_inner()?).into_owned();
        print(match self.json {
            true => {
                serde_json::to_string(&Json {
                    version: 1,
                    files: rows,
                })? + "\n"
            }
            false if rows.is_empty() => "there is no file of libvirt's cache to see\n".to_owned(),
            false => table,
        })?;
        Ok(code)
    }
}

impl Row {
    fn new(profile: &Profile, file: &CacheFile, rule: Rule, modstamp: Verdict) -> Row {
        let text = |path: &Path| path.display().to_string();
        let recorded = file.recorded().ok();
        Row {
            profile: profile.name().to_owned(),
            owner: file.owner(),
            path: text(&file.path()),
            program: recorded.map(|recorded| text(&recorded.program)),
            age_seconds: age(file.written()),
            recorded: recorded.map(|recorded: &Recorded| Times {
                program_ctime: recorded.program_ctime,
                directories: recorded
                    .directories
                    .iter()
                    .map(|(path, mtime)| Directory {
                        path: path.as_deref().map(text),
                        mtime: *mtime,
                    })
                    .collect(),
                self_ctime: recorded.self_ctime,
                self_version: recorded.self_version,
            }),
            libvirt: match rule {
                Rule::Valid => Libvirt {
                    valid: Some(true),
                    clauses: Vec::new(),
                    unknown: None,
                },
                Rule::Outdated(clauses) => Libvirt {
                    valid: Some(false),
                    clauses,
                    unknown: None,
                },
                Rule::Unknown(why) => Libvirt {
                    valid: None,
                    clauses: Vec::new(),
                    unknown: Some(why),
                },
            },
            modstamp,
        }
    }
}

impl Refresh {
    fn run(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let done = libvirt::refresh(&profile, Durability::Synced)?;
        for warning in &done.warnings {
            say("warning: ", warning);
        }
        let mut lines: Vec<String> = lines(&done).collect();
        if lines.is_empty() {
            lines.push("there was nothing to move or to remove\n".to_owned());
        }
        print(lines.concat())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Evict {
    fn run(self) -> anyhow::Result<ExitCode> {
        let profile = self.which.load()?;
        let cached = Cached::find(&profile)?;
        let (removed, errors) = cached.evict(self.all, self.dry_run);
        let verb = if self.dry_run {
            "would remove"
        } else {
            "removed"
        };
        let mut lines: Vec<String> = Vec::new();
        for file in &removed {
            let why = match cached.verdict(file).reasons_for_people(2).join("; ") {
                why if why.is_empty() => "fresh".to_owned(),
                why => why,
            };
            let (path, title) = (file.path(), file.title());
            lines.push(format!("{verb} {} ({title}): {why}\n", printable(&path)));
        }
        if removed.is_empty() {
            lines.push("nothing to remove\n".to_owned());
        }
        print(lines.concat())?;
        // That the system's cache is shut to an ordinary user is no failure.
        let is_ordinary = !rustix::process::geteuid().is_root();
        let is_shut = |error: &Error| match error {
            Error::System { cause, .. } => cause.kind() == std::io::ErrorKind::PermissionDenied,
            _ => false,
        };
        let unseen = cached.errors().iter();
        let unseen = unseen
            .filter(|(owner, error)| !(*owner == Owner::System && is_ordinary && is_shut(error)));
        let errors: Vec<&Error> = unseen.map(|(_, error)| error).chain(&errors).collect();
        for error in &errors {
            say("", error);
        }
        if !removed.is_empty() && !self.dry_run {
            for daemon in libvirt::daemons(profile.root()) {
                say("note: ", daemon);
            }
        }
        Ok(match errors.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// What a refresh did, a line each.
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
