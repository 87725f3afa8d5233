//! libvirt: whether the profile names all module directories, whether libvirt may serve a stale
//! answer, and the holes of its own rule.

use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;

use crate::act::doctor::host::{Host, shell_word};
use crate::act::doctor::report::Examination;
use crate::act::libvirt::installation::{Installed, compiled_in, watched};
use crate::act::libvirt::judgement::is_outdated;
use crate::act::libvirt::record::Record;
use crate::files::way::Steps;
use crate::ground::text::Printable;

const DIRECTORIES: &str = "module-directories";
const ANSWERS: &str = "libvirt-answers";
const VERSION: &str = "libvirt-version";

/// The administrator's file for the profile.
const PROFILE: &str = "/etc/modstamp/profiles.d/qemu.toml";

/// The first libvirt that compares the module directory's mtime.
const FIRST_WITH_DIRECTORY: Version = Version { major: 6, minor: 8 };

/// A version of libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

/// Checks that the profile names the directories that are compiled into QEMU and libvirt.
pub(crate) fn directories(host: &Host, report: &mut Examination) {
    let Some(it) = host.qemu() else {
        return;
    };
    let drivers = Installed::find(&host.root).drivers;
    // Reading a QEMU of 30 MB takes a while. All of them come from one build, so one is enough.
    let programs = it.inputs.programs().take(1).map(Path::to_owned);
    let mut told: Vec<PathBuf> = Vec::new();
    for file in programs.chain(drivers) {
        for directory in of_modules(host, &file) {
            if it.profile.covers(&directory) || told.contains(&directory) {
                continue;
            }
            report.finding(
                DIRECTORIES,
                format!(
                    "{} knows the module directory {}, which the profile qemu does not name",
                    host.shown(&file),
                    Printable(directory.as_os_str())
                ),
                "a change of the modules there goes unnoticed",
                add_directory(host, &directory),
            );
            told.push(directory);
        }
    }
}

/// The directories with modules whose paths are compiled into a file.
fn of_modules(host: &Host, file: &Path) -> Vec<PathBuf> {
    let is_named_so = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("qemu")
    };
    let mut directories = compiled_in(&host.root, file, is_named_so);
    directories.sort();
    directories.dedup();
    let is_module = |name: &PathBuf| name.extension().is_some_and(|it| it == "so");
    directories.retain(|directory| host.names(directory).iter().any(is_module));
    directories
}

/// The command that adds a directory to the profile.
fn add_directory(host: &Host, directory: &Path) -> String {
    if host.stat(Path::new(PROFILE)).is_some() {
        return format!("\"${{EDITOR:-vi}}\" {PROFILE}");
    }
    // As it is written, with its variables.
    let written = host.profiles.iter().filter(|it| it.name() == "qemu");
    let written = written.flat_map(|profile| &profile.directories);
    let texts = written.map(ToString::to_string);
    let all: Vec<String> = texts.chain([directory.display().to_string()]).collect();
    let list = shell_word(format!("module-directories = {all:?}"));
    format!("install -d /etc/modstamp/profiles.d && printf '%s\\n' {list} > {PROFILE}")
}

/// Checks that nothing changed since the last refresh of libvirt.
pub(crate) fn answers(host: &Host, report: &mut Examination) {
    if Installed::find(&host.root).drivers.is_empty() {
        return;
    }
    for it in &host.in_use {
        if !it.profile.refreshes_libvirt() || it.name() != "qemu" {
            continue;
        }
        let record = Record::read(&it.stamp);
        let is_known = record.is_some();
        if is_outdated(record.as_ref(), &it.inputs) {
            report.finding(
                ANSWERS,
                match is_known {
                    true => "something changed since the last refresh of libvirt",
                    false => "libvirt was not refreshed yet, or its record is lost",
                },
                "libvirt may serve an answer of before the change, and guests fail to start",
                "modstamp libvirt refresh",
            );
        }
    }
}

/// Notes the version of each libvirt, and the holes of its rule on this host.
pub(crate) fn version(host: &Host, report: &mut Examination) {
    let Some(it) = host.qemu() else {
        return;
    };
    for driver in Installed::find(&host.root).drivers {
        let library = driver.ancestors().nth(3).unwrap_or(Path::new("/"));
        let Some(version) = installed_version(host, library) else {
            continue;
        };
        let mut holes = vec![match version < FIRST_WITH_DIRECTORY {
            true => "it looks at no module directory, so a package that comes or goes is missed",
            false => {
                "it misses a module rewritten in place, a module removed with the time put back, a \
                 directory that vanishes, and a second change within one second"
            }
        }];
        let watched = watched(&driver, &it.profile);
        if watched
            .iter()
            .any(|directory| is_read_only(host, directory))
        {
            holes.push("the module directory is read-only, so running daemons need a restart");
        }
        holes.push(match it.profile.refreshes_libvirt() {
            true => "modstamp's refresh makes up for them",
            false => "the profile has refresh-libvirt = false, so nothing makes up for them",
        });
        let Version { major, minor } = version;
        let seen = format!(
            "libvirt {major}.{minor} is installed in {}",
            host.shown(library)
        );
        report.note(VERSION, seen, holes.join("; "));
    }
}

/// The version of the libvirt in a directory, by the name of its library.
///
/// libvirt 11.3.0 has the library `libvirt.so.0.11003.0` (`meson.build`).
fn installed_version(host: &Host, library: &Path) -> Option<Version> {
    host.names(library).iter().find_map(|name| {
        let number = name.to_str()?.strip_prefix("libvirt.so.0.")?;
        let number: u32 = number.split('.').next()?.parse().ok()?;
        Some(Version {
            major: number / 1000,
            minor: number % 1000,
        })
    })
}

fn is_read_only(host: &Host, directory: &Path) -> bool {
    let disk = host.root.place(directory, Steps::Any).ok();
    let disk = disk.and_then(|place| rustix::fs::fstatvfs(place).ok());
    disk.is_some_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY))
}
