//! Profiles that cannot be loaded, those that name missing directories, and files that replace
//! keys of others.

use std::path::{Path, PathBuf};

use crate::act::doctor::host::{Host, shell_word};
use crate::act::doctor::names::{LIBVIRT_ANSWERS, PROFILE, PROFILE_DIRECTORY, PROFILE_OVERRIDE};
use crate::act::doctor::report::{Blind, Checked, Examination, Remedy, Seen, Step};
use crate::act::libvirt::kind;
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::observe::pattern::Source;
use crate::observe::profile::Profile;
use crate::observe::profile_file::files_of;

/// If two names are at least this similar, one counts as a typo of the other (Jaro–Winkler
/// similarity).
const ALIKE: f64 = 0.9;

/// The directory of the administrator's profiles.
const OF_ADMINISTRATOR: &str = "/etc/modstamp/profiles.d";

/// The old spelling of a cache with the remedy “libvirt”.
const OLD_SPELLING: &str = "refresh-libvirt";

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
    let file = files.iter().find(is_wrong).or(files.last());
    if file.is_some() {
        let seen = format!(
            "the stamp, the triggers and all else of the profile {name}, because the profile \
             cannot be loaded"
        );
        let remedy = host.again(None, Path::new("/"));
        report.blind(PROFILE, Blind { seen, remedy });
    }
    match file {
        Some(file) => report.finding(
            PROFILE,
            error.to_string(),
            "no check, touch, update or refresh by the profile works; a trigger touches the stamp \
             and warns",
            edit(host, file),
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
        let has_old_spelling = |text: String| {
            let mut lines = text.lines().map(str::trim_start);
            lines.any(|line| line.starts_with(OLD_SPELLING))
        };
        let is_old = host.text(file)?.is_some_and(has_old_spelling);
        report.finding(
            LIBVIRT_ANSWERS,
            match is_old {
                true => format!("the profile {name} has refresh-libvirt = true"),
                false => format!("the profile {name} has a cache with the remedy “libvirt”"),
            },
            format!(
                "libvirt caches only answers of {}, so each touch of {name} warns",
                kinds.join(" and ")
            ),
            match is_old {
                true => on_file(host, file, &format!("sed -i '/^[ \\t]*{OLD_SPELLING}/d'")),
                false => edit(host, file),
            },
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
///
/// An administrator writes a profile for one host. A note lists the missing directories of such a
/// profile.
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
                edit(host, file),
            );
        }
    }
    let Some(it) = host.in_use.iter().find(|it| it.name() == name) else {
        return Ok(());
    };
    if has_typo || missing.is_empty() || !it.is_all_seen() {
        return Ok(());
    }
    let has_none = it.directories().next().is_none();
    if let Some(program) = it.programs().next().filter(|_| has_none) {
        report.finding(
            PROFILE_DIRECTORY,
            format!(
                "none of the module directories that the profile {name} names exists, but its \
                 program {} does",
                shown(program)
            ),
            why,
            edit(host, file),
        );
    } else if file.starts_with(OF_ADMINISTRATOR) {
        let missing: Vec<String> = missing.iter().map(|it| shown(it).to_string()).collect();
        report.note(
            PROFILE_DIRECTORY,
            format!(
                "nothing is at {}, which the profile {name} names",
                missing.join(" and ")
            ),
            format!("{why}, if that is a typo in {}", host.shown(file)),
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

/// The command that opens a profile's file in the caller's editor.
fn edit(host: &Host, file: &Path) -> Remedy {
    on_file(host, file, "\"${EDITOR:-vi}\"")
}

/// A command with a file as its last word. Root runs it, unless the file is the caller's own.
fn on_file(host: &Host, file: &Path, command: &str) -> Remedy {
    let command = format!("{command} {}", shell_word(file));
    let own = rustix::process::geteuid().as_raw();
    let stat = host.stat(file).ok().flatten();
    Remedy::steps([match stat.is_some_and(|stat| stat.st_uid == own) {
        true => Step::Own(command),
        false => Step::Root(command),
    }])
}
