//! dpkg's triggers: whether they are there and alive, and whether the last run of dpkg fired them.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::act::doctor::host::{Host, InUse, MOST_FILES, PROGRAM, shell_word};
use crate::act::doctor::report::Examination;

const TRIGGER: &str = "dpkg-trigger";
const LAST_RUN: &str = "dpkg-last-run";

const STATUS: &str = "/var/lib/dpkg/status";
const TRIGGERS: &str = "/var/lib/dpkg/triggers/File";
const INFO: &str = "/var/lib/dpkg/info";
const LOG: &str = "/var/log/dpkg.log";

/// The most lines of the log that are looked at, the last ones.
const MOST_LINES: usize = 100_000;

/// A package whose postinst dpkg runs for a directory (`DIRECTORY PACKAGE/noawait`,
/// deb-triggers(5)).
struct Trigger {
    directory: PathBuf,
    package: String,
}

/// Whether dpkg manages this host. On other distributions dpkg's database may be empty.
pub(crate) fn is_here(host: &Host) -> bool {
    let stat = host.stat(Path::new(STATUS));
    stat.is_some_and(|stat| stat.st_size > 1)
}

/// Checks the triggers of each profile. Only `qemu` has to have one.
pub(crate) fn triggers(host: &Host, report: &mut Examination) {
    if !is_here(host) {
        return;
    }
    let Some(status) = host.database(TRIGGER, Path::new(STATUS), report) else {
        return;
    };
    for it in &host.in_use {
        let triggers = triggers_of(host, it, report);
        if triggers.is_empty() && it.name() == "qemu" {
            let install = match state(&status, "modstamp-qemu") {
                Some("installed") => "apt-get install --reinstall modstamp-qemu",
                _ => "apt-get install modstamp-qemu",
            };
            report.finding(
                TRIGGER,
                "dpkg has no trigger that touches the stamp of the profile qemu",
                "a package can bring or take a QEMU module, and nothing tells libvirt",
                install,
            );
        }
        let mut packages: Vec<&str> = triggers.iter().map(|it| &*it.package).collect();
        packages.dedup();
        for package in packages {
            check_package(host, package, &status, report);
        }
    }
}

/// Checks that the triggered package is configured, and that its script can run.
fn check_package(host: &Host, package: &str, status: &str, report: &mut Examination) {
    let mend = match state(status, package) {
        Some("triggers-pending") => Some("dpkg --triggers-only"),
        Some("unpacked" | "half-configured" | "half-installed") => Some("dpkg --configure"),
        _ => None,
    };
    if let Some(mend) = mend {
        let state = state(status, package).unwrap_or_default();
        report.finding(
            TRIGGER,
            format!("the package {package} is in the state “{state}”"),
            "dpkg has not run its trigger, so the stamp was not touched for the last change",
            format!("{mend} {}", shell_word(package)),
        );
    }
    let script = script(package);
    if !host.is_program(&script) {
        report.finding(
            TRIGGER,
            format!("{} is not executable", host.shown(&script)),
            "dpkg cannot run the trigger, and fails",
            format!("chmod 0755 {}", shell_word(&script)),
        );
    }
    if !host.is_program(Path::new(PROGRAM)) {
        report.finding(
            TRIGGER,
            format!(
                "the trigger of {package} starts {}, which is not an executable file",
                host.shown(Path::new(PROGRAM))
            ),
            "the trigger does nothing, so no package touches the stamp",
            "apt-get install --reinstall modstamp",
        );
    }
}

/// Checks that a trigger ran after the last package with files in the trigger's directories.
///
/// The order of the lines in dpkg's log decides. A later touch of the stamp counts, too: an update
/// or a person may have made up for the trigger.
pub(crate) fn last_run(host: &Host, report: &mut Examination) {
    if !is_here(host) {
        return;
    }
    for it in &host.in_use {
        let triggers = triggers_of(host, it, &mut Examination::default());
        if triggers.is_empty() {
            continue;
        }
        let Some(log) = host.database(LAST_RUN, Path::new(LOG), report) else {
            return;
        };
        let Some((time, package)) = missed(host, &log, &triggers) else {
            continue;
        };
        let touched = it.stamp.mtime().ok().flatten();
        if seconds(&time)
            .zip(touched)
            .is_some_and(|(ran, touched)| touched.seconds() >= ran)
        {
            continue;
        }
        let name = it.name();
        report.finding(
            LAST_RUN,
            format!(
                "dpkg unpacked {package} at {time}, and did not run {}'s trigger since",
                triggers[0].package
            ),
            "libvirt was not told of the package's modules, nor was the stamp touched",
            format!("modstamp touch --profile {name} --reason 'the trigger did not run'"),
        );
    }
}

/// The time and the name of the last unpacked package with files in a directory of `triggers`.
/// `None` if a trigger ran after it, or if it was unpacked long ago.
fn missed(host: &Host, log: &str, triggers: &[Trigger]) -> Option<(String, String)> {
    let mut unpacked: Vec<&str> = Vec::new();
    for line in log.lines().rev().take(MOST_LINES) {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [day, time, action, package, ..] = words[..] else {
            continue;
        };
        let name = package.split(':').next().unwrap_or_default();
        match action {
            "trigproc" | "configure" if triggers.iter().any(|it| it.package == name) => {
                return None;
            }
            "install" | "upgrade" if !unpacked.contains(&package) => unpacked.push(package),
            _ => continue,
        }
        let fires = |file: &str| {
            let mut directories = triggers.iter().map(|it| &it.directory);
            let file = Path::new(file);
            directories.any(|directory| file != directory && file.starts_with(directory))
        };
        if files(host, package).lines().any(fires) {
            return Some((format!("{day} {time}"), package.to_owned()));
        }
        if unpacked.len() == MOST_FILES {
            return None;
        }
    }
    None
}

/// The list of an installed package's files. It is empty if the package is gone.
fn files(host: &Host, package: &str) -> String {
    let name = package.split(':').next().unwrap_or_default();
    let read = |name: &str| {
        let path = Path::new(INFO).join(format!("{name}.list"));
        host.text(LAST_RUN, &path, &mut Examination::default())
    };
    read(package).or_else(|| read(name)).unwrap_or_default()
}

/// A local time of dpkg's log, in seconds since 1970.
fn seconds(time: &str) -> Option<i64> {
    let time: DateTime = time.replace(' ', "T").parse().ok()?;
    let time = time.to_zoned(TimeZone::system()).ok()?;
    Some(time.timestamp().as_second())
}

/// dpkg's triggers that touch a profile's stamp for its module directories.
fn triggers_of(host: &Host, it: &InUse, report: &mut Examination) -> Vec<Trigger> {
    let text = host.text(TRIGGER, Path::new(TRIGGERS), report);
    let text = text.unwrap_or_default();
    let triggers = text.lines().filter_map(|line| {
        let (directory, package) = line.rsplit_once(' ')?;
        let package = package.split('/').next()?;
        Some(Trigger {
            directory: PathBuf::from(directory),
            package: package.to_owned(),
        })
    });
    let of_profile = triggers.filter(|trigger| it.profile.covers(&trigger.directory));
    let touches = |trigger: &Trigger| {
        let script = host.text(
            TRIGGER,
            &script(&trigger.package),
            &mut Examination::default(),
        );
        let call = format!("modstamp trigger dpkg --profile {} ", it.name());
        script.is_some_and(|script| script.contains(&call))
    };
    of_profile.take(MOST_FILES).filter(touches).collect()
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
