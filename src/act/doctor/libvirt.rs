//! libvirt: whether the profile names all module directories, whether libvirt may serve a stale
//! answer, and the holes of its own rule.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;

use crate::act::doctor::host::{Host, InUse, shell_word};
use crate::act::doctor::names::{LIBVIRT_ANSWERS, LIBVIRT_VERSION, MODULE_DIRECTORIES};
use crate::act::doctor::report::{Blind, Checked, Examination, Remedy, Seen, Step};
use crate::act::libvirt::cached::{Cached, Next};
use crate::act::libvirt::installation::{Installed, compiled_in};
use crate::act::libvirt::judgement::why_outdated;
use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::last_refresh::LastRecord;
use crate::ground::text::Printable;
use crate::judge::reason::Reason;

/// The administrator's file for the profile.
const PROFILE: &str = "/etc/modstamp/profiles.d/qemu.toml";

/// The most bytes of QEMU's programs that are read. A program of some 30 MB takes 30 ms.
const MOST_BYTES_OF_PROGRAMS: i64 = 128 << 20;

/// The first libvirt that compares the module directory's mtime.
const FIRST_WITH_DIRECTORY: Version = Version { major: 6, minor: 8 };

/// A version of libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

/// The drivers of the libvirts on the host.
fn drivers(host: &Host, check: &'static str, report: &mut Examination) -> Vec<PathBuf> {
    let installed = Installed::find(&host.root);
    if let Some(unseen) = installed.unseen {
        report.blind(check, host.blind("look at", &unseen.path, &unseen.cause));
    }
    installed.drivers
}

/// Checks that QEMU, libvirt and the profile agree on the module directories. QEMU and libvirt
/// have theirs compiled in.
pub(crate) fn directories(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let Some(it) = host.qemu() else {
        return Ok(Checked::NothingHere);
    };
    let drivers = drivers(host, MODULE_DIRECTORIES, report);
    let (programs, unread) = builds(host, it)?;
    let mut told: Vec<PathBuf> = Vec::new();
    let mut of_programs = Some(Vec::new());
    for file in programs.iter().chain(&drivers) {
        let named = report.seen(MODULE_DIRECTORIES, named_qemu(host, file));
        for directory in named.iter().flatten() {
            let is_known = it.profile.covers(directory) || told.contains(directory);
            if is_known || !has_modules(host, directory)? {
                continue;
            }
            report.finding(
                MODULE_DIRECTORIES,
                format!(
                    "{} knows the module directory {}, which the profile qemu does not name",
                    host.shown(file),
                    Printable(directory.as_os_str())
                ),
                "a change of the modules there goes unnoticed",
                add_directory(host, directory)?,
            );
            told.push(directory.clone());
        }
        if programs.contains(file) {
            of_programs = of_programs
                .zip(named)
                .map(|(all, named)| [all, named].concat());
        }
    }
    let seen = match unread {
        0 => None,
        1 => Some("1 more program of QEMU was not searched for module directories".to_owned()),
        count => Some(format!(
            "{count} more programs of QEMU were not searched for module directories"
        )),
    };
    if let Some(seen) = seen {
        let why = "a search takes long; most programs are of one build, with the same directories";
        report.note(MODULE_DIRECTORIES, seen, why);
    }
    if let (Some(of_programs), 0) = (of_programs, unread) {
        for driver in &drivers {
            let looked = check_driver(host, it, driver, &of_programs, report);
            report.seen(MODULE_DIRECTORIES, looked);
        }
    }
    Ok(Checked::Made)
}

/// A program of each build of QEMU, and the number of builds that take too long to read.
///
/// The programs of one build are in one directory, and have the time of the build.
fn builds(host: &Host, it: &InUse) -> Seen<(Vec<PathBuf>, usize)> {
    let (mut files, mut builds) = (BTreeSet::new(), BTreeSet::new());
    let (mut programs, mut unread, mut bytes) = (Vec::new(), 0, 0);
    for program in it.programs() {
        let Some(stat) = host.stat(program)? else {
            continue;
        };
        let build = (program.parent(), stat.st_mtime, stat.st_mtime_nsec);
        // The file, or its build, may be known by another program.
        if !files.insert((stat.st_dev, stat.st_ino)) || !builds.insert(build) {
            continue;
        }
        if !programs.is_empty() && bytes + stat.st_size > MOST_BYTES_OF_PROGRAMS {
            unread += 1;
            continue;
        }
        bytes += stat.st_size;
        programs.push(program.to_owned());
    }
    Ok((programs, unread))
}

/// The compiled-in paths of a file whose last name begins with “qemu”: directories, and others.
fn named_qemu(host: &Host, file: &Path) -> Seen<Vec<PathBuf>> {
    let is_named_so = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("qemu")
    };
    let found = compiled_in(&host.root, file, is_named_so);
    let mut found = found.map_err(|cause| host.blind("read", file, &cause))?;
    found.sort();
    found.dedup();
    Ok(found)
}

fn has_modules(host: &Host, directory: &Path) -> Seen<bool> {
    let names = host.names(directory)?;
    let mut extensions = names.iter().filter_map(|name| name.extension());
    Ok(extensions.any(|it| it == "so"))
}

/// Checks that a libvirt watches a directory from which a QEMU loads modules. `of_programs` are the
/// paths that are compiled into any program of QEMU.
fn check_driver(
    host: &Host,
    it: &InUse,
    driver: &Path,
    of_programs: &[PathBuf],
    report: &mut Examination,
) -> Seen<()> {
    let mut of_qemu = Vec::new();
    for directory in of_programs {
        if it.profile.has_directory(directory) || has_modules(host, directory)? {
            of_qemu.push(directory);
        }
    }
    let watched = compiled_in(&host.root, driver, |path| it.profile.has_directory(path));
    let watched = watched.map_err(|cause| host.blind("read", driver, &cause))?;
    for directory in &watched {
        for of_qemu in &of_qemu {
            if directory == *of_qemu || host.is_same(directory, of_qemu)? {
                return Ok(());
            }
        }
    }
    // An older libvirt watches no directory. A QEMU without modules loads from none.
    let (Some(watched), false) = (watched.first(), of_qemu.is_empty()) else {
        return Ok(());
    };
    let seen = format!(
        "{} watches {}, from which no installed QEMU loads modules",
        host.shown(driver),
        Printable(watched.as_os_str())
    );
    let why = "libvirt itself notices no module that comes or goes";
    match it.profile.refreshes_libvirt() {
        true => {
            let why = format!("{why}; modstamp's refresh makes up for that");
            report.note(MODULE_DIRECTORIES, seen, why);
        }
        false => {
            let why = format!("{why}, and the profile has no cache with the remedy “libvirt”");
            let edit = format!("\"${{EDITOR:-vi}}\" {PROFILE}");
            report.finding(MODULE_DIRECTORIES, seen, why, edit);
        }
    }
    Ok(())
}

/// The command that adds a directory to the profile.
fn add_directory(host: &Host, directory: &Path) -> Seen<Remedy> {
    if host.stat(Path::new(PROFILE))?.is_some() {
        return Ok(format!("\"${{EDITOR:-vi}}\" {PROFILE}").into());
    }
    // As it is written, with its variables.
    let written = host.profiles.iter().filter(|it| it.name() == "qemu");
    let written = written.flat_map(|profile| &profile.directories);
    let texts = written.map(ToString::to_string);
    let all: Vec<String> = texts.chain([directory.display().to_string()]).collect();
    Ok(Remedy::steps([
        Step::Root("install -d /etc/modstamp/profiles.d".to_owned()),
        Step::Write {
            words: shell_word(format!("module-directories = {all:?}")),
            file: PROFILE.to_owned(),
        },
    ]))
}

/// Checks that nothing changed since the last refresh of libvirt, for each profile that asks for one.
pub(crate) fn answers(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let asks = |it: &&InUse| it.profile.refreshes_libvirt() && Kind::named(it.name()).is_some();
    let asking: Vec<&InUse> = host.in_use.iter().filter(asks).collect();
    if asking.is_empty() || drivers(host, LIBVIRT_ANSWERS, report).is_empty() {
        return Ok(Checked::NothingHere);
    }
    for it in asking {
        let outdated = report.seen(LIBVIRT_ANSWERS, outdated(host, it));
        if let Some(Some(seen)) = outdated {
            let of = match it.name() {
                "qemu" => String::new(),
                name => format!("the answers of {name}: "),
            };
            report.finding(
                LIBVIRT_ANSWERS,
                format!("{of}{seen}"),
                why(it),
                it.profile.command("libvirt refresh"),
            );
        }
    }
    Ok(Checked::Made)
}

/// Why a refresh matters: what libvirt does with the answers that it has.
fn why(it: &InUse) -> &'static str {
    let does_notice = |cached: Cached| {
        let mut files = cached.files().iter();
        !cached.files().is_empty()
            && cached.errors().is_empty()
            && files.all(|file| cached.next(file) == Next::AsksAgain)
    };
    match Cached::find(&it.profile).is_ok_and(does_notice) {
        true => {
            "libvirt notices it for each answer that was seen, and asks again; other users' \
             libvirts may serve an older one"
        }
        false => {
            "libvirt may serve an answer from before the change, and then guests fail to start"
        }
    }
}

/// Whether libvirt may serve an answer from before modstamp's first refresh.
///
/// A host needs no refresh for programs other than QEMU's until libvirt has cached an answer.
fn before_the_first(host: &Host, it: &InUse) -> Seen<Option<String>> {
    let told = Some("libvirt was not refreshed yet".to_owned());
    if it.name() == "qemu" {
        return Ok(told);
    }
    let cached = Cached::find(&it.profile).map_err(|error| host.blind_because(&error))?;
    let mut files = cached.files().iter();
    if files.any(|file| cached.next(file) != Next::AsksAgain) {
        return Ok(told);
    }
    match cached.errors().first() {
        Some((_, error)) => Err(host.blind_because(error)),
        None => Ok(None),
    }
}

/// Whether libvirt may serve an older answer, and why. `None` if it does not.
fn outdated(host: &Host, it: &InUse) -> Seen<Option<String>> {
    let record = match LastRecord::read(&it.stamp) {
        LastRecord::Read(record) => record,
        LastRecord::Never => return before_the_first(host, it),
        LastRecord::Unknown(error) => match host.blind_by(&error) {
            Some(blind) => return Err(blind),
            None => return Ok(Some(error.to_string())),
        },
    };
    let reasons = why_outdated(&record, &it.inputs);
    if reasons.iter().any(|reason| it.is_known(reason)) {
        return Ok(Some(
            "something changed since the last refresh of libvirt".to_owned(),
        ));
    }
    // A content that the refresh had no time to read may have changed. So libvirt is asked again.
    match reasons
        .iter()
        .find(|reason| !matches!(reason, Reason::NotRead(_)))
    {
        Some(reason) => Err(host.blind_to(reason)),
        None if !reasons.is_empty() => Ok(Some(
            "something was touched since libvirt's last refresh".to_owned(),
        )),
        None if it.is_all_seen() => Ok(None),
        None => Err(Blind {
            seen: format!(
                "not all inputs of the profile {} could be looked at, so a change since the last \
                 refresh of libvirt may have been missed",
                it.name()
            ),
            remedy: host.again(Some(Errno::ACCESS), Path::new("/")),
        }),
    }
}

/// Notes the version of each libvirt, and the holes of its rule on this host.
pub(crate) fn version(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let Some(it) = host.qemu() else {
        return Ok(Checked::NothingHere);
    };
    let drivers = drivers(host, LIBVIRT_VERSION, report);
    for driver in &drivers {
        let looked = note_version(host, it, driver, report);
        report.seen(LIBVIRT_VERSION, looked);
    }
    Ok(match drivers.is_empty() {
        true => Checked::NothingHere,
        false => Checked::Made,
    })
}

fn note_version(host: &Host, it: &InUse, driver: &Path, report: &mut Examination) -> Seen<()> {
    let library = driver.ancestors().nth(3).unwrap_or(Path::new("/"));
    let Some(version) = installed_version(host, library)? else {
        return Ok(());
    };
    let mut holes = vec![match version < FIRST_WITH_DIRECTORY {
        true => "it looks at no module directory, so it misses a package that comes or goes",
        false => {
            "it does not notice a module that is rewritten in place, a time that is put back, a \
             directory that vanishes, or a second change within one second"
        }
    }];
    let watched = compiled_in(&host.root, driver, |path| it.profile.has_directory(path));
    for directory in watched.map_err(|cause| host.blind("read", driver, &cause))? {
        let flags = host.mount_flags(&directory)?;
        if flags.is_some_and(|flags| flags.contains(StatVfsMountFlags::RDONLY)) {
            holes.push("the module directory is read-only, so running daemons need a restart");
            break;
        }
    }
    holes.push(match it.profile.refreshes_libvirt() {
        true => "modstamp's refresh makes up for that",
        false => "the profile has no cache with the remedy “libvirt”, so nothing makes up for that",
    });
    let Version { major, minor } = version;
    let seen = format!(
        "libvirt {major}.{minor} is installed in {}",
        host.shown(library)
    );
    report.note(LIBVIRT_VERSION, seen, holes.join("; "));
    Ok(())
}

/// The version of the libvirt in a directory, by the name of its library.
///
/// libvirt 11.3.0 has the library `libvirt.so.0.11003.0` (`meson.build`).
fn installed_version(host: &Host, library: &Path) -> Seen<Option<Version>> {
    let version = |name: &PathBuf| {
        let number = name.to_str()?.strip_prefix("libvirt.so.0.")?;
        let number: u32 = number.split('.').next()?.parse().ok()?;
        Some(Version {
            major: number / 1000,
            minor: number % 1000,
        })
    };
    Ok(host.names(library)?.iter().find_map(version))
}
