//! A cure: one remedy applied to one cache.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::act::remedy::find::{Found, FoundFile};
use crate::act::remedy::places::{Places, is_read_only, read_only};
use crate::act::remedy::program::{self, End};
use crate::act::remedy::record::RemedyResult;
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::observe::foreign_cache::{Command, DIRECTORY, ForeignCache, Program, Remedy};
use crate::observe::pattern::{Glob, Named};
use crate::observe::profile::Profile;
use crate::stamp::event::Event;
use crate::stamp::stamp::Owner;

/// What a remedy did for one cache. Paths are as seen from outside the root.
#[derive(Debug)]
pub struct Cure {
    /// The cache's files, as the profile names them.
    pub cache: String,
    /// The remedy, as the profile names it.
    pub remedy: String,
    /// The files that were removed.
    pub removed: Vec<PathBuf>,
    /// The commands that succeeded, for people.
    pub ran: Vec<String>,
    /// The last lines of the commands' output.
    pub output: Vec<String>,
    /// Whether the cache is good now.
    pub result: RemedyResult,
    /// What went wrong. The rest was done, and the next update tries again.
    pub(crate) errors: Vec<Error>,
    /// Why the remedy was not applied, or not to all of the cache: a sentence for each part.
    pub left: Vec<String>,
    /// Whether this differs from the recorded last remedy, so that people should be told.
    pub(crate) is_news: bool,
}

impl Cure {
    fn begin(cache: &ForeignCache) -> Cure {
        Cure {
            cache: cache.to_string(),
            remedy: cache.remedy.to_string(),
            removed: Vec::new(),
            ran: Vec::new(),
            output: Vec::new(),
            result: RemedyResult::Good,
            errors: Vec::new(),
            left: Vec::new(),
            is_news: false,
        }
    }

    /// Whether a file was removed, or a command run.
    pub fn is_change(&self) -> bool {
        !self.removed.is_empty() || !self.ran.is_empty()
    }

    fn fail(&mut self, error: Error) {
        self.errors.push(error);
        self.result = RemedyResult::Failed;
    }

    /// What was done, as parts of a sentence.
    pub(crate) fn what(&self) -> String {
        let removed = match &self.removed[..] {
            [] => None,
            [file] => Some(format!("removed {}", Printable(file.as_os_str()))),
            files => Some(format!("removed {} files", files.len())),
        };
        let ran = self.ran.iter().map(|command| format!("ran {command}"));
        let errors = self.errors.iter().map(ToString::to_string);
        let left = self.left.iter().cloned();
        let all: Vec<String> = removed
            .into_iter()
            .chain(ran)
            .chain(left)
            .chain(errors)
            .collect();
        match all.is_empty() {
            true => "there was no file".to_owned(),
            false => all.join("; "),
        }
    }

    /// Adds to an event what was done.
    pub(crate) fn tell(&self, event: &mut Event) {
        event.add_paths("removed", &self.removed);
        for command in &self.ran {
            event.add(&format!("ran {command}"));
        }
        if self.is_news {
            for why in &self.left {
                event.add(&format!("left {}: {why}", self.cache));
            }
            event.fail(&self.errors);
        }
    }

    /// Leaves a cache as it is.
    pub(crate) fn leave(cache: &ForeignCache, why: &str) -> Cure {
        Cure {
            left: vec![why.to_owned()],
            ..Cure::begin(cache)
        }
    }

    /// Removes the files of a cache.
    pub(crate) fn by_removal(cache: &ForeignCache, profile: &Profile) -> Cure {
        let mut cure = Cure::begin(cache);
        if let Some(error) = why_foreign("remove a cache that is named by", profile) {
            cure.fail(error);
            return cure;
        }
        let root = profile.root();
        let found = Found::search(root, &globs(cache, profile));
        cure.left.extend(found.about_theirs());
        found.errors.into_iter().for_each(|error| cure.fail(error));
        for file in found.files {
            let path = root.outside(&file.path);
            match file.remove() {
                Ok(true) => cure.removed.push(path),
                Ok(false) => {}
                Err(cause) if is_of_image(&file, &cause) => {
                    let why = read_only(path.parent().unwrap_or(&path));
                    if !cure.left.contains(&why) {
                        cure.left.push(why);
                    }
                }
                Err(cause) => {
                    let remedy = "look at it, and remove it by hand if that is right";
                    let error = Error::system("remove the cache", path, cause, remedy);
                    cure.fail(error);
                }
            }
        }
        cure
    }

    /// Runs the command of a cache. `is_in_use` tells whether any of the profile is installed.
    pub(crate) fn by_command(
        cache: &ForeignCache,
        command: &Command,
        profile: &Profile,
        owner: Owner,
        is_in_use: bool,
    ) -> Cure {
        let mut cure = Cure::begin(cache);
        if let Some(error) = why_foreign("run a command of the profile", profile) {
            cure.fail(error);
            return cure;
        }
        let root = profile.root();
        let globs = globs(cache, profile);
        let places = Places::search(root, &globs);
        if places.are_left() {
            cure.left = places.left;
            return cure;
        }
        let programs = match program::find(root, &command.program) {
            Ok(programs) => programs,
            Err(error) => {
                cure.fail(error);
                return cure;
            }
        };
        // A profile has the layouts of several distributions. A missing program is an error only if
        // this host has the layout of its cache.
        let has_place = is_in_use && !places.ready.is_empty();
        let is_missed = || has_place || !Found::search(root, &globs).files.is_empty();
        if programs.is_empty() && is_missed() {
            cure.fail(not_there(&command.program));
        }
        let directories = match command.takes_directory() {
            true => {
                cure.left = places.left;
                places.errors.into_iter().for_each(|error| cure.fail(error));
                places.ready
            }
            false => BTreeSet::from([PathBuf::new()]),
        };
        for program in programs {
            for directory in &directories {
                if is_for(&program, &command.program, directory, &globs) {
                    cure.run(&program, command, directory, owner);
                }
            }
        }
        cure
    }

    fn run(&mut self, program: &Path, command: &Command, directory: &Path, owner: Owner) {
        let directory = directory.to_string_lossy();
        let arguments = command.arguments.iter();
        let arguments: Vec<String> = arguments
            .map(|argument| argument.replace(DIRECTORY, &directory))
            .collect();
        let limit = command.time_limit;
        let refused = |cause: io::Error| {
            let remedy = "run it by hand to see why, or correct the profile";
            Error::system("make a cache good by", program, cause, remedy)
        };
        let (end, lines) = match program::run(program, &arguments, owner, limit) {
            Ok(ended) => ended,
            Err(cause) => return self.fail(refused(cause)),
        };
        let problem = match end {
            End::Exited(status) if status.success() => None,
            End::Exited(status) => Some(how_it_ended(status)),
            End::TooLong => Some(format!(
                "it was ended, because it took longer than {} seconds",
                limit.as_secs()
            )),
        };
        match problem {
            None => {
                let words = arguments.iter().map(String::as_str);
                let program = Printable(program.as_os_str()).to_string();
                let words: Vec<&str> = [&*program].into_iter().chain(words).collect();
                self.ran.push(words.join(" "));
            }
            Some(problem) => {
                let said = lines.last().map(|line| format!(", and said “{line}”"));
                let problem = problem + &said.unwrap_or_default();
                self.fail(refused(io::Error::other(problem)));
            }
        }
        self.output.extend(lines);
    }
}

/// The error about a profile that somebody else could have written. Its author could otherwise
/// choose the files that the caller removes, and the commands that the caller runs.
fn why_foreign(attempt: &'static str, profile: &Profile) -> Option<Error> {
    let problem = profile.foreign.as_ref()?;
    let remedy = "let the profile belong to root or you, and let nobody else write to it";
    let cause = io::Error::other(format!("others could have written it: {problem}"));
    Some(Error::system(attempt, profile.name(), cause, remedy))
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with status {code}"),
        (None, signal) => format!("it was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// Whether a program makes the caches in a directory.
///
/// If its pattern begins like that of the caches, both have to begin with the same names. So the
/// program of each architecture makes the lists of its own.
fn is_for(path: &Path, program: &Program, directory: &Path, globs: &[Glob]) -> bool {
    let Program::Path(pattern) = program else {
        return true;
    };
    let above = globs.iter().filter_map(|glob| glob.above(1));
    let mut of_directory = above.filter(|glob| glob.matches(directory)).peekable();
    of_directory.peek().is_none()
        || of_directory.any(|glob| {
            let alike = 1 + pattern.alike(&glob); // With the root directory.
            path.iter().take(alike).eq(directory.iter().take(alike))
        })
}

fn not_there(program: &Program) -> Error {
    let (path, cause) = match program {
        Program::Name(name) => (
            PathBuf::from(name),
            "it is in none of /usr/sbin, /usr/bin, /sbin, /bin",
        ),
        Program::Path(glob) => (PathBuf::from(glob.to_string()), "there is no such program"),
    };
    let remedy = "install it, or correct the profile";
    Error::system(
        "make a cache good by",
        path,
        io::Error::other(cause),
        remedy,
    )
}

/// The globs of a cache's files.
pub(crate) fn globs(cache: &ForeignCache, profile: &Profile) -> Vec<Glob> {
    let programs = profile.program_globs();
    let named = cache.files.iter().flat_map(|file| file.named(&programs));
    let globs = named.filter_map(|named| match named {
        Named::Absolute(glob) => Some(glob.into_owned()),
        Named::Relative(_) => None,
    });
    globs.collect()
}

/// Whether a file was refused because its file system is read-only, as in an image.
fn is_of_image(file: &FoundFile, cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::ReadOnlyFilesystem && is_read_only(&file.directory, &file.path)
}

/// Whether a remedy is a command.
pub(crate) fn is_command(cache: &ForeignCache) -> bool {
    matches!(cache.remedy, Remedy::Command(_))
}
