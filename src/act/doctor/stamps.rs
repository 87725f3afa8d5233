//! The system's stamps: whether they exist, everybody can read them, root can touch them, and their
//! times are plausible. Also whether the modules are those of the last touch.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use crate::act::doctor::host::{Host, InUse, shell_word};
use crate::act::doctor::names::{CLOCK, MODULES, STAMP, STAMP_DISK, STAMP_LABEL, STAMP_RIGHTS};
use crate::act::doctor::report::{Checked, Examination, Remedy, Seen};
use crate::act::kept_witness::KeptWitness;
use crate::files::way::Steps;
use crate::ground::error::Error;
use crate::ground::time::{Mtime, Precision, SECONDS_A_DAY};
use crate::judge::reason::Reason;
use crate::judge::verdict::Verdict;

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
pub(crate) fn exist(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if !host.in_use.is_empty() && is_dangling(host)? {
        let word = shell_word(DIRECTORY);
        report.finding(
            STAMP,
            format!(
                "{} is a symbolic link that leads nowhere",
                host.shown(Path::new(DIRECTORY))
            ),
            "no stamp can be made there, so no touch counts, and older answers stay",
            Remedy::of_root([
                format!("rm {word}"),
                match host.qemu() {
                    Some(_) => "modstamp touch --profile qemu".to_owned(),
                    None => format!("install -d -m 0755 {word}"),
                },
            ]),
        );
        return Ok(Checked::Made);
    }
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
                Remedy::of_root([format!("rm -r {}", shell_word(path(it))), touch]),
            ),
            Err(error) => report.blind(STAMP, host.blind_because(&error)),
        }
    }
    Ok(in_use(host))
}

/// Whether the directory of the stamps is a link that leads nowhere.
fn is_dangling(host: &Host) -> Seen<bool> {
    let directory = Path::new(DIRECTORY);
    Ok(host.stat(directory)?.is_none() && host.stat_itself(directory)?.is_some())
}

/// Whether the checks of all stamps apply.
fn in_use(host: &Host) -> Checked {
    match host.in_use.is_empty() {
        true => Checked::NothingHere,
        false => Checked::Made,
    }
}

/// Checks that every user can read the stamps, and that nobody but root can write them.
pub(crate) fn rights(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if host.in_use.is_empty() {
        return Ok(Checked::NothingHere);
    }
    for path in WAY.map(Path::new) {
        let Some(stat) = host.stat(path)? else {
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
    let Some(stat) = host.stat(directory)? else {
        // A touch makes the directory with the stamp, which `exist` asks for.
        if host.qemu().is_none() && !is_dangling(host)? {
            report.finding(
                STAMP_RIGHTS,
                format!("there is no directory {}", host.shown(directory)),
                "there is no stamp to read, and an update in a confined unit cannot make one",
                format!("install -d -m 0755 {}", shell_word(directory)),
            );
        }
        return Ok(Checked::Made);
    };
    check_mode(host, directory, &stat, 0o755, report);
    for it in &host.in_use {
        let path = path(it);
        let stat = report.seen(STAMP_RIGHTS, host.stat_itself(&path));
        let Some(Some(stat)) = stat else {
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            check_mode(host, &path, &stat, 0o644, report);
        }
    }
    Ok(Checked::Made)
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
        STAMP_RIGHTS,
        format!(
            "{} has mode {}, so other users cannot read it",
            host.shown(path),
            mode(stat)
        ),
        "a touch is hidden from other users, and from their libvirt daemons",
        format!("{mend} {}", shell_word(path)),
    );
}

fn too_open(host: &Host, path: &Path, stat: &Stat, mend: &str, report: &mut Examination) {
    report.finding(
        STAMP_RIGHTS,
        format!(
            "{} has mode {}, so other users can write to it",
            host.shown(path),
            mode(stat)
        ),
        "they could undo a touch, so modstamp refuses to touch there",
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
            STAMP_RIGHTS,
            format!("{} belongs to user {owner}", host.shown(path)),
            "that user could undo a touch, so modstamp refuses to touch there",
            format!("chown root:root {}", shell_word(path)),
        );
    }
}

/// Checks the SELinux labels of the stamps and their directory, if SELinux is on.
///
/// Old labels may remain when it is turned off, and a container has labels of its own.
pub(crate) fn labels(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if host.in_use.is_empty() || host.stat(Path::new(SELINUX))?.is_none() {
        return Ok(Checked::NothingHere);
    }
    let stamps = host.in_use.iter().map(path);
    let paths = std::iter::once(PathBuf::from(DIRECTORY)).chain(stamps);
    for path in paths {
        let Some(Some(label)) = report.seen(STAMP_LABEL, label(host, &path)) else {
            continue;
        };
        if label.split(':').nth(2) != Some(TYPE) {
            report.finding(
                STAMP_LABEL,
                format!("{} has the label {label}", host.shown(&path)),
                "SELinux may hide the stamp from confined daemons, such as libvirt's",
                format!("chcon -R -t {TYPE} {DIRECTORY}"),
            );
        }
    }
    Ok(Checked::Made)
}

/// The SELinux label of a file. `None` if there is no file, or none with a label.
fn label(host: &Host, path: &Path) -> Seen<Option<String>> {
    let blind = |cause: io::Error| host.blind("read the label of", path, &cause);
    let file = match host.root.read(path, Steps::Any) {
        Ok(file) => file,
        // `exist` finds a stamp that is a link.
        Err(stop) if stop.leads_nowhere() => return Ok(None),
        Err(stop) => return Err(blind(stop.into())),
    };
    let mut label = [0; LONGEST_LABEL];
    match rustix::fs::fgetxattr(&file, c"security.selinux", &mut label) {
        Ok(length) => {
            let label = String::from_utf8_lossy(&label[..length]);
            Ok(Some(label.trim_end_matches('\0').to_owned()))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(blind(errno.into())),
    }
}

/// Checks that the file system of the stamps can be written.
pub(crate) fn disk(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let directory = Path::new(DIRECTORY);
    if host.in_use.is_empty() {
        return Ok(Checked::NothingHere);
    }
    let Some(flags) = host.mount_flags(directory)? else {
        return Ok(Checked::NothingHere);
    };
    if flags.contains(StatVfsMountFlags::RDONLY) {
        let word = shell_word(directory);
        report.finding(
            STAMP_DISK,
            format!("{} is on a read-only file system", host.shown(directory)),
            "no touch can move the stamp, and no refresh of libvirt is recorded",
            format!("mount -o remount,rw \"$(findmnt -n -o TARGET -T {word})\""),
        );
    }
    Ok(Checked::Made)
}

/// Checks the clock, and each stamp's time against it.
pub(crate) fn clock(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if host.in_use.is_empty() {
        return Ok(Checked::NothingHere);
    }
    let now = Mtime::now();
    check_clock(now, report);
    for it in &host.in_use {
        let Some(Some(touched)) = report.seen(CLOCK, host.touched(it)) else {
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
                "each touch moves it further ahead, so it never tells when a touch was",
                Remedy::of_root([
                    format!("rm -f {} {}", shell_word(&stamp), shell_word(&lock)),
                    touch,
                ]),
            );
        }
    }
    Ok(Checked::Made)
}

/// Checks that `now`, the clock's time, is after modstamp was made.
fn check_clock(now: Mtime, report: &mut Examination) {
    if now.seconds() < EARLIEST {
        report.finding(
            CLOCK,
            format!("the clock is at {}", now.utc(Precision::Second)),
            "the times in the stamp and in libvirt's cache tell people nothing",
            "timedatectl set-ntp true",
        );
    }
}

/// Checks that the modules are those of the stamp's last touch.
pub(crate) fn modules(host: &Host, report: &mut Examination) -> Seen<Checked> {
    for it in &host.in_use {
        if let KeptWitness::Unknown = *it.kept {
            continue; // That is no change. The next update touches.
        }
        let mut changes = it.kept.judge(&it.inputs).reasons().to_vec();
        for reason in &changes {
            if let Reason::Unknown { .. } = reason {
                report.blind(MODULES, host.blind_to(reason));
            }
        }
        // A trigger may have lacked the time to read some contents. That is no change either.
        changes.retain(|reason| it.is_known(reason));
        let verdict = Verdict::of_reasons(changes);
        if !verdict.is_fresh() {
            let name = it.name();
            let reasons = verdict.reasons_for_people(2).join("; ");
            report.finding(
                MODULES,
                format!("the stamp of {name} has not been touched since a change: {reasons}"),
                "a consumer that looks at the stamp alone serves an older answer",
                format!("modstamp update --profile {name}"),
            );
        }
    }
    Ok(in_use(host))
}

/// The stamp's path, as seen from inside the root.
fn path(it: &InUse) -> PathBuf {
    it.stamp.directory.join(it.stamp.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_modstamp_was_made_is_found() {
        for (seconds, count) in [(EARLIEST - 1, 1), (EARLIEST, 0)] {
            let mut report = Examination::default();
            check_clock(Mtime::new(seconds, 0), &mut report);
            assert_eq!(report.findings.len(), count, "{report:?}");
        }
    }
}
