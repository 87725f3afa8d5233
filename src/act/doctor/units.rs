//! systemd's units for `qemu`: whether they are installed, enabled and alive, and whether the
//! kernel gives room for their watches.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use crate::act::doctor::host::{Host, ask};
use crate::act::doctor::report::Examination;

const CHECK: &str = "unit";
const INOTIFY: &str = "inotify";

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
pub(crate) fn units(host: &Host, report: &mut Examination) {
    if !has_work(host) {
        return;
    }
    let mut alive = Vec::new();
    for (unit, template) in UNITS {
        match find(host, unit, template) {
            Unit::Missing => report.finding(
                CHECK,
                format!("there is no unit {template}"),
                NO_LOOK,
                install(host),
            ),
            Unit::Masked(by) => report.finding(
                CHECK,
                format!("the unit {unit} is masked by {}", host.shown(&by)),
                NO_LOOK,
                format!("systemctl unmask {unit} && {}", enable(host, unit)),
            ),
            Unit::Installed(_) if !is_enabled(host, unit) => report.finding(
                CHECK,
                format!("the unit {unit} is not enabled"),
                NO_LOOK,
                enable(host, unit),
            ),
            Unit::Installed(file) => {
                check_program(host, &file, report);
                alive.push(unit);
            }
        }
    }
    if is_running(host) {
        check_running(&alive, report);
    }
}

/// Whether systemd runs on this host (sd_booted(3)).
fn is_running(host: &Host) -> bool {
    host.root.is_system() && host.is_directory(Path::new("/run/systemd/system"))
}

fn has_work(host: &Host) -> bool {
    let mut systemd = SYSTEMD.iter().map(Path::new);
    host.qemu().is_some() && systemd.any(|path| host.is_program(path))
}

/// Finds a unit's file by systemd's order: the instance's own before the template's.
fn find(host: &Host, unit: &str, template: &str) -> Unit {
    for name in [unit, template] {
        for file in DIRECTORIES.map(|directory| Path::new(directory).join(name)) {
            let Some(stat) = host.root.stat(&file).ok().flatten() else {
                continue;
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            // In an image, /dev/null may not exist.
            let target = host
                .stat(&file)
                .map(|stat| FileType::from_raw_mode(stat.st_mode));
            let is_empty = kind.is_file() && stat.st_size == 0;
            return match is_empty || !target.is_some_and(FileType::is_file) {
                true => Unit::Masked(file),
                false => Unit::Installed(file),
            };
        }
    }
    Unit::Missing
}

/// Whether another unit wants this one. systemd goes by the link's name, and not by its target.
fn is_enabled(host: &Host, unit: &str) -> bool {
    DIRECTORIES.map(Path::new).iter().any(|directory| {
        let names = host.names(directory);
        let mut wants = names.iter().filter(|name| {
            let name = name.to_string_lossy();
            name.ends_with(".wants") || name.ends_with(".requires") || name.ends_with(".upholds")
        });
        let link = |name: &PathBuf| directory.join(name).join(unit);
        wants.any(|name| host.root.stat(&link(name)).is_ok_and(|it| it.is_some()))
    })
}

/// Checks that the program of a service exists. Without it, systemd skips the service.
fn check_program(host: &Host, file: &Path, report: &mut Examination) {
    let text = host.text(CHECK, file, report).unwrap_or_default();
    let mut lines = text.lines();
    let start = lines.find_map(|line| line.strip_prefix("ExecStart="));
    let Some(program) = start.and_then(|start| start.split(' ').next()) else {
        return;
    };
    let program = Path::new(program.trim_start_matches(['-', '@', ':', '+', '!']));
    if program.is_absolute() && !host.is_program(program) {
        report.finding(
            CHECK,
            format!(
                "{} starts {}, which is not an executable file",
                host.shown(file),
                host.shown(program)
            ),
            NO_LOOK,
            install(host),
        );
    }
}

/// Asks the running systemd whether a unit failed, or is enabled but was not started.
fn check_running(enabled: &[&str], report: &mut Examination) {
    let mut query = vec!["show", "--property=Id,ActiveState"];
    query.extend(SERVICES);
    let answer = match ask("systemctl", &query) {
        Ok(answer) => answer,
        Err(cause) => {
            let seen = format!("cannot ask systemd about the units: {cause}");
            report.unseen(
                CHECK,
                seen,
                format!("systemctl status {}", SERVICES.join(" ")),
            );
            return;
        }
    };
    for unit in answer.split("\n\n") {
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
        let Some((id, state)) = value("Id=").zip(value("ActiveState=")) else {
            continue;
        };
        let is_path = id.ends_with(".path");
        match state {
            "failed" => report.finding(
                CHECK,
                format!("the unit {id} failed"),
                NO_LOOK,
                format!("journalctl --unit {id} --lines 20; systemctl restart {id}"),
            ),
            "inactive" if is_path && enabled.contains(&id) => report.finding(
                CHECK,
                format!("the unit {id} is enabled, but was not started"),
                NO_LOOK,
                format!("systemctl start {id}"),
            ),
            _ => {}
        }
    }
}

/// Checks that the running kernel gives room for the watches of systemd.
///
/// systemd takes an inotify instance for each path of a unit (`path_spec_watch`, core/path.c). The
/// limit of instances is per user (inotify(7)).
pub(crate) fn inotify(host: &Host, report: &mut Examination) {
    if !host.root.is_system() || !has_work(host) {
        return;
    }
    for (name, least, usual) in INOTIFY_LIMITS {
        let path = Path::new("/proc/sys/fs/inotify").join(name);
        let text = host.text(INOTIFY, &path, report).unwrap_or_default();
        let limit = text.trim().parse::<usize>();
        if limit.is_ok_and(|limit| limit < least) {
            report.finding(
                INOTIFY,
                format!("fs.inotify.{name} is {}, less than {least}", text.trim()),
                "modstamp-update@qemu.path may not start, so nothing would watch the modules",
                format!("sysctl -w fs.inotify.{name}={usual}"),
            );
        }
    }
}

/// The command that enables a unit.
fn enable(host: &Host, unit: &str) -> String {
    let verb = match is_running(host) {
        true => "enable --now",
        false => "enable",
    };
    format!("systemctl {verb} {unit}")
}

/// The command that installs the units.
fn install(host: &Host) -> &'static str {
    let exists = |path: &str| host.is_program(Path::new(path));
    match () {
        () if exists("/usr/bin/apt-get") => "apt-get install --reinstall modstamp modstamp-qemu",
        () if exists("/usr/bin/dnf") => "dnf reinstall modstamp modstamp-qemu",
        () if exists("/usr/bin/zypper") => "zypper install --force modstamp modstamp-qemu",
        () if exists("/usr/bin/pacman") => "pacman -S modstamp modstamp-qemu",
        () => "make install-units",
    }
}
