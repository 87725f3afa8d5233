//! `modstamp status`: stamps, modules and programs, and whether cached answers still hold.

use std::ffi::OsStr;
use std::path::Path;

use modstamp::doctor::{Examination, Health, examine};
use modstamp::libvirt::Cached;
use modstamp::{
    Added, AskedWith, Cache, CacheStatus, CachedCommand, Look, Profile, Reason, Root, Stamp,
    Verdict, printable, unescape,
};
use serde_json::{Value, json};

use super::doctor::{UNUSED, counted, is_well};
use super::last_touch::LastTouch;
use super::libvirt::is_unexpected;
use super::libvirt_cache::LibvirtCache;
use super::table::{Cell, Table};
use super::time::shown;
use super::{ExitCode, Place, cures, end, load, print_json, quoted, say};

/// Show stamps, modules, programs and cached answers, and which of the answers are stale
///
/// The answers are those of “modstamp run” in your own cache. Caches of other programs that a
/// profile names have the time and the kind of their last remedy. Those of libvirt are summed up:
/// “modstamp libvirt status” shows each file.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 if all is shown, 1 if something could not be read, 2 if the arguments are wrong"
)]
pub struct Arguments {
    /// Print the status as JSON
    #[arg(long)]
    json: bool,
    /// Show only this profile: a name, or the path of a profile's file  [default: all]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Show all profiles, even those of which nothing is installed
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    place: Place,
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
        let mut is_all_shown = true;
        for name in names {
            // One bad profile must not hide the others.
            let status = load(&name, &root).and_then(|profile| Ok(ProfileStatus::of(profile)?));
            match status {
                Ok(status) => {
                    if self.profile.is_some() {
                        status.tell_missing();
                    }
                    is_all_shown &= status.tell_unread();
                    all.push(status);
                }
                Err(error) => {
                    say("", format_args!("{error:#}"));
                    is_all_shown = false;
                }
            }
        }
        if self.profile.is_none() {
            all.extend(ProfileStatus::unnamed(&root)?);
        }
        match self.json {
            true => {
                let profiles: Vec<Value> = all.iter().map(ProfileStatus::json).collect();
                let looks: Vec<Look> = all.into_iter().map(|it| it.look).collect();
                let examination = examine(&root, &looks);
                print_json(&json!({
                    "version": 1,
                    "well": is_well(&examination),
                    "problems": examination.problems(),
                    "profiles": profiles,
                }))?;
            }
            false if all.is_empty() => {}
            false => {
                let is_shown = |status: &ProfileStatus| {
                    self.all || self.profile.is_some() || !status.is_of_nothing()
                };
                let (shown, hidden): (Vec<_>, Vec<_>) = all.iter().partition(|it| is_shown(it));
                let with_missing = self.all || self.profile.is_some();
                let mut table = table(&shown, &hidden, with_missing, &self.place);
                let looks: Vec<Look> = all.into_iter().map(|it| it.look).collect();
                table.heading(health(&examine(&root, &looks), &self.place.verb("doctor")));
                table.print()?;
            }
        }
        Ok(match is_all_shown {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// The first line: whether the host is well. `verb` is the command that tells more.
fn health(examination: &Examination, verb: &str) -> String {
    let problems = counted(examination.problems(), "problem");
    let unseen = counted(examination.unseen.len(), "place");
    let (is_all_seen, see) = (examination.unseen.is_empty(), format!("see “{verb}”"));
    match examination.health() {
        Health::Well => "well".to_owned(),
        Health::Unused => format!("nothing to check: {UNUSED}"),
        Health::Ill if is_all_seen => format!("{problems}; {see}"),
        Health::Ill => format!("{problems}, and could not check {unseen}; {see}"),
        Health::NotKnown => format!("no problem found, but could not check {unseen}; {see}"),
    }
}

/// One profile, with all that the verb shows of it.
struct ProfileStatus {
    look: Look,
    stamps: Vec<(Stamp, modstamp::Result<LastTouch>)>,
    answers: modstamp::Result<Vec<CachedCommand>>,
    /// The caches of other programs.
    foreign: Vec<CacheStatus>,
    libvirt: Vec<LibvirtCache>,
    /// Why some files of libvirt's could not be read.
    unread: Vec<String>,
}

impl ProfileStatus {
    fn of(profile: Profile) -> modstamp::Result<ProfileStatus> {
        let stamps = profile.stamps().iter();
        let stamps = stamps.map(|stamp| (stamp.clone(), LastTouch::of(stamp)));
        let stamps: Vec<_> = stamps.collect();
        let answers = answers(&profile);
        let look = Look::at(profile)?;
        let cached = look.libvirt_cache()?;
        let errors = cached.iter().flat_map(Cached::errors);
        let unread = errors.filter(|error| is_unexpected(error));
        Ok(ProfileStatus {
            stamps,
            answers,
            foreign: look.profile().foreign_caches_by(look.inputs()),
            libvirt: cached.iter().flat_map(LibvirtCache::all).collect(),
            unread: unread.map(|(_, error)| error.to_string()).collect(),
            look,
        })
    }

    /// The answers of `run --dir` and `run --file`, which have a profile without a name.
    fn unnamed(root: &Root) -> modstamp::Result<Option<ProfileStatus>> {
        let cache = cache(root).ok().flatten();
        // If the cache cannot be listed, the status of every other profile says so.
        let profile = cache.and_then(|cache| cache.unnamed_profile(root).ok().flatten());
        profile.map(ProfileStatus::of).transpose()
    }

    /// Tells all that could not be read. Returns whether there was nothing to tell.
    fn tell_unread(&self) -> bool {
        let stamps = self.stamps.iter();
        let stamps = stamps.filter_map(|(_, touch)| touch.as_ref().err());
        let foreign = self.foreign.iter().flat_map(|cache| &cache.errors);
        let errors = stamps.chain(self.answers.as_ref().err()).chain(foreign);
        let errors = errors.map(ToString::to_string);
        let errors = errors.chain(self.unread.iter().cloned());
        let unknown = self.look.inputs().unknown().into_iter();
        let unknown =
            unknown.map(|reason| format!("{reason}; make it readable, or ask as its owner"));
        let mut is_all_read = true;
        for sentence in errors.chain(unknown) {
            say("", sentence);
            is_all_read = false;
        }
        is_all_read
    }

    /// Warns if nothing that the profile names is on the host.
    fn tell_missing(&self) {
        for warning in self.look.inputs().warnings(self.look.profile()) {
            say("warning: ", warning);
        }
    }

    /// Whether nothing that the profile names is installed, and nothing was touched or cached.
    fn is_of_nothing(&self) -> bool {
        let mut touches = self.stamps.iter().map(|(_, touch)| touch);
        let mut answers = self.answers.iter().flatten();
        self.look.inputs().module_directories().next().is_none()
            && self.look.inputs().programs().next().is_none()
            && self.look.inputs().files().next().is_none()
            && self.look.inputs().unknown().is_empty()
            && touches.all(|touch| matches!(touch, Ok(LastTouch::Never)))
            && self.answers.is_ok()
            && answers.next().is_none()
    }

    /// The lay-out of the version that `status` prints.
    fn json(&self) -> Value {
        let stamps = self.stamps.iter().map(|(stamp, touch)| {
            json!({
                "owner": stamp.owner(),
                "path": text(&stamp.path()),
                "touched": touch.as_ref().ok().map(LastTouch::json),
                "error": touch.as_ref().err().map(ToString::to_string),
            })
        });
        let directories = self.look.inputs().module_directories();
        let directories = directories
            .map(|(path, modules)| json!({ "path": text(path), "modules": texts(modules) }));
        let answers = self.answers.iter().flatten();
        let answers = answers.map(|answer| {
            json!({
                "command": answer.command,
                "verdict": answer.verdict,
                "asked_with": asked_with_json(&answer.asked_with),
            })
        });
        let missing = self.look.inputs().missing(self.look.profile()).into_iter();
        json!({
            "profile": self.look.profile().name(),
            "stamps": stamps.collect::<Vec<_>>(),
            "module_directories": directories.collect::<Vec<_>>(),
            "programs": texts(self.look.inputs().programs()),
            "files": texts(self.look.inputs().files()),
            "missing": missing.map(|(input, item)| json!({ "input": input, "item": item })).collect::<Vec<_>>(),
            "libraries": texts(self.look.inputs().libraries()),
            "missing_libraries": texts(self.look.inputs().missing_libraries()),
            "caches": answers.collect::<Vec<_>>(),
            "foreign_caches": self.foreign.iter().map(cures::status_json).collect::<Vec<_>>(),
            "libvirt_caches": self.libvirt.iter().map(LibvirtCache::json).collect::<Vec<_>>(),
        })
    }

    /// Adds a row for each thing: what it is, where, and its state.
    fn add_rows(&self, table: &mut Table<4>, with_missing: bool) {
        let mut row = |what: &str, place: Cell, state: String| {
            let profile = self.look.profile().name().to_owned();
            let what = Cell::Text(what.to_owned());
            table.row([Cell::Text(profile), what, place, Cell::Text(state)]);
        };
        let shown = |path: &Path| Cell::Path(printable(path).to_string());
        let outside = |path: &Path| shown(&self.look.profile().root().outside(path));
        for (stamp, touch) in &self.stamps {
            let state = match touch {
                Ok(touch) => touch.sentence(),
                Err(error) => error.to_string(),
            };
            let what = format!("{} stamp", stamp.owner());
            row(&what, shown(&stamp.path()), state);
        }
        let unknown = self.look.inputs().unknown();
        // Without a name, all inputs are those of answers, and are shown below them.
        let is_unnamed = self.stamps.is_empty();
        let mut directories = self.look.inputs().module_directories().peekable();
        if directories.peek().is_none() && !is_unnamed {
            let state = "none of the profile's exists".to_owned();
            row("module directory", Cell::Text("-".to_owned()), state);
        }
        let directories = directories.filter(|_| !is_unnamed);
        for (path, modules) in directories {
            let is_unknown = |reason: &Reason| matches!(reason, Reason::Unknown { subject, .. } if subject.path == path);
            let state = match modules.len() {
                _ if unknown.iter().any(is_unknown) => "not known".to_owned(),
                1 => "1 module".to_owned(),
                count => format!("{count} modules"),
            };
            row("module directory", outside(path), state);
        }
        for program in self.look.inputs().programs() {
            row("program", outside(program), "found".to_owned());
        }
        for file in self.look.inputs().files().filter(|_| !is_unnamed) {
            row("file", outside(file), "found".to_owned());
        }
        let missing = self.look.inputs().missing_libraries().count();
        let found = self.look.inputs().libraries().count();
        if found + missing > 0 {
            let state = format!("{found} found, {missing} missing");
            row("libraries", Cell::Text("-".to_owned()), state);
        }
        if with_missing {
            for (input, item) in self.look.inputs().missing(self.look.profile()) {
                row(&input.to_string(), Cell::Path(item), "missing".to_owned());
            }
        }
        for cache in &self.foreign {
            let what = format!("{} cache", cache.owner);
            row(
                &what,
                Cell::Path(cache.cache.clone()),
                cures::standing(cache),
            );
        }
        for cache in &self.libvirt {
            let what = format!("{} cache", cache.owner);
            row(&what, shown(&cache.path), cache.sentence());
        }
        for answer in self.answers.iter().flatten() {
            let command = Cell::Command(pasted(&answer.command));
            row("cached answer", command, state(&answer.verdict));
            let AskedWith {
                working_directory,
                inputs,
                variables,
            } = &answer.asked_with;
            for (added, state) in inputs {
                let (what, path) = match added {
                    Added::Directory(path) => ("its directory", path),
                    Added::File(path) => ("its file", path),
                };
                row(what, outside(path), state.to_string());
            }
            for variable in variables {
                let (name, value) = name_and_value(variable);
                let value = value.map_or("not set".to_owned(), |value| format!("“{value}”"));
                row("its variable", Cell::Text(name), value);
            }
            if self.is_told_apart_by_directory(answer) {
                let state = "the command starts there".to_owned();
                row("its working directory", shown(working_directory), state);
            }
        }
    }

    /// Whether another answer differs from this one by its working directory alone.
    fn is_told_apart_by_directory(&self, answer: &CachedCommand) -> bool {
        let mut others = self.answers.iter().flatten();
        let (command, with) = (&answer.command, &answer.asked_with);
        others.any(|other| {
            let AskedWith {
                working_directory, ..
            } = &other.asked_with;
            *command == other.command
                && *working_directory != with.working_directory
                && other.asked_with.inputs == with.inputs
                && other.asked_with.variables == with.variables
        })
    }
}

fn asked_with_json(asked_with: &AskedWith) -> Value {
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    for (added, _) in &asked_with.inputs {
        match added {
            Added::Directory(path) => directories.push(text(path)),
            Added::File(path) => files.push(text(path)),
        }
    }
    let variables = asked_with.variables.iter();
    let variables: Vec<String> = variables.map(|it| it.to_string_lossy().into()).collect();
    json!({
        "directories": directories,
        "files": files,
        "variables": variables,
        "working_directory": text(&asked_with.working_directory),
    })
}

/// A variable's name, and its value if it is set.
fn name_and_value(variable: &OsStr) -> (String, Option<String>) {
    let text = variable.to_string_lossy();
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.into_owned(), None),
    }
}

/// The answers in the caller's cache. A look does not create the cache.
fn answers(profile: &Profile) -> modstamp::Result<Vec<CachedCommand>> {
    match cache(profile.root())? {
        Some(cache) => cache.verdicts(profile),
        None => Ok(Vec::new()),
    }
}

fn cache(root: &Root) -> modstamp::Result<Option<Cache>> {
    match Cache::default_path() {
        Some(path) => Cache::existing(root, &path),
        None => Ok(None),
    }
}

/// Quotes a command, or an answer's file, for a shell. The words of `command` are escaped.
fn pasted(command: &str) -> String {
    let words = command.split(' ');
    let words = words.map(|word| unescape(word).unwrap_or_else(|| word.into()));
    let words: Vec<String> = words.map(|word| quoted(&word)).collect();
    words.join(" ")
}

/// A verdict in one line of a table.
pub fn state(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Fresh => "fresh".to_owned(),
        Verdict::Stale(_) => format!("stale: {}", verdict.reasons_with_times(2, shown).join("; ")),
    }
}

/// A path as JSON shows it. “\u{fffd}” stands for bytes that are not UTF-8.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

pub fn texts<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<String> {
    paths.into_iter().map(text).collect()
}

/// The table of some profiles, and one line on those that it leaves out.
fn table(
    shown: &[&ProfileStatus],
    hidden: &[&ProfileStatus],
    with_missing: bool,
    place: &Place,
) -> Table<4> {
    let mut table = Table::new(["PROFILE", "WHAT", "WHERE", "STATE"]);
    for status in shown {
        status.add_rows(&mut table, with_missing);
    }
    let names: Vec<&str> = hidden.iter().map(|it| it.look.profile().name()).collect();
    if !names.is_empty() {
        table.note(format_args!(
            "nothing is installed of: {}; “{}” shows them",
            names.join(", "),
            place.verb("status --all")
        ));
    }
    table
}
