//! The drop-ins of systemd's units: whether libvirt's daemons look for changes before they start,
//! and whether the path units watch all module directories.

use std::path::{Path, PathBuf};

use crate::act::doctor::host::{Host, InUse, UNBUILT, shell_word};
use crate::act::doctor::names::{DAEMON_DROP_IN, UNIT_DIRECTORIES};
use crate::act::doctor::report::{Checked, Examination, Remedy, Seen, Step};
use crate::act::doctor::unit_file::{List, Name, UnitFile, find, find_drop_in};
use crate::act::doctor::units::{self, install, is_enabled, is_running};
use crate::ground::text::Printable;
use crate::stamp::stamp::Owner;

/// The units of libvirt's daemons that run QEMU.
const DAEMONS: [&str; 2] = ["libvirtd.service", "virtqemud.service"];

/// modstamp's drop-in of a daemon. An administrator's file of this name takes its place.
const DROP_IN: &str = "modstamp.conf";

/// The new name of such a file. systemd reads it just before modstamp's drop-in.
const RENAMED: &str = "modstamp-local.conf";

const BEFORE_START: [&str; 1] = ["ExecStartPre"];

/// An empty value of any of these keys clears the paths of all of them (systemd.path(5)).
const WATCHES: [&str; 5] = [
    "PathModified",
    "PathChanged",
    "PathExists",
    "PathExistsGlob",
    "DirectoryNotEmpty",
];

/// The directories of an administrator's own files. Packages replace files elsewhere.
const OF_ADMINISTRATORS: [&str; 2] = ["/etc/", "/run/"];

const NO_LOOK: &str =
    "libvirt's daemon starts without a look for changes, so it may serve an outdated answer";

/// Checks that each of libvirt's daemons has modstamp look before it starts.
///
/// If the units for QEMU are missing, nothing is checked here: other checks report them.
pub(crate) fn daemons(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let Some(it) = host.qemu().filter(|it| it.profile.refreshes_libvirt()) else {
        return Ok(Checked::NothingHere);
    };
    let is_missing = matches!(find(host, &units::watch("qemu"))?, UnitFile::Missing);
    let is_enabled = units::is_any_enabled(host, it.name(), Owner::System)?;
    if is_missing || !is_enabled && !units::are_qemus_installed(host)? {
        return Ok(Checked::NothingHere);
    }
    let mut checked = Checked::NothingHere;
    for daemon in DAEMONS.map(Name::of) {
        if let UnitFile::Installed(_) = find(host, &daemon)? {
            checked = Checked::Made;
            let looked = check_daemon(host, &daemon, report);
            report.seen(DAEMON_DROP_IN, looked);
        }
    }
    Ok(checked)
}

fn check_daemon(host: &Host, daemon: &Name, report: &mut Examination) -> Seen<()> {
    let list = List::of(host, daemon, &BEFORE_START)?;
    if has_update(&list) {
        return Ok(());
    }
    let name = &daemon.whole;
    let (seen, steps) = match find_drop_in(host, daemon, DROP_IN)? {
        UnitFile::Missing => (format!("{name} has no drop-in {DROP_IN}"), None),
        UnitFile::Masked(by) => {
            let seen = format!("{} masks modstamp's drop-in of {name}", host.shown(&by));
            (seen, removed(&by))
        }
        UnitFile::Installed(file) => {
            let own = List::of_file(host, &file, daemon, &BEFORE_START)?;
            match list.emptied_by.filter(|_| has_update(&own)) {
                Some(by) => {
                    let seen = format!("{} empties ExecStartPre= of {name}", host.shown(&by));
                    let edit = format!("\"${{EDITOR:-vi}}\" {}", shell_word(by));
                    (seen, Some(edit))
                }
                None => {
                    let seen = format!("{} of {name} does not run modstamp", host.shown(&file));
                    (seen, renamed(&file))
                }
            }
        }
    };
    let (why, command) = match steps {
        Some(command) => (NO_LOOK.to_owned(), command),
        None => (format!("{NO_LOOK}{UNBUILT}"), install(host)?),
    };
    let reload = reload(host, None)?;
    let steps = [Step::Root(command)].into_iter().chain(reload);
    report.finding(DAEMON_DROP_IN, seen, why, Remedy::steps(steps));
    Ok(())
}

fn has_update(list: &List) -> bool {
    list.values.iter().any(|value| {
        let words: Vec<&str> = value.split_whitespace().collect();
        let command = words.join(" ");
        command.contains("modstamp update") && command.contains("qemu")
    })
}

fn is_administrators(file: &Path) -> bool {
    OF_ADMINISTRATORS.iter().any(|it| file.starts_with(it))
}

/// The command that removes an administrator's mask.
fn removed(mask: &Path) -> Option<String> {
    is_administrators(mask).then(|| format!("rm {}", shell_word(mask)))
}

/// The command that renames an administrator's file. systemd still reads it by its new name.
fn renamed(file: &Path) -> Option<String> {
    let new = shell_word(file.with_file_name(RENAMED));
    is_administrators(file).then(|| format!("mv -n {} {new}", shell_word(file)))
}

/// The steps by which a running systemd reads its files again, and restarts `unit`.
fn reload(host: &Host, unit: Option<&Name>) -> Seen<Vec<Step>> {
    let mut steps = Vec::new();
    if is_running(host)? {
        steps.push(Step::Root("systemctl daemon-reload".to_owned()));
        let restart = unit.map(|unit| format!("systemctl restart {}", unit.whole));
        steps.extend(restart.map(Step::Root));
    }
    Ok(steps)
}

/// Checks that each enabled path unit watches the module directories that its profile names.
pub(crate) fn directories(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let mut checked = Checked::NothingHere;
    for profile in units::profiles(host)? {
        let unit = units::watch(profile);
        let is_here = matches!(find(host, &unit)?, UnitFile::Installed(_));
        let in_use = host.in_use.iter().find(|it| it.name() == profile);
        if let (Some(it), true, true) = (in_use, is_here, is_enabled(host, &unit)?) {
            checked = Checked::Made;
            let looked = check_directories(host, it, &unit, report);
            report.seen(UNIT_DIRECTORIES, looked);
        }
    }
    Ok(checked)
}

fn check_directories(host: &Host, it: &InUse, unit: &Name, report: &mut Examination) -> Seen<()> {
    let watched = List::of(host, unit, &WATCHES)?.values;
    let mut missed = Vec::new();
    for (directory, _) in it.directories() {
        if !is_watched(host, &watched, directory)? {
            missed.push(directory);
        }
    }
    if missed.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = missed
        .iter()
        .map(|path| Printable(path.as_os_str()).to_string())
        .collect();
    report.finding(
        UNIT_DIRECTORIES,
        format!("{} does not watch {}", unit.whole, shown.join(" and ")),
        "a change there by anything but a package goes unnoticed until the next boot",
        add_directories(host, unit, &missed)?,
    );
    Ok(())
}

/// Whether a directory is watched, by any of its paths. A watch of the parent directory counts,
/// too, because directories such as those in `/run/qemu` come and go.
fn is_watched(host: &Host, watched: &[String], directory: &Path) -> Seen<bool> {
    for path in watched.iter().map(Path::new) {
        if directory == path || directory.parent() == Some(path) {
            return Ok(true);
        }
        if path.is_absolute() && host.is_same(path, directory)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The commands that add directories to a path unit.
fn add_directories(host: &Host, unit: &Name, directories: &[&Path]) -> Seen<Remedy> {
    let place = format!("/etc/systemd/system/{}.d", unit.whole);
    let file = PathBuf::from(&place).join(RENAMED);
    let mut steps = match host.stat_itself(&file)? {
        Some(_) => vec![Step::Root(format!(
            "\"${{EDITOR:-vi}}\" {}",
            shell_word(&file)
        ))],
        None => {
            let watches = directories.iter().map(|path| {
                let path = path.to_string_lossy().replace('%', "%%");
                shell_word(format!("PathModified={path}"))
            });
            let lines = [shell_word("[Path]")].into_iter().chain(watches);
            vec![
                Step::Root(format!("install -d {}", shell_word(place))),
                Step::Write {
                    words: lines.collect::<Vec<_>>().join(" "),
                    file: shell_word(&file),
                },
            ]
        }
    };
    steps.extend(reload(host, Some(unit))?);
    Ok(Remedy::steps(steps))
}
