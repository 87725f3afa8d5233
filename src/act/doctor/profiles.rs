//! Profiles that cannot be loaded, those that name missing directories, and files that replace
//! keys of others.

use std::path::{Path, PathBuf};

use crate::act::doctor::host::{Host, is_forbidden, shell_word};
use crate::act::doctor::report::Examination;
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::observe::pattern::Source;
use crate::observe::profile::Profile;
use crate::observe::profile_file::files_of;

const PROFILE: &str = "profile";
const DIRECTORY: &str = "profile-directory";
const OVERRIDE: &str = "profile-override";

/// If two names are at least this similar, one counts as a typo of the other (Jaro–Winkler
/// similarity).
const ALIKE: f64 = 0.9;

/// Checks that each profile can be loaded, and notes the files that replace keys of others.
pub(crate) fn profiles(host: &Host, report: &mut Examination) {
    for (name, error) in &host.errors {
        if is_forbidden(error) {
            report.unseen(PROFILE, error.to_string(), host.as_root());
            continue;
        }
        let files = files_of(name, &host.root);
        let is_wrong = |file: &&PathBuf| match error {
            Error::Profile { path, .. } | Error::System { path, .. } => {
                host.root.outside(file) == *path
            }
            _ => false,
        };
        let Some(file) = files.iter().find(is_wrong).or(files.last()) else {
            // It is built in, or another user's file, which nobody reads here.
            if Profile::built_in(name, &host.root).is_some() {
                report.unseen(PROFILE, error.to_string(), host.as_root());
            }
            continue;
        };
        report.finding(
            PROFILE,
            error.to_string(),
            "nothing that uses the profile works, neither triggers nor checks",
            edit(file),
        );
    }
    for profile in &host.profiles {
        let files = files_of(profile.name(), &host.root);
        let is_built_in = Profile::built_in(profile.name(), &host.root).is_some();
        let shown: Vec<String> = files.iter().map(|file| host.shown(file)).collect();
        let seen = match &shown[..] {
            [file] if is_built_in => format!("{file} replaces keys of a built-in profile"),
            [first, rest @ ..] if !rest.is_empty() => {
                format!("{} replaces keys of {first}", rest.join(" and "))
            }
            _ => continue,
        };
        let why = format!("the profile {} differs from its package's", profile.name());
        report.note(OVERRIDE, seen, why);
    }
}

/// Checks the module directories that a profile's file names.
///
/// A profile may name the directories of several distributions. So a missing one is a finding only
/// in these cases:
///
/// - A directory of almost the same name exists.
/// - None of the directories exists, but the program does.
pub(crate) fn directories(host: &Host, report: &mut Examination) {
    for profile in &host.profiles {
        let missing = missing(host, profile);
        let file = files_of(profile.name(), &host.root).pop();
        let Some(file) = file else {
            continue;
        };
        let name = profile.name();
        let why = "a change of the modules there goes unnoticed";
        let mut has_typo = false;
        for directory in &missing {
            if let Some(alike) = alike(host, profile, directory) {
                has_typo = true;
                report.finding(
                    DIRECTORY,
                    format!(
                        "the profile {name} names {}, which nobody has; {} exists",
                        shown(directory),
                        shown(&alike)
                    ),
                    why,
                    edit(&file),
                );
            }
        }
        let it = host.in_use.iter().find(|it| it.name() == name);
        let program = it.and_then(|it| {
            let has_none = it.inputs.module_directories().next().is_none();
            it.inputs.programs().next().filter(|_| has_none)
        });
        if let (Some(program), false, false) = (program, has_typo, missing.is_empty()) {
            report.finding(
                DIRECTORY,
                format!(
                    "none of the module directories that the profile {name} names exists, but its \
                     program {} does",
                    shown(program)
                ),
                why,
                edit(&file),
            );
        }
    }
}

/// The missing module directories that files name by plain paths, unless the built-in profile has
/// them, too.
fn missing(host: &Host, profile: &Profile) -> Vec<PathBuf> {
    let built_in = Profile::built_in(profile.name(), &host.root);
    let built_in = built_in.iter().flat_map(plain).collect::<Vec<_>>();
    let plain = plain(profile).into_iter();
    let own = plain.filter(|directory| !built_in.contains(directory));
    own.filter(|directory| host.stat(directory).is_none())
        .collect()
}

fn plain(profile: &Profile) -> Vec<PathBuf> {
    let paths = profile
        .directories
        .iter()
        .filter_map(|source| match source {
            Source::Glob(glob) => Some(glob),
            Source::Variable { .. } | Source::Program { .. } => None,
        });
    let plain = paths.filter(|glob| glob.names.is_empty());
    plain.map(|glob| glob.plain.clone()).collect()
}

/// An existing directory whose path differs from a missing one's in a single name, and only a
/// little. Another version, such as `gtk-3.0` for `gtk-2.0`, is not meant.
fn alike(host: &Host, profile: &Profile, missing: &Path) -> Option<PathBuf> {
    let there = missing
        .ancestors()
        .skip(1)
        .find(|it| host.is_directory(it))?;
    let mut rest = missing.strip_prefix(there).ok()?.components();
    let wrong = rest.next()?.as_os_str().to_str()?;
    let rest = rest.as_path();
    let names = host.names(there);
    let is_alike = |name: &&PathBuf| {
        let name = name.to_string_lossy();
        let is_version = without_digits(wrong) == without_digits(&name);
        !is_version && strsim::jaro_winkler(wrong, &name) >= ALIKE
    };
    let alike = names.iter().filter(is_alike);
    let paths = alike.map(|name| match rest.as_os_str().is_empty() {
        true => there.join(name),
        false => there.join(name).join(rest),
    });
    let mut paths = paths.filter(|path| host.is_directory(path) && !profile.covers(path));
    paths.next()
}

fn without_digits(name: &str) -> String {
    name.replace(|c: char| c.is_ascii_digit(), "")
}

fn shown(path: &Path) -> impl std::fmt::Display + '_ {
    Printable(path.as_os_str())
}

fn edit(file: &Path) -> String {
    format!("\"${{EDITOR:-vi}}\" {}", shell_word(file))
}
