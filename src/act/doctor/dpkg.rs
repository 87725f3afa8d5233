//! dpkg's triggers: whether they are there and alive, and whether the last run of dpkg fired them.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::act::doctor::host::{Host, InUse, MOST_FILES, PROGRAM, UNBUILT, shell_word};
use crate::act::doctor::names::{DPKG_LAST_RUN, DPKG_TRIGGER};
use crate::act::doctor::report::{Blind, Checked, Examination, Seen};
use crate::act::doctor::units::{self, NOT_TOLD};

const STATUS: &str = "/var/lib/dpkg/status";
const TRIGGERS: &str = "/var/lib/dpkg/triggers/File";
const INFO: &str = "/var/lib/dpkg/info";
const LOG: &str = "/var/log/dpkg.log";

/// The local time zone, by which dpkg writes its log. Without this link it is UTC (localtime(5)).
const LOCAL_TIME: &str = "/etc/localtime";

/// The most lines of the log that are looked at, the last ones.
const MOST_LINES: usize = 100_000;

/// A package whose postinst dpkg runs for a directory (`DIRECTORY PACKAGE/noawait`,
/// deb-triggers(5)).
struct Trigger {
    directory: PathBuf,
    package: String,
}

/// Whether dpkg manages this host. On other distributions dpkg's database may be empty.
pub(crate) fn is_here(host: &Host) -> Seen<bool> {
    let stat = host.stat(Path::new(STATUS))?;
    Ok(stat.is_some_and(|stat| stat.st_size > 1))
}

/// Checks the triggers of each profile. Only `qemu` has to have one.
pub(crate) fn triggers(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if host.in_use.is_empty() || !is_here(host)? {
        return Ok(Checked::NothingHere);
    }
    let status = host.database(Path::new(STATUS))?.unwrap_or_default();
    let mut checked = Checked::NothingHere;
    for it in &host.in_use {
        let triggers = triggers_of(host, it)?;
        if triggers.is_empty() && it.name() == "qemu" {
            checked = Checked::Made;
            let seen = "dpkg has no trigger that touches the stamp of the profile qemu";
            match state(&status, "modstamp-qemu") {
                Some("installed") => report.finding(
                    DPKG_TRIGGER,
                    seen,
                    format!("{NOT_TOLD}{UNBUILT}"),
                    "apt-get install --reinstall modstamp-qemu",
                ),
                _ => {
                    let install = "apt-get install modstamp-qemu";
                    units::tell_no_trigger(host, DPKG_TRIGGER, seen, install, report)?;
                }
            }
        }
        let mut packages: Vec<&str> = triggers.iter().map(|it| &*it.package).collect();
        packages.dedup();
        for package in packages {
            checked = Checked::Made;
            let looked = check_package(host, package, &status, report);
            report.seen(DPKG_TRIGGER, looked);
        }
    }
    Ok(checked)
}

/// Checks that the triggered package is configured, and that its script can run.
fn check_package(host: &Host, package: &str, status: &str, report: &mut Examination) -> Seen<()> {
    let mend = match state(status, package) {
        Some("triggers-pending") => Some("dpkg --triggers-only"),
        Some("unpacked" | "half-configured" | "half-installed") => Some("dpkg --configure"),
        _ => None,
    };
    if let Some(mend) = mend {
        let state = state(status, package).unwrap_or_default();
        report.finding(
            DPKG_TRIGGER,
            format!("the package {package} is in the state “{state}”"),
            "dpkg has not run its trigger, so the stamp was not touched for the last change",
            format!("{mend} {}", shell_word(package)),
        );
    }
    let script = script(package);
    if !host.is_program(&script)? {
        report.finding(
            DPKG_TRIGGER,
            format!("{} is not executable", host.shown(&script)),
            "dpkg cannot run the trigger, and fails",
            format!("chmod 0755 {}", shell_word(&script)),
        );
    }
    if !host.is_program(Path::new(PROGRAM))? {
        report.finding(
            DPKG_TRIGGER,
            format!(
                "the trigger of {package} starts {}, which is not an executable file",
                host.shown(Path::new(PROGRAM))
            ),
            format!("the trigger does nothing, so no package touches the stamp{UNBUILT}"),
            "apt-get install --reinstall modstamp",
        );
    }
    Ok(())
}

/// Checks that a trigger ran after the last package with files in the trigger's directories.
///
/// The order of the lines in dpkg's log decides. A later touch of the stamp counts, too: an update
/// or a person may have made up for the trigger.
pub(crate) fn last_run(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if host.in_use.is_empty() || !is_here(host)? {
        return Ok(Checked::NothingHere);
    }
    let Some(log) = host.database(Path::new(LOG))? else {
        return Ok(Checked::NothingHere);
    };
    let mut checked = Checked::NothingHere;
    for it in &host.in_use {
        let triggers = triggers_of(host, it)?;
        if triggers.is_empty() {
            continue;
        }
        checked = Checked::Made;
        let Some((time, package)) = missed(host, &log, &triggers)? else {
            continue;
        };
        let touched = host.touched(it)?;
        if seconds(host, &time)?
            .zip(touched)
            .is_some_and(|(ran, touched)| touched.seconds() >= ran)
        {
            continue;
        }
        let name = it.name();
        report.finding(
            DPKG_LAST_RUN,
            format!(
                "dpkg unpacked {package} at {time}, but has not run the trigger of {} since then",
                triggers[0].package
            ),
            "the stamp was not touched, so libvirt may not know the package's modules",
            format!("modstamp touch --profile {name} --reason 'the trigger did not run'"),
        );
    }
    Ok(checked)
}

/// The time and the name of the last unpacked package with files in a directory of `triggers`.
/// `None` if a trigger ran after it, or if it was unpacked long ago.
fn missed(host: &Host, log: &str, triggers: &[Trigger]) -> Seen<Option<(String, String)>> {
    let mut unpacked: Vec<&str> = Vec::new();
    for line in log.lines().rev().take(MOST_LINES) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [day, time, action, package, ..] = words[..] else {
            continue;
        };
        let name = package.split(':').next().unwrap_or_default();
        match action {
            "trigproc" | "configure" if triggers.iter().any(|it| it.package == name) => {
                return Ok(None);
            }
            "install" | "upgrade" if !unpacked.contains(&package) => unpacked.push(package),
            _ => continue,
        }
        let fires = |file: &str| {
            let mut directories = triggers.iter().map(|it| &it.directory);
            let file = Path::new(file);
            directories.any(|directory| file != directory && file.starts_with(directory))
        };
        if files(host, package)?.lines().any(fires) {
            return Ok(Some((format!("{day} {time}"), package.to_owned())));
        }
        if unpacked.len() == MOST_FILES {
            break;
        }
    }
    Ok(None)
}

/// The list of an installed package's files. It is empty if the package is gone.
fn files(host: &Host, package: &str) -> Seen<String> {
    let name = package.split(':').next().unwrap_or_default();
    for name in [package, name] {
        let list = Path::new(INFO).join(format!("{name}.list"));
        if let Some(list) = host.text(&list)? {
            return Ok(list);
        }
    }
    Ok(String::new())
}

/// A local time of dpkg's log, in seconds since 1970. `None` if it is no time.
fn seconds(host: &Host, time: &str) -> Seen<Option<i64>> {
    let Ok(time) = time.replace(' ', "T").parse::<DateTime>() else {
        return Ok(None);
    };
    let zone = match TimeZone::try_system() {
        Ok(zone) => zone,
        Err(_) if host.stat_itself(Path::new(LOCAL_TIME))?.is_none() => TimeZone::UTC,
        Err(cause) => {
            return Err(Blind {
                seen: format!("the local time zone of dpkg's log is not known: {cause}"),
                remedy: format!("ls -l {LOCAL_TIME}"),
            });
        }
    };
    let time = time.to_zoned(zone).ok();
    Ok(time.map(|time| time.timestamp().as_second()))
}

/// dpkg's triggers that touch a profile's stamp for its module directories.
fn triggers_of(host: &Host, it: &InUse) -> Seen<Vec<Trigger>> {
    let text = host.text(Path::new(TRIGGERS))?.unwrap_or_default();
    let triggers = text.lines().filter_map(|line| {
        let (directory, package) = line.rsplit_once(' ')?;
        let package = package.split('/').next()?;
        Some(Trigger {
            directory: PathBuf::from(directory),
            package: package.to_owned(),
        })
    });
    let of_profile = triggers.filter(|trigger| it.profile.covers(&trigger.directory));
    let call = format!("modstamp trigger dpkg --profile {} ", it.name());
    let mut touching = Vec::new();
    for trigger in of_profile.take(MOST_FILES) {
        let script = host.text(&script(&trigger.package))?;
        if script.is_some_and(|script| script.contains(&call)) {
            touching.push(trigger);
        }
    }
    Ok(touching)
}

fn script(package: &str) -> PathBuf {
    Path::new(INFO).join(format!("{package}.postinst"))
}

/// The last word of a package's `Status:`, such as "installed". `None` if dpkg does not know it.
fn state<'a>(status: &'a str, package: &str) -> Option<&'a str> {
    let name = package.split(':').next().unwrap_or_default();
    let first = format!("Package: {name}");
    let mut stanzas = status.split("\n\n");
    let stanza = stanzas.find(|stanza| stanza.lines().any(|line| line == first))?;
    let mut lines = stanza.lines();
    let state = lines.find_map(|line| line.strip_prefix("Status: "))?;
    state.rsplit(' ').next()
}
