//! rpm's file triggers: whether they are there and alive, and whether the last transaction ran
//! them.
//!
//! The doctor asks rpm itself, and only about the running system. Another version of rpm, or
//! somebody else, may have written another root's database.

use std::path::Path;

use crate::act::doctor::ask::ask;
use crate::act::doctor::dpkg;
use crate::act::doctor::host::{Host, InUse, UNBUILT};
use crate::act::doctor::names::{RPM_LAST_RUN, RPM_TRIGGER};
use crate::act::doctor::report::{Blind, Checked, Examination, Seen};
use crate::act::doctor::units;

const DATABASES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
const FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

/// The program that rpm's triggers start for each package. SUSE's `%_libexecdir` was `/usr/lib`.
const PROGRAMS: [&str; 2] = [
    "/usr/libexec/modstamp/rpm-trigger",
    "/usr/lib/modstamp/rpm-trigger",
];

/// The most files in one question to rpm. rpm's exit status is the number of files that no package
/// owns. From 124 on, it could be mistaken for one of timeout(1).
const MOST_FILES: usize = 100;

/// Checks the triggers of `qemu`, if rpm installed a part of QEMU, and their last run.
pub(crate) fn triggers(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let Some(it) = host.qemu() else {
        return Ok(Checked::NothingHere);
    };
    if !has_database(host)? {
        return Ok(Checked::NothingHere);
    }
    if !host.root.is_system() {
        if !dpkg::is_here(host)? {
            let blind = Blind {
                seen: "rpm can only be asked about the running system, not about another root"
                    .to_owned(),
                remedy: "modstamp doctor".to_owned(),
            };
            report.blind_from_outside(RPM_TRIGGER, blind);
        }
        return Ok(Checked::NothingHere);
    }
    let unasked = |cause: String| Blind {
        seen: format!("cannot ask rpm about its triggers: {cause}"),
        remedy: "rpm -q --filetriggers modstamp-qemu".to_owned(),
    };
    let Some((package, installed)) = newest_package(it).map_err(unasked)? else {
        return Ok(Checked::NothingHere);
    };
    let [program, of_suse] = PROGRAMS;
    let query = ["-q", "--filetriggers", "--whatrequires", program, of_suse];
    let answer = ask("rpm", &query).map_err(unasked)?;
    check_triggers(host, &answer, report)?;
    let touched = host.touched(it)?;
    if touched.is_some_and(|touched| touched.seconds() < installed) {
        report.finding(
            RPM_LAST_RUN,
            format!("rpm installed {package}, but the stamp has not been touched since then"),
            "libvirt may not know the package's modules",
            "modstamp touch --profile qemu --reason 'the trigger did not run'",
        );
    }
    Ok(Checked::Made)
}

fn has_database(host: &Host) -> Seen<bool> {
    for directory in DATABASES.map(Path::new) {
        for file in FILES {
            if host.stat(&directory.join(file))?.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Checks the text of `rpm -q --filetriggers`.
fn check_triggers(host: &Host, triggers: &str, report: &mut Examination) -> Seen<()> {
    let is_of_qemu = |line: &str| line.split(' ').any(|word| word == "qemu");
    let mut bodies = triggers.lines().filter(|line| line.contains("--profile "));
    if !bodies.any(is_of_qemu) {
        let seen = "rpm has no trigger that touches the stamp of the profile qemu";
        let install = by_installer(host, "install", "modstamp-qemu")?;
        return units::tell_no_trigger(host, RPM_TRIGGER, seen, install, report);
    }
    // “filetriggerin (using PROGRAM) -- PREFIX”
    let programs = triggers.split("(using ").skip(1);
    let programs = programs.filter_map(|rest| rest.split(')').next());
    let mut programs: Vec<&str> = programs.filter(|it| it.starts_with('/')).collect();
    programs.sort();
    programs.dedup();
    for program in programs.into_iter().map(Path::new) {
        if !host.is_program(program)? {
            report.finding(
                RPM_TRIGGER,
                format!(
                    "rpm's trigger starts {}, which is not an executable file",
                    host.shown(program)
                ),
                format!("the trigger does nothing, so no package touches the stamp{UNBUILT}"),
                by_installer(host, "reinstall", "modstamp")?,
            );
        }
    }
    Ok(())
}

/// Of the packages with modules or programs, the one that rpm installed last, with the time in
/// seconds since 1970. `None` if rpm installed none of them.
fn newest_package(it: &InUse) -> Result<Option<(String, i64)>, String> {
    let directories = it.directories();
    let modules = directories.flat_map(|(top, names)| names.into_iter().map(|name| top.join(name)));
    let programs = it.programs().map(Path::to_owned);
    let files: Vec<String> = modules
        .chain(programs)
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect();
    let mut answer = String::new();
    for files in files.chunks(MOST_FILES) {
        let mut query = vec!["-qf", "--qf", "%{INSTALLTIME} %{NAME}\n"];
        query.extend(files.iter().map(String::as_str));
        answer += &ask("rpm", &query)?;
    }
    // A line such as “file PATH is not owned by any package” does not count.
    let packages = answer.lines().filter_map(|line| {
        let (time, name) = line.split_once(' ')?;
        Some((name.to_owned(), time.parse().ok()?))
    });
    Ok(packages.max_by_key(|(_, time)| *time))
}

/// The command by which this host's installer of rpm packages installs one.
fn by_installer(host: &Host, verb: &str, package: &str) -> Seen<String> {
    Ok(
        match (host.is_program(Path::new("/usr/bin/zypper"))?, verb) {
            (true, "reinstall") => format!("zypper install --force {package}"),
            (true, verb) => format!("zypper {verb} {package}"),
            (false, verb) => format!("dnf {verb} {package}"),
        },
    )
}
