//! rpm's file triggers: whether they are there and alive, and whether the last transaction ran
//! them.
//!
//! The doctor asks rpm itself, and only about the running system. Another version of rpm, or
//! somebody else, may have written another root's database.

use std::path::Path;

use crate::act::doctor::dpkg;
use crate::act::doctor::host::{Host, INSIDE, InUse, ask};
use crate::act::doctor::report::Examination;

const TRIGGER: &str = "rpm-trigger";
const LAST_RUN: &str = "rpm-last-run";

const DATABASES: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
const FILES: [&str; 3] = ["rpmdb.sqlite", "Packages.db", "Packages"];

/// The program that rpm's triggers start for each package. SUSE's `%_libexecdir` was `/usr/lib`.
const PROGRAMS: [&str; 2] = [
    "/usr/libexec/modstamp/rpm-trigger",
    "/usr/lib/modstamp/rpm-trigger",
];

/// The most files that one rpm is asked about. Its exit status is the number of those that no
/// package owns, and from 124 on that would look like one of timeout(1).
const MOST_FILES: usize = 100;

/// Checks the triggers of `qemu`, if rpm installed a part of QEMU.
pub(crate) fn triggers(host: &Host, report: &mut Examination) {
    let mut files = DATABASES.iter().flat_map(|directory| {
        let directory = Path::new(directory);
        FILES.iter().map(move |file| directory.join(file))
    });
    let Some(it) = host.qemu() else {
        return;
    };
    if !files.any(|file| host.stat(&file).is_some()) {
        return;
    }
    if !host.root.is_system() {
        if !dpkg::is_here(host) {
            let seen = "rpm is asked about the running system alone, not about another root";
            report.unseen(TRIGGER, seen, format!("{INSIDE}modstamp doctor"));
        }
        return;
    }
    if let Err(cause) = check(host, it, report) {
        let seen = format!("cannot ask rpm about its triggers: {cause}");
        report.unseen(TRIGGER, seen, "rpm -q --filetriggers modstamp-qemu");
    }
}

fn check(host: &Host, it: &InUse, report: &mut Examination) -> Result<(), String> {
    let Some((package, installed)) = newest_package(it)? else {
        return Ok(());
    };
    let [program, of_suse] = PROGRAMS;
    let query = ["-q", "--filetriggers", "--whatrequires", program, of_suse];
    check_triggers(host, &ask("rpm", &query)?, report);
    let touched = it.stamp.mtime().ok().flatten();
    if touched.is_some_and(|touched| touched.seconds() < installed) {
        report.finding(
            LAST_RUN,
            format!("rpm installed {package}, and the stamp was not touched since"),
            "libvirt was not told of the package's modules",
            "modstamp touch --profile qemu --reason 'the trigger did not run'",
        );
    }
    Ok(())
}

/// Checks the text of `rpm -q --filetriggers`.
fn check_triggers(host: &Host, triggers: &str, report: &mut Examination) {
    let is_of_qemu = |line: &str| line.split(' ').any(|word| word == "qemu");
    let mut bodies = triggers.lines().filter(|line| line.contains("--profile "));
    if !bodies.any(is_of_qemu) {
        report.finding(
            TRIGGER,
            "rpm has no trigger that touches the stamp of the profile qemu",
            "a package can bring or take a QEMU module, and nothing tells libvirt",
            install(host, "modstamp-qemu"),
        );
        return;
    }
    // “filetriggerin (using PROGRAM) -- PREFIX”
    let programs = triggers.split("(using ").skip(1);
    let programs = programs.filter_map(|rest| rest.split(')').next());
    let mut programs: Vec<&str> = programs.filter(|it| it.starts_with('/')).collect();
    programs.sort();
    programs.dedup();
    for program in programs.into_iter().map(Path::new) {
        if !host.is_program(program) {
            report.finding(
                TRIGGER,
                format!(
                    "rpm's trigger starts {}, which is not an executable file",
                    host.shown(program)
                ),
                "the trigger does nothing, so no package touches the stamp",
                reinstall(host, "modstamp"),
            );
        }
    }
}

/// Of the packages with modules or programs, the one that rpm installed last, with the time in
/// seconds since 1970. `None` if rpm installed none of them.
fn newest_package(it: &InUse) -> Result<Option<(String, i64)>, String> {
    let directories = it.inputs.module_directories();
    let modules = directories.flat_map(|(top, names)| names.into_iter().map(|name| top.join(name)));
    let programs = it.inputs.programs().map(Path::to_owned);
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

fn install(host: &Host, package: &str) -> String {
    by_installer(host, "install", package)
}

fn reinstall(host: &Host, package: &str) -> String {
    match has_zypper(host) {
        true => format!("zypper install --force {package}"),
        false => by_installer(host, "reinstall", package),
    }
}

fn by_installer(host: &Host, verb: &str, package: &str) -> String {
    match has_zypper(host) {
        true => format!("zypper {verb} {package}"),
        false => format!("dnf {verb} {package}"),
    }
}

fn has_zypper(host: &Host) -> bool {
    host.is_program(Path::new("/usr/bin/zypper"))
}
