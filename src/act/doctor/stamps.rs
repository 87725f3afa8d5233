//! The system's stamps: whether they exist, everybody can read them, root can touch them, and their
//! times are plausible. Also whether the modules are those of the last touch.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, StatVfsMountFlags};

use crate::act::doctor::host::{Host, InUse, shell_word};
use crate::act::doctor::report::Examination;
use crate::act::kept_witness::KeptWitness;
use crate::files::way::Steps;
use crate::ground::error::Error;
use crate::ground::time::{Mtime, Precision, SECONDS_A_DAY};
use crate::judge::reason::Reason;
use crate::judge::verdict::Verdict;

const STAMP: &str = "stamp";
const RIGHTS: &str = "stamp-rights";
const LABEL: &str = "stamp-label";
const DISK: &str = "stamp-disk";
const CLOCK: &str = "clock";
const MODULES: &str = "modules";

/// The directories on the way to the one of the stamps.
const WAY: [&str; 3] = ["/", "/var", "/var/lib"];
const DIRECTORY: &str = "/var/lib/modstamp";

/// The SELinux type that the policies of Debian and Fedora give to files below `/var/lib`.
const TYPE: &str = "var_lib_t";

/// This file exists while SELinux is on, unless the caller is in a container.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// The longest label that is read, in bytes.
const LONGEST_LABEL: usize = 1024;

/// 2026-01-01 in seconds since 1970. modstamp is younger, so a clock before that is wrong.
const EARLIEST: i64 = 1_767_225_600;

/// Checks that `qemu` has a stamp, and that each stamp is a regular file.
pub(crate) fn exist(host: &Host, report: &mut Examination) {
    for it in &host.in_use {
        let touch = format!("modstamp touch --profile {}", it.name());
        match it.stamp.mtime() {
            // Perhaps nobody needs the other profiles.
            Ok(None) if it.name() == "qemu" => report.finding(
                STAMP,
                format!("there is no stamp {}", host.shown(&path(it))),
                "no trigger, update or person has touched it yet, so older answers stay",
                touch,
            ),
            Ok(_) => {}
            Err(Error::NotAStamp { kind, .. }) => report.finding(
                STAMP,
                format!("the stamp {} is a {kind}", host.shown(&path(it))),
                "nobody can touch it, and every check calls its answer stale",
                format!("rm -r {} && {touch}", shell_word(path(it))),
            ),
            Err(error) => report.unseen(STAMP, error.to_string(), host.as_root()),
        }
    }
}

/// Checks that every user can read the stamps, and that nobody but root can write them.
pub(crate) fn rights(host: &Host, report: &mut Examination) {
    if host.in_use.is_empty() {
        return;
    }
    for path in WAY.map(Path::new) {
        let Some(stat) = host.stat(path) else {
            continue;
        };
        if stat.st_mode & 0o001 == 0 {
            too_closed(host, path, &stat, "chmod o+x", report);
        }
        if stat.st_mode & 0o022 != 0 && stat.st_mode & 0o1000 == 0 {
            too_open(host, path, &stat, "chmod go-w", report);
        }
        check_owner(host, path, &stat, report);
    }
    let directory = Path::new(DIRECTORY);
    let Some(stat) = host.stat(directory) else {
        report.finding(
            RIGHTS,
            format!("there is no directory {}", host.shown(directory)),
            "there is no stamp to read, and an update in a confined unit cannot make one",
            format!("install -d -m 0755 {}", shell_word(directory)),
        );
        return;
    };
    check_mode(host, directory, &stat, 0o755, report);
    for it in &host.in_use {
        let path = path(it);
        let Ok(Some(stat)) = host.root.stat(&path) else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            check_mode(host, &path, &stat, 0o644, report);
        }
    }
}

/// Checks the owner of a path and its permissions, which should be `mode`.
fn check_mode(host: &Host, path: &Path, stat: &Stat, mode: u32, report: &mut Examination) {
    let mend = format!("chmod 0{mode:o}");
    if stat.st_mode & mode & 0o555 != mode & 0o555 {
        too_closed(host, path, stat, &mend, report);
    } else if stat.st_mode & 0o022 != 0 {
        too_open(host, path, stat, &mend, report);
    }
    check_owner(host, path, stat, report);
}

fn too_closed(host: &Host, path: &Path, stat: &Stat, mend: &str, report: &mut Examination) {
    report.finding(
        RIGHTS,
        format!(
            "{} has mode {}, so others cannot look",
            host.shown(path),
            mode(stat)
        ),
        "libvirt's session daemon and other users do not see a touch",
        format!("{mend} {}", shell_word(path)),
    );
}

fn too_open(host: &Host, path: &Path, stat: &Stat, mend: &str, report: &mut Examination) {
    report.finding(
        RIGHTS,
        format!(
            "{} has mode {}, so others can write it",
            host.shown(path),
            mode(stat)
        ),
        "others could undo a touch, and modstamp refuses to touch there",
        format!("{mend} {}", shell_word(path)),
    );
}

fn mode(stat: &Stat) -> String {
    format!("{:04o}", stat.st_mode & 0o7777)
}

/// Checks that root owns a path. A tree below another root may be the caller's own.
fn check_owner(host: &Host, path: &Path, stat: &Stat, report: &mut Examination) {
    let own = rustix::process::geteuid().as_raw();
    let owner = stat.st_uid;
    if owner != 0 && (host.root.is_system() || owner != own) {
        report.finding(
            RIGHTS,
            format!("{} belongs to user {owner}", host.shown(path)),
            "that user could undo a touch, and modstamp refuses to touch there",
            format!("chown root:root {}", shell_word(path)),
        );
    }
}

/// Checks the SELinux labels of the stamps and their directory, if SELinux is on.
///
/// Old labels may remain when it is turned off, and a container has labels of its own.
pub(crate) fn labels(host: &Host, report: &mut Examination) {
    if host.stat(Path::new(SELINUX)).is_none() {
        return;
    }
    let stamps = host.in_use.iter().map(path);
    let paths = std::iter::once(PathBuf::from(DIRECTORY)).chain(stamps);
    for path in paths {
        let Some(label) = label(host, &path) else {
            continue;
        };
        if label.split(':').nth(2) != Some(TYPE) {
            report.finding(
                LABEL,
                format!("{} has the label {label}", host.shown(&path)),
                "SELinux may hide the stamp from confined daemons, such as libvirt's",
                format!("chcon -R -t {TYPE} {DIRECTORY}"),
            );
        }
    }
}

/// The SELinux label of a file. `None` if it has none that can be read.
fn label(host: &Host, path: &Path) -> Option<String> {
    let file = host.root.read(path, Steps::Any).ok()?;
    let mut label = [0; LONGEST_LABEL];
    let length = rustix::fs::fgetxattr(&file, c"security.selinux", &mut label).ok()?;
    let label = String::from_utf8_lossy(&label[..length]);
    Some(label.trim_end_matches('\0').to_owned())
}

/// Checks that the file system of the stamps can be written.
pub(crate) fn disk(host: &Host, report: &mut Examination) {
    let directory = Path::new(DIRECTORY);
    let Ok(place) = host.root.place(directory, Steps::Any) else {
        return;
    };
    let Ok(disk) = rustix::fs::fstatvfs(&place) else {
        return;
    };
    if !host.in_use.is_empty() && disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let word = shell_word(directory);
        report.finding(
            DISK,
            format!("{} is on a read-only file system", host.shown(directory)),
            "no touch can move the stamp, and no refresh of libvirt is recorded",
            format!("mount -o remount,rw \"$(findmnt -n -o TARGET -T {word})\""),
        );
    }
}

/// Checks the clock, and each stamp's time against it.
pub(crate) fn clock(host: &Host, report: &mut Examination) {
    let now = Mtime::now();
    if now.seconds() < EARLIEST {
        report.finding(
            CLOCK,
            format!("the clock is at {}", now.utc(Precision::Second)),
            "the times that people read in the stamp and in libvirt's cache mean nothing",
            "timedatectl set-ntp true",
        );
    }
    for it in &host.in_use {
        let Ok(Some(touched)) = it.stamp.mtime() else {
            continue;
        };
        if touched.seconds() > now.seconds().saturating_add(SECONDS_A_DAY) {
            let (stamp, name) = (path(it), it.name());
            let lock = stamp.with_file_name(it.stamp.lock_name());
            let touch = format!("modstamp touch --profile {name}");
            report.finding(
                CLOCK,
                format!(
                    "the time of {} is {}, more than a day ahead of the clock",
                    host.shown(&stamp),
                    touched.utc(Precision::Second)
                ),
                "each touch moves it on from there, and people read a wrong time",
                format!(
                    "rm -f {} {} && {touch}",
                    shell_word(&stamp),
                    shell_word(&lock)
                ),
            );
        }
    }
}

/// Checks that the modules are those of the stamp's last touch.
pub(crate) fn modules(host: &Host, report: &mut Examination) {
    for it in &host.in_use {
        for reason in it.inputs.unknown() {
            report.unseen(MODULES, reason.to_string(), host.as_root());
        }
        if let KeptWitness::Unknown = it.kept {
            continue; // That is no change. The next update touches.
        }
        let mut changes = it.kept.judge(&it.inputs).reasons().to_vec();
        // A trigger may have lacked the time to read some contents. That is no change either.
        changes.retain(|reason| !matches!(reason, Reason::Unknown { .. } | Reason::NotRead(_)));
        let verdict = Verdict::of_reasons(changes);
        if !verdict.is_fresh() {
            let name = it.name();
            let reasons = verdict.reasons_for_people(2).join("; ");
            report.finding(
                MODULES,
                format!("the stamp of {name} was not touched since a change: {reasons}"),
                "a consumer that looks at the stamp alone serves an older answer",
                format!("modstamp update --profile {name}"),
            );
        }
    }
}

/// The stamp's path, as seen from inside the root.
fn path(it: &InUse) -> PathBuf {
    it.stamp.directory.join(it.stamp.name())
}
