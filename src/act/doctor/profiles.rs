//! Profiles that cannot be loaded, those that name missing directories, and files that replace
//! keys of others.

use std::path::{Path, PathBuf};

use crate::act::doctor::host::{Host, shell_word};
use crate::act::doctor::names::{LIBVIRT_ANSWERS, PROFILE, PROFILE_DIRECTORY, PROFILE_OVERRIDE};
use crate::act::doctor::report::{Blind, Checked, Examination, Seen};
use crate::act::libvirt::kind;
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::observe::pattern::Source;
use crate::observe::profile::Profile;
use crate::observe::profile_file::files_of;

/// If two names are at least this similar, one counts as a typo of the other (Jaro–Winkler
/// similarity).
const ALIKE: f64 = 0.9;

/// Checks that each profile can be loaded, and notes the files that replace keys of others.
pub(crate) fn profiles(host: &Host, report: &mut Examination) -> Seen<Checked> {
    for (name, error) in &host.errors {
        let looked = check_error(host, name, error, report);
        report.seen(PROFILE, looked);
    }
    for profile in &host.profiles {
        let looked = check_files(host, profile, report);
        report.seen(PROFILE_OVERRIDE, looked);
    }
    let has_own = host.profiles.iter().any(|it| !is_built_in(host, it.name()));
    Ok(
        match has_own || !host.in_use.is_empty() || !host.errors.is_empty() {
            true => Checked::Made,
            false => Checked::NothingHere, // The built-in profiles are always right.
        },
    )
}

/// Reports a profile that is wrong.
fn check_error(host: &Host, name: &str, error: &Error, report: &mut Examination) -> Seen<()> {
    let files = files_of(name, &host.root).map_err(|error| blind(host, error))?;
    let is_wrong = |file: &&PathBuf| match error {
        Error::Profile { path, .. } | Error::System { path, .. } => {
            host.root.outside(file) == *path
        }
        _ => false,
    };
    match files.iter().find(is_wrong).or(files.last()) {
        Some(file) => report.finding(
            PROFILE,
            error.to_string(),
            "nothing that uses the profile works, neither triggers nor checks",
            edit(file),
        ),
        // It is built in, or another user's file, which nobody reads here.
        None if is_built_in(host, name) => return Err(host.blind_because(error)),
        None => {}
    }
    Ok(())
}

/// Notes the files of a profile that replace keys of others. Finds a key that has no effect.
fn check_files(host: &Host, profile: &Profile, report: &mut Examination) -> Seen<()> {
    let name = profile.name();
    let files = files_of(name, &host.root).map_err(|error| blind(host, error))?;
    let kinds: Vec<&str> = kind::profiles().collect();
    if let (true, false, Some(file)) = (
        profile.refreshes_libvirt(),
        kinds.contains(&name),
        files.last(),
    ) {
        report.finding(
            LIBVIRT_ANSWERS,
            format!("the profile {name} has refresh-libvirt = true"),
            format!(
                "libvirt caches only answers of {}, so each touch of {name} warns",
                kinds.join(" and ")
            ),
            format!("sed -i '/^ *refresh-libvirt/d' {}", shell_word(file)),
        );
    }
    let shown: Vec<String> = files.iter().map(|file| host.shown(file)).collect();
    let seen = match &shown[..] {
        [file] if is_built_in(host, name) => format!("{file} replaces keys of a built-in profile"),
        [first, rest @ ..] if !rest.is_empty() => {
            format!("{} replaces keys of {first}", rest.join(" and "))
        }
        _ => return Ok(()),
    };
    let why = format!("the profile {name} is not as it was packaged");
    report.note(PROFILE_OVERRIDE, seen, why);
    Ok(())
}

fn is_built_in(host: &Host, name: &str) -> bool {
    Profile::built_in(name, &host.root).is_some()
}

fn blind(host: &Host, error: Error) -> Blind {
    host.blind_because(&error)
}

/// Checks the module directories that a profile's file names.
///
/// A profile may name the directories of several distributions. So a missing one is a finding only
/// in these cases:
///
/// - A directory of almost the same name exists.
/// - None of the directories exists, but the program does.
pub(crate) fn directories(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let mut checked = Checked::NothingHere;
    for profile in &host.profiles {
        let files = files_of(profile.name(), &host.root).map_err(|error| blind(host, error));
        let file = files.map(|mut files| files.pop());
        let Some(Some(file)) = report.seen(PROFILE_DIRECTORY, file) else {
            continue;
        };
        checked = Checked::Made;
        let looked = check_directories(host, profile, &file, report);
        report.seen(PROFILE_DIRECTORY, looked);
    }
    Ok(checked)
}

fn check_directories(
    host: &Host,
    profile: &Profile,
    file: &Path,
    report: &mut Examination,
) -> Seen<()> {
    let missing = missing(host, profile)?;
    let name = profile.name();
    let why = "a change of the modules there goes unnoticed";
    let mut has_typo = false;
    for directory in &missing {
        if let Some(alike) = alike(host, profile, directory)? {
            has_typo = true;
            report.finding(
                PROFILE_DIRECTORY,
                format!(
                    "the profile {name} names {}, which does not exist, but {} does",
                    shown(directory),
                    shown(&alike)
                ),
                why,
                edit(file),
            );
        }
    }
    let it = host.in_use.iter().find(|it| it.name() == name);
    let program = it.and_then(|it| {
        let has_none = it.is_all_seen() && it.directories().next().is_none();
        it.programs().next().filter(|_| has_none)
    });
    if let (Some(program), false, false) = (program, has_typo, missing.is_empty()) {
        report.finding(
            PROFILE_DIRECTORY,
            format!(
                "none of the module directories that the profile {name} names exists, but its \
                 program {} does",
                shown(program)
            ),
            why,
            edit(file),
        );
    }
    Ok(())
}

/// The missing module directories that files name by plain paths, unless the built-in profile has
/// them, too.
fn missing(host: &Host, profile: &Profile) -> Seen<Vec<PathBuf>> {
    let built_in = Profile::built_in(profile.name(), &host.root);
    let built_in = built_in.iter().flat_map(plain).collect::<Vec<_>>();
    let mut missing = Vec::new();
    for directory in plain(profile) {
        if !built_in.contains(&directory) && host.stat(&directory)?.is_none() {
            missing.push(directory);
        }
    }
    Ok(missing)
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
fn alike(host: &Host, profile: &Profile, missing: &Path) -> Seen<Option<PathBuf>> {
    for there in missing.ancestors().skip(1) {
        if host.is_directory(there)? {
            return alike_in(host, profile, missing, there);
        }
    }
    Ok(None)
}

/// Like `alike`. The directory `there` is the last one on the way that exists.
fn alike_in(host: &Host, profile: &Profile, missing: &Path, there: &Path) -> Seen<Option<PathBuf>> {
    let rest = missing.strip_prefix(there).unwrap_or(missing);
    let mut rest = rest.components();
    let Some(wrong) = rest.next().and_then(|wrong| wrong.as_os_str().to_str()) else {
        return Ok(None);
    };
    let rest = rest.as_path();
    for name in host.names(there)? {
        let text = name.to_string_lossy();
        let is_version = without_digits(wrong) == without_digits(&text);
        if is_version || strsim::jaro_winkler(wrong, &text) < ALIKE {
            continue;
        }
        let path = match rest.as_os_str().is_empty() {
            true => there.join(&name),
            false => there.join(&name).join(rest),
        };
        if !profile.covers(&path) && host.is_directory(&path)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
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
