//! systemd's units: whether they are installed, enabled and alive, and whether the kernel gives
//! room for their watches.
//!
//! The profile `qemu` has to have its units, if QEMU is installed. Another profile's units are its
//! user's choice. They are looked at if one of them is enabled.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::act::doctor::host::{Host, UNBUILT, ask};
use crate::act::doctor::names::{INOTIFY, UNIT};
use crate::act::doctor::report::{Blind, Checked, Examination, Remedy, Seen};
use crate::ground::environment::home_directory;
use crate::stamp::stamp::Owner;

const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// The directories of units, the most important one first (systemd.unit(5)).
const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Those of the units of users' managers.
const USERS_DIRECTORIES: [&str; 4] = [
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
];

/// The templates of the units that are enabled for a profile.
const TEMPLATES: [&str; 2] = ["modstamp-update@.service", "modstamp-update@.path"];

/// The templates of the units that can fail.
const FALLIBLE: [&str; 4] = [
    "modstamp-update@.service",
    "modstamp-update@.path",
    "modstamp-settle@.service",
    "modstamp-refresh@.service",
];

/// The limits of inotify: each with the least that leaves room, and the kernel's usual value.
const INOTIFY_LIMITS: [(&str, usize, usize); 2] = [
    ("max_user_instances", 16, 128),
    ("max_user_watches", 64, 8192),
];

const NO_LOOK: &str =
    "nothing sees a change by an image, a rollback or make install, and cached answers stay stale";

/// The state of a unit's file.
enum Unit {
    Missing,
    /// By this link to /dev/null, or this empty file.
    Masked(PathBuf),
    Installed(PathBuf),
}

/// Checks the units of each profile that has some to do, if the host has systemd.
pub(crate) fn units(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let profiles = profiles(host)?;
    let mut alive = Vec::new();
    for unit in profiles.iter().flat_map(|profile| units_of(profile)) {
        let looked = check_unit(host, &unit, report);
        if report.seen(UNIT, looked) == Some(true) {
            alive.push(unit.name);
        }
    }
    if profiles.is_empty() {
        return Ok(Checked::NothingHere);
    }
    if is_running(host)? {
        check_running(&profiles, &alive, report)?;
    }
    Ok(Checked::Made)
}

/// A unit of a profile.
struct Instance {
    name: String,
    template: &'static str,
}

impl Instance {
    fn of(template: &'static str, profile: &str) -> Instance {
        let name = template.replace('@', &format!("@{profile}"));
        Instance { name, template }
    }
}

/// The units that are enabled for a profile.
fn units_of(profile: &str) -> [Instance; 2] {
    TEMPLATES.map(|template| Instance::of(template, profile))
}

/// The profiles whose units are looked at.
fn profiles(host: &Host) -> Seen<Vec<&str>> {
    let mut profiles = Vec::new();
    if has_systemd(host)? {
        for name in host.in_use.iter().map(|it| it.name()) {
            if name == "qemu" || is_any_enabled(host, name, Owner::System)? {
                profiles.push(name);
            }
        }
    }
    Ok(profiles)
}

/// Whether a unit of a profile's is enabled, for the system or for the caller.
pub(crate) fn is_any_enabled(host: &Host, profile: &str, owner: Owner) -> Seen<bool> {
    let mut directories = match owner {
        Owner::System => DIRECTORIES.map(PathBuf::from).to_vec(),
        Owner::User => USERS_DIRECTORIES.map(PathBuf::from).to_vec(),
    };
    let own = home_directory("XDG_CONFIG_HOME", ".config").filter(|_| owner == Owner::User);
    directories.extend(own.map(|own| own.join("systemd/user")));
    for unit in units_of(profile) {
        if is_enabled_in(host, &unit.name, &directories)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Notes that a profile has no unit, if the host has systemd and nothing of it is enabled.
pub(crate) fn note_if_none(
    host: &Host,
    profile: &str,
    owner: Owner,
    report: &mut Examination,
) -> Seen<()> {
    if !has_systemd(host)? || is_any_enabled(host, profile, owner)? {
        return Ok(());
    }
    let units = units_of(profile).map(|unit| unit.name).join(" ");
    let enable = match (owner, is_running(host)?) {
        (Owner::User, _) => "systemctl --user enable --now",
        (Owner::System, true) => "systemctl enable --now",
        (Owner::System, false) => "systemctl enable",
    };
    report.note(
        UNIT,
        format!("no unit of the profile {profile} is enabled"),
        format!(
            "its caches stay stale until somebody runs “modstamp update”; “{enable} {units}” has \
             systemd run it"
        ),
    );
    Ok(())
}

/// Checks one unit. Returns whether it is enabled.
fn check_unit(host: &Host, unit: &Instance, report: &mut Examination) -> Seen<bool> {
    let Instance {
        name: unit,
        template,
    } = unit;
    match find(host, unit, template)? {
        Unit::Missing => report.finding(
            UNIT,
            format!("there is no unit {template}"),
            format!("{NO_LOOK}{UNBUILT}"),
            install(host)?,
        ),
        Unit::Masked(by) => report.finding(
            UNIT,
            format!("the unit {unit} is masked by {}", host.shown(&by)),
            NO_LOOK,
            Remedy::of_root([format!("systemctl unmask {unit}"), enable(host, unit)?]),
        ),
        Unit::Installed(_) if !is_enabled(host, unit)? => report.finding(
            UNIT,
            format!("the unit {unit} is not enabled"),
            NO_LOOK,
            enable(host, unit)?,
        ),
        Unit::Installed(file) => {
            check_program(host, &file, report)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether systemd runs on this host (sd_booted(3)).
fn is_running(host: &Host) -> Seen<bool> {
    Ok(host.root.is_system() && host.is_directory(Path::new("/run/systemd/system"))?)
}

fn has_systemd(host: &Host) -> Seen<bool> {
    let [usual, of_old] = SYSTEMD.map(Path::new);
    Ok(host.is_program(usual)? || host.is_program(of_old)?)
}

/// Finds a unit's file by systemd's order: the instance's own before the template's.
fn find(host: &Host, unit: &str, template: &str) -> Seen<Unit> {
    for name in [unit, template] {
        for file in DIRECTORIES.map(|directory| Path::new(directory).join(name)) {
            let Some(stat) = host.stat_itself(&file)? else {
                continue;
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            // In an image, /dev/null may not exist.
            let target = host.stat(&file)?;
            let target = target.map(|stat| FileType::from_raw_mode(stat.st_mode));
            let is_empty = kind.is_file() && stat.st_size == 0;
            return Ok(match is_empty || !target.is_some_and(FileType::is_file) {
                true => Unit::Masked(file),
                false => Unit::Installed(file),
            });
        }
    }
    Ok(Unit::Missing)
}

/// Whether another unit wants this one. systemd goes by the link's name, and not by its target.
fn is_enabled(host: &Host, unit: &str) -> Seen<bool> {
    is_enabled_in(host, unit, &DIRECTORIES.map(PathBuf::from))
}

/// Like `is_enabled`, for the units in `directories`.
fn is_enabled_in(host: &Host, unit: &str, directories: &[PathBuf]) -> Seen<bool> {
    for directory in directories {
        for name in host.names(directory)? {
            let wants = [".wants", ".requires", ".upholds"];
            let is_wants = wants.iter().any(|it| name.to_string_lossy().ends_with(it));
            if is_wants
                && host
                    .stat_itself(&directory.join(&name).join(unit))?
                    .is_some()
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Checks that the program of a service exists. Without it, systemd skips the service.
fn check_program(host: &Host, file: &Path, report: &mut Examination) -> Seen<()> {
    let text = host.text(file)?.unwrap_or_default();
    let mut lines = text.lines();
    let start = lines.find_map(|line| line.strip_prefix("ExecStart="));
    let Some(program) = start.and_then(|start| start.split(' ').next()) else {
        return Ok(());
    };
    let program = Path::new(program.trim_start_matches(['-', '@', ':', '+', '!']));
    if program.is_absolute() && !host.is_program(program)? {
        report.finding(
            UNIT,
            format!(
                "{} starts {}, which is not an executable file",
                host.shown(file),
                host.shown(program)
            ),
            format!("{NO_LOOK}{UNBUILT}"),
            install(host)?,
        );
    }
    Ok(())
}

/// Asks the running systemd whether a unit failed, or is enabled but was not started.
fn check_running(profiles: &[&str], enabled: &[String], report: &mut Examination) -> Seen<()> {
    let units = profiles.iter().flat_map(|profile| {
        let units = FALLIBLE.map(|template| Instance::of(template, profile));
        units.map(|unit| unit.name)
    });
    let units: Vec<String> = units.collect();
    let mut query = vec!["show", "--property=Id,ActiveState"];
    query.extend(units.iter().map(String::as_str));
    let answer = ask("systemctl", &query).map_err(|cause| Blind {
        seen: format!("cannot ask systemd about the units: {cause}"),
        remedy: format!("systemctl status {}", units.join(" ")),
    })?;
    for unit in answer.split("\n\n") {
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
        let Some((id, state)) = value("Id=").zip(value("ActiveState=")) else {
            continue;
        };
        let is_path = id.ends_with(".path");
        match state {
            "failed" => report.finding(
                UNIT,
                format!("the unit {id} failed"),
                NO_LOOK,
                Remedy::of_root([
                    format!("journalctl --no-pager --unit {id} --lines 20"),
                    format!("systemctl restart {id}"),
                ]),
            ),
            "inactive" if is_path && enabled.iter().any(|unit| unit == id) => report.finding(
                UNIT,
                format!("the unit {id} is enabled, but was not started"),
                NO_LOOK,
                format!("systemctl start {id}"),
            ),
            _ => {}
        }
    }
    Ok(())
}

/// Checks that the running kernel gives room for the watches of systemd.
///
/// systemd takes an inotify instance for each path of a unit (`path_spec_watch`, core/path.c). The
/// limit of instances is per user (inotify(7)).
pub(crate) fn inotify(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let profiles = profiles(host)?;
    let Some(profile) = profiles.first().filter(|_| host.root.is_system()) else {
        return Ok(Checked::NothingHere);
    };
    let mut checked = Checked::NothingHere;
    for (name, least, usual) in INOTIFY_LIMITS {
        let path = Path::new("/proc/sys/fs/inotify").join(name);
        let text = host.text(&path)?.unwrap_or_default();
        let Ok(limit) = text.trim().parse::<usize>() else {
            continue;
        };
        checked = Checked::Made;
        if limit < least {
            report.finding(
                INOTIFY,
                format!("fs.inotify.{name} is {limit}, less than {least}"),
                format!(
                    "modstamp-update@{profile}.path may not start, so nothing would watch the \
                     modules"
                ),
                format!("sysctl -w fs.inotify.{name}={usual}"),
            );
        }
    }
    Ok(checked)
}

/// The command that enables a unit.
fn enable(host: &Host, unit: &str) -> Seen<String> {
    let verb = match is_running(host)? {
        true => "enable --now",
        false => "enable",
    };
    Ok(format!("systemctl {verb} {unit}"))
}

/// The command that installs the units.
fn install(host: &Host) -> Seen<String> {
    const INSTALLERS: [(&str, &str); 4] = [
        ("/usr/bin/apt-get", "apt-get install --reinstall"),
        ("/usr/bin/dnf", "dnf reinstall"),
        ("/usr/bin/zypper", "zypper install --force"),
        ("/usr/bin/pacman", "pacman -S"),
    ];
    for (program, install) in INSTALLERS {
        if host.is_program(Path::new(program))? {
            return Ok(format!("{install} modstamp modstamp-qemu"));
        }
    }
    Ok("make install-units".to_owned())
}
