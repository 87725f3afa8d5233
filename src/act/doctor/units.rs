//! systemd's units: whether they are installed, enabled and alive.
//!
//! The profile `qemu` has to have its units, if QEMU is installed. Another profile's units are its
//! user's choice. They are looked at if one of them is enabled.

use std::path::{Path, PathBuf};

use crate::act::doctor::ask::ask;
use crate::act::doctor::host::{Host, UNBUILT};
use crate::act::doctor::names::UNIT;
use crate::act::doctor::report::{Blind, Checked, Examination, Remedy, Seen, Step};
use crate::act::doctor::unit_file::{
    DIRECTORIES, Name, USERS_DIRECTORIES, UnitFile, find, find_drop_in, is_enabled_in,
};
use crate::ground::environment::home_directory;
use crate::stamp::stamp::Owner;

const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// The templates of the units that are enabled for a profile.
const TEMPLATES: [&str; 2] = ["modstamp-update@.service", "modstamp-update@.path"];

/// The templates of the units that the enabled ones start.
const STARTED: [&str; 2] = ["modstamp-settle@.service", "modstamp-refresh@.service"];

/// The package modstamp-qemu, and `make install`, bring this drop-in of the path unit.
const DIRECTORIES_OF_QEMU: &str = "directories.conf";

/// `make install` puts the units there, unless it is told another place.
const OF_SOURCE: &str = "/usr/local/lib/systemd/system/modstamp-update@.service";

const NO_LOOK: &str =
    "nothing sees a change by an image, a rollback or make install, and cached answers stay stale";

/// The consequence if a package manager has no trigger.
pub(crate) const NOT_TOLD: &str =
    "a package can bring or take a QEMU module, and nothing tells libvirt";

/// Checks the units of each profile that has some to do, if the host has systemd.
pub(crate) fn units(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let profiles = profiles(host)?;
    let (mut alive, mut missing) = (Vec::new(), Vec::new());
    for profile in &profiles {
        let mut disabled = Vec::new();
        for template in TEMPLATES.iter().chain(&STARTED) {
            let looked = state(host, profile, template);
            let Some((unit, state)) = report.seen(UNIT, looked) else {
                continue;
            };
            match state {
                State::Missing if missing.contains(template) => {}
                State::Missing => missing.push(*template),
                State::Masked(by) => tell_masked(host, &unit, &by, template, report)?,
                State::Disabled => disabled.push(unit.whole),
                State::Enabled(file) => {
                    let looked = check_program(host, &file, report);
                    report.seen(UNIT, looked);
                    alive.push(unit.whole);
                }
                State::Started => {}
            }
        }
        tell_disabled(host, &disabled, report)?;
    }
    let seen = match &missing[..] {
        [] => None,
        [unit] => Some(format!("there is no unit {unit}")),
        units => Some(format!("there are no units {}", units.join(" and "))),
    };
    if let Some(seen) = seen {
        report.finding(UNIT, seen, format!("{NO_LOOK}{UNBUILT}"), install(host)?);
    }
    if profiles.is_empty() {
        return Ok(Checked::NothingHere);
    }
    if is_running(host)? {
        check_running(&profiles, &alive, report)?;
    }
    Ok(Checked::Made)
}

/// The state of a profile's unit.
enum State {
    Missing,
    /// The path is that of the mask.
    Masked(PathBuf),
    /// The unit should be enabled, and is not.
    Disabled,
    /// The path is that of the unit's file.
    Enabled(PathBuf),
    /// The unit is there, and another unit starts it.
    Started,
}

fn state(host: &Host, profile: &str, template: &str) -> Seen<(Name, State)> {
    let unit = instance(template, profile);
    let state = match find(host, &unit)? {
        UnitFile::Missing => State::Missing,
        UnitFile::Masked(by) => State::Masked(by),
        UnitFile::Installed(_) if STARTED.contains(&template) => State::Started,
        UnitFile::Installed(file) => match is_enabled(host, &unit)? {
            true => State::Enabled(file),
            false => State::Disabled,
        },
    };
    Ok((unit, state))
}

fn tell_masked(
    host: &Host,
    unit: &Name,
    by: &Path,
    template: &str,
    report: &mut Examination,
) -> Seen<()> {
    let unit = &unit.whole;
    let unmask = Step::Root(format!("systemctl unmask {unit}"));
    let enable = match TEMPLATES.contains(&template) {
        true => Some(Step::Root(enable(host, unit)?)),
        false => None,
    };
    report.finding(
        UNIT,
        format!("the unit {unit} is masked by {}", host.shown(by)),
        NO_LOOK,
        Remedy::steps([unmask].into_iter().chain(enable)),
    );
    Ok(())
}

/// Makes one finding of all units of a profile that should be enabled and are not.
fn tell_disabled(host: &Host, units: &[String], report: &mut Examination) -> Seen<()> {
    let seen = match units {
        [] => return Ok(()),
        [unit] => format!("the unit {unit} is not enabled"),
        units => format!("the units {} are not enabled", units.join(" and ")),
    };
    report.finding(UNIT, seen, NO_LOOK, enable(host, &units.join(" "))?);
    Ok(())
}

/// The unit of a template for a profile.
pub(crate) fn instance(template: &str, profile: &str) -> Name {
    Name::of(&template.replace('@', &format!("@{profile}")))
}

/// The units that are enabled for a profile.
fn units_of(profile: &str) -> [Name; 2] {
    TEMPLATES.map(|template| instance(template, profile))
}

/// The unit that watches a profile's modules.
pub(crate) fn watch(profile: &str) -> Name {
    let [_, path] = units_of(profile);
    path
}

/// The profiles whose units are looked at.
pub(crate) fn profiles(host: &Host) -> Seen<Vec<&str>> {
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
        if is_enabled_in(host, &unit, &directories)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the units look for changes of a profile's modules: at boot, and at each change.
pub(crate) fn is_watched(host: &Host, profile: &str) -> Seen<bool> {
    for template in TEMPLATES {
        let (_, state) = state(host, profile, template)?;
        if !matches!(state, State::Enabled(_)) {
            return Ok(false);
        }
    }
    has_systemd(host)
}

/// Whether the units for QEMU are installed, and not only the templates of the package modstamp.
pub(crate) fn are_qemus_installed(host: &Host) -> Seen<bool> {
    let drop_in = find_drop_in(host, &watch("qemu"), DIRECTORIES_OF_QEMU)?;
    Ok(has_systemd(host)? && !matches!(drop_in, UnitFile::Missing))
}

/// Tells that a package manager has no trigger for `qemu`. That is only a note if the units watch
/// the modules, as after `make install`. Otherwise it is a finding.
pub(crate) fn tell_no_trigger(
    host: &Host,
    check: &'static str,
    seen: &str,
    install: impl Into<Remedy>,
    report: &mut Examination,
) -> Seen<()> {
    if is_watched(host, "qemu")? {
        let watch = watch("qemu").whole;
        let why = format!("{watch} sees each change instead, and starts an update a second later");
        report.note(check, seen, why);
        return Ok(());
    }
    let remedy = match are_qemus_installed(host)? {
        true => enable(host, &units_of("qemu").map(|unit| unit.whole).join(" "))?.into(),
        false => install.into(),
    };
    report.finding(check, seen, format!("{NOT_TOLD}{UNBUILT}"), remedy);
    Ok(())
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
    let units = units_of(profile).map(|unit| unit.whole).join(" ");
    let enable = match owner {
        Owner::User => format!("systemctl --user enable --now {units}"),
        Owner::System => enable(host, &units)?,
    };
    report.note(
        UNIT,
        format!("no unit of the profile {profile} is enabled"),
        format!(
            "its caches stay stale until somebody runs “modstamp update --profile {profile}”; \
             “{enable}” has systemd run it"
        ),
    );
    Ok(())
}

/// Whether systemd runs on this host (sd_booted(3)).
pub(crate) fn is_running(host: &Host) -> Seen<bool> {
    Ok(host.root.is_system() && host.is_directory(Path::new("/run/systemd/system"))?)
}

fn has_systemd(host: &Host) -> Seen<bool> {
    let [usual, of_old] = SYSTEMD.map(Path::new);
    Ok(host.is_program(usual)? || host.is_program(of_old)?)
}

pub(crate) fn is_enabled(host: &Host, unit: &Name) -> Seen<bool> {
    is_enabled_in(host, unit, &DIRECTORIES.map(PathBuf::from))
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
        let templates = TEMPLATES.iter().chain(&STARTED);
        templates.map(|template| instance(template, profile).whole)
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

/// The command that enables units.
fn enable(host: &Host, units: &str) -> Seen<String> {
    let verb = match is_running(host)? {
        true => "enable --now",
        false => "enable",
    };
    Ok(format!("systemctl {verb} {units}"))
}

/// The command that installs the units.
pub(crate) fn install(host: &Host) -> Seen<String> {
    const INSTALLERS: [(&str, &str); 4] = [
        ("/usr/bin/apt-get", "apt-get install --reinstall"),
        ("/usr/bin/dnf", "dnf reinstall"),
        ("/usr/bin/zypper", "zypper install --force"),
        ("/usr/bin/pacman", "pacman -S"),
    ];
    let is_of_source = host.stat(Path::new(OF_SOURCE))?.is_some();
    for (program, install) in INSTALLERS {
        if !is_of_source && host.is_program(Path::new(program))? {
            return Ok(format!("{install} modstamp modstamp-qemu"));
        }
    }
    Ok("make install".to_owned())
}
