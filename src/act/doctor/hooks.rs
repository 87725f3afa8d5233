//! pacman's hooks and apk's triggers: whether they are there and alive.

use std::path::{Path, PathBuf};

use crate::act::doctor::host::{Host, MOST_FILES, PROGRAM, UNBUILT, shell_word};
use crate::act::doctor::names::{APK_TRIGGER, PACMAN_HOOK};
use crate::act::doctor::report::{Checked, Examination, Seen};
use crate::act::doctor::units::{self, NOT_TOLD};

/// It has a directory for each installed package, and the file `ALPM_DB_VERSION`.
const PACMAN_DATABASE: &str = "/var/lib/pacman/local";

/// The directories of hooks. An administrator's hook replaces a package's hook of the same name
/// (alpm-hooks(5)).
const HOOKS: &str = "/usr/share/libalpm/hooks";
const ADMINISTRATORS_HOOKS: &str = "/etc/pacman.d/hooks";

/// apk 3 moved its database below `/usr`.
const APK_DATABASES: [&str; 2] = ["/lib/apk/db", "/usr/lib/apk/db"];

/// Checks that pacman has a hook for `qemu` that is not disabled.
pub(crate) fn pacman(host: &Host, report: &mut Examination) -> Seen<Checked> {
    if host.qemu().is_none() || host.names(Path::new(PACMAN_DATABASE))?.len() < 2 {
        return Ok(Checked::NothingHere);
    }
    let is_program = host.is_program(Path::new(PROGRAM))?;
    let mut is_alive = !touching(host, ADMINISTRATORS_HOOKS)?.is_empty();
    let mut disabled = None;
    for hook in touching(host, HOOKS)? {
        let by = Path::new(ADMINISTRATORS_HOOKS).join(hook.file_name().unwrap_or_default());
        match host.stat_itself(&by)? {
            Some(_) => disabled = disabled.or(Some((hook, by))),
            None => is_alive = true,
        }
    }
    match disabled {
        _ if is_alive && is_program => {}
        _ if is_alive => {
            let program = host.shown(Path::new(PROGRAM));
            report.finding(
                PACMAN_HOOK,
                format!("pacman's hook starts {program}, which is not an executable file"),
                format!("{NOT_TOLD}{UNBUILT}"),
                "pacman -S modstamp",
            );
        }
        None => {
            let seen = "pacman has no hook that touches the stamp of the profile qemu";
            let install = "pacman -S modstamp-qemu";
            units::tell_no_trigger(host, PACMAN_HOOK, seen, install, report)?;
        }
        Some((hook, by)) => report.finding(
            PACMAN_HOOK,
            format!(
                "{} disables the hook {}",
                host.shown(&by),
                host.shown(&hook)
            ),
            NOT_TOLD,
            format!("rm {}", shell_word(by)),
        ),
    }
    Ok(Checked::Made)
}

/// The hooks in a directory that touch the stamp of `qemu`.
fn touching(host: &Host, directory: &str) -> Seen<Vec<PathBuf>> {
    let directory = Path::new(directory);
    let names = host.names(directory)?.into_iter();
    let hooks = names.filter(|name| name.extension().is_some_and(|it| it == "hook"));
    let mut touching = Vec::new();
    for hook in hooks.take(MOST_FILES).map(|name| directory.join(name)) {
        let text = host.text(&hook)?.unwrap_or_default();
        let mut lines = text.lines();
        let touches = |line: &str| {
            let is_call = line.starts_with("Exec") && line.contains("modstamp trigger pacman");
            is_call && (!line.contains("--profile") || line.contains("--profile qemu "))
        };
        if lines.any(touches) {
            touching.push(hook);
        }
    }
    Ok(touching)
}

/// Checks that apk has a trigger for `qemu`.
pub(crate) fn apk(host: &Host, report: &mut Examination) -> Seen<Checked> {
    let Some(it) = host.qemu() else {
        return Ok(Checked::NothingHere);
    };
    let mut found = None;
    for database in APK_DATABASES.map(Path::new) {
        if found.is_none() {
            let installed = host.database(&database.join("installed"))?;
            found = installed.map(|installed| (database, installed));
        }
    }
    let Some((database, installed)) = found.filter(|(_, installed)| !installed.is_empty()) else {
        return Ok(Checked::NothingHere);
    };
    let is_installed = installed.lines().any(|line| line == "P:modstamp-qemu");
    // “CHECKSUM DIRECTORY:DIRECTORY”
    let triggers = host.database(&database.join("triggers"))?;
    let triggers = triggers.unwrap_or_default();
    let mut directories = triggers.lines().flat_map(|line| {
        let (_, directories) = line.split_once(' ').unwrap_or_default();
        directories.split(':')
    });
    if !is_installed || !directories.any(|path| it.profile.covers(Path::new(path))) {
        let seen = "apk has no trigger that touches the stamp of the profile qemu";
        let reinstall = "apk fix --reinstall modstamp-qemu";
        match is_installed {
            true => report.finding(APK_TRIGGER, seen, format!("{NOT_TOLD}{UNBUILT}"), reinstall),
            false => {
                let install = "apk add modstamp-qemu";
                units::tell_no_trigger(host, APK_TRIGGER, seen, install, report)?;
            }
        }
    } else if !host.is_program(Path::new(PROGRAM))? {
        let program = host.shown(Path::new(PROGRAM));
        report.finding(
            APK_TRIGGER,
            format!("apk's trigger starts {program}, which is not an executable file"),
            format!("{NOT_TOLD}{UNBUILT}"),
            "apk fix --reinstall modstamp",
        );
    }
    Ok(Checked::Made)
}
