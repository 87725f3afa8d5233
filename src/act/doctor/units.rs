//! systemd's units for `qemu`: whether they are installed, enabled and alive, and whether the
//! kernel gives room for their watches.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::act::doctor::host::{Host, UNBUILT, ask};
use crate::act::doctor::names::{INOTIFY, UNIT};
use crate::act::doctor::report::{Blind, Checked, Examination, Remedy, Seen};

const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// The directories of units, the most important one first (systemd.unit(5)).
const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The units for `qemu`, each with its template.
const UNITS: [(&str, &str); 2] = [
    ("modstamp-update@qemu.service", "modstamp-update@.service"),
    ("modstamp-update@qemu.path", "modstamp-update@.path"),
];

/// The units that can fail.
const SERVICES: [&str; 4] = [
    "modstamp-update@qemu.service",
    "modstamp-update@qemu.path",
    "modstamp-settle@qemu.service",
    "modstamp-refresh@qemu.service",
];

/// The limits of inotify: each with the least that leaves room, and the kernel's usual value.
const INOTIFY_LIMITS: [(&str, usize, usize); 2] = [
    ("max_user_instances", 16, 128),
    ("max_user_watches", 64, 8192),
];

const NO_LOOK: &str =
    "nothing sees a change by an image, a rollback or make install, and libvirt stays stale";

/// The state of a unit's file.
enum Unit {
    Missing,
    /// By this link to /dev/null, or this empty file.
    Masked(PathBuf),
    Installed(PathBuf),
}

/// Checks the units, if the host has QEMU and systemd.
pub(crate) fn units(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if !has_work(host)? {
        return Ok(Checked::NothingHere);
    }
    let mut alive = Vec::new();
    for (unit, template) in UNITS {
        let looked = check_unit(host, unit, template, report);
        if report.seen(UNIT, looked) == Some(true) {
            alive.push(unit);
        }
    }
    if is_running(host)? {
        check_running(&alive, report)?;
    }
    Ok(Checked::Made)
}

/// Checks one unit. Returns whether it is enabled.
fn check_unit(host: &Host, unit: &str, template: &str, report: &mut Examination) -> Seen<bool> {
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

fn has_work(host: &Host) -> Seen<bool> {
    let [usual, of_old] = SYSTEMD.map(Path::new);
    Ok(host.qemu().is_some() && (host.is_program(usual)? || host.is_program(of_old)?))
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
    for directory in DIRECTORIES.map(Path::new) {
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
fn check_running(enabled: &[&str], report: &mut Examination) -> Seen<()> {
    let mut query = vec!["show", "--property=Id,ActiveState"];
    query.extend(SERVICES);
    let answer = ask("systemctl", &query).map_err(|cause| Blind {
        seen: format!("cannot ask systemd about the units: {cause}"),
        remedy: format!("systemctl status {}", SERVICES.join(" ")),
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
            "inactive" if is_path && enabled.contains(&id) => report.finding(
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
    if !host.root.is_system() || !has_work(host)? {
        return Ok(Checked::NothingHere);
    }
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
                "modstamp-update@qemu.path may not start, so nothing would watch the modules",
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
