//! pacman's hooks and apk's triggers: whether they are there and alive.

use std::path::{Path, PathBuf};

use crate::act::doctor::host::{Host, MOST_FILES, PROGRAM, shell_word};
use crate::act::doctor::report::Examination;

const PACMAN: &str = "pacman-hook";
const APK: &str = "apk-trigger";

const NOT_TOLD: &str = "a package can bring or take a QEMU module, and nothing tells libvirt";

/// It has a directory for each installed package, and the file `ALPM_DB_VERSION`.
const PACMAN_DATABASE: &str = "/var/lib/pacman/local";

/// The directories of hooks. An administrator's hook replaces a package's hook of the same name
/// (alpm-hooks(5)).
const HOOKS: &str = "/usr/share/libalpm/hooks";
const ADMINISTRATORS_HOOKS: &str = "/etc/pacman.d/hooks";

/// apk 3 moved its database below `/usr`.
const APK_DATABASES: [&str; 2] = ["/lib/apk/db", "/usr/lib/apk/db"];

/// Checks that pacman has a hook for `qemu` that is not disabled.
pub(crate) fn pacman(host: &Host, report: &mut Examination) {
    let packages = host.names(Path::new(PACMAN_DATABASE));
    if host.qemu().is_none() || packages.len() < 2 {
        return;
    }
    let own = touching(host, ADMINISTRATORS_HOOKS, report);
    let packaged = touching(host, HOOKS, report);
    let replacement = |hook: &PathBuf| {
        let by = Path::new(ADMINISTRATORS_HOOKS).join(hook.file_name()?);
        host.root.stat(&by).ok().flatten().map(|_| by)
    };
    let is_alive = !own.is_empty() || packaged.iter().any(|hook| replacement(hook).is_none());
    match packaged.first() {
        _ if is_alive && host.is_program(Path::new(PROGRAM)) => {}
        _ if is_alive => {
            let program = host.shown(Path::new(PROGRAM));
            report.finding(
                PACMAN,
                format!("pacman's hook starts {program}, which is not an executable file"),
                NOT_TOLD,
                "pacman -S modstamp",
            );
        }
        None => report.finding(
            PACMAN,
            "pacman has no hook that touches the stamp of the profile qemu",
            NOT_TOLD,
            "pacman -S modstamp-qemu",
        ),
        Some(hook) => {
            let by = replacement(hook).unwrap_or_default();
            report.finding(
                PACMAN,
                format!("{} disables the hook {}", host.shown(&by), host.shown(hook)),
                NOT_TOLD,
                format!("rm {}", shell_word(by)),
            );
        }
    }
}

/// The hooks in a directory that touch the stamp of `qemu`.
fn touching(host: &Host, directory: &str, report: &mut Examination) -> Vec<PathBuf> {
    let directory = Path::new(directory);
    let names = host.names(directory).into_iter();
    let hooks = names.filter(|name| name.extension().is_some_and(|it| it == "hook"));
    let mut touching = Vec::new();
    for hook in hooks.take(MOST_FILES).map(|name| directory.join(name)) {
        let text = host.text(PACMAN, &hook, report).unwrap_or_default();
        let mut lines = text.lines();
        let touches = |line: &str| {
            let is_call = line.starts_with("Exec") && line.contains("modstamp trigger pacman");
            is_call && (!line.contains("--profile") || line.contains("--profile qemu "))
        };
        if lines.any(touches) {
            touching.push(hook);
        }
    }
    touching
}

/// Checks that apk has a trigger for `qemu`.
pub(crate) fn apk(host: &Host, report: &mut Examination) {
    let Some(it) = host.qemu() else {
        return;
    };
    let mut databases = APK_DATABASES.iter().map(Path::new);
    let Some(database) = databases.find(|it| host.stat(&it.join("installed")).is_some()) else {
        return;
    };
    let installed = host.database(APK, &database.join("installed"), report);
    let installed = installed.unwrap_or_default();
    if installed.is_empty() {
        return;
    }
    let is_installed = installed.lines().any(|line| line == "P:modstamp-qemu");
    // “CHECKSUM DIRECTORY:DIRECTORY”
    let triggers = host.database(APK, &database.join("triggers"), report);
    let triggers = triggers.unwrap_or_default();
    let mut directories = triggers.lines().flat_map(|line| {
        let (_, directories) = line.split_once(' ').unwrap_or_default();
        directories.split(':')
    });
    if !is_installed || !directories.any(|path| it.profile.covers(Path::new(path))) {
        report.finding(
            APK,
            "apk has no trigger that touches the stamp of the profile qemu",
            NOT_TOLD,
            match is_installed {
                true => "apk fix --reinstall modstamp-qemu",
                false => "apk add modstamp-qemu",
            },
        );
    } else if !host.is_program(Path::new(PROGRAM)) {
        let program = host.shown(Path::new(PROGRAM));
        report.finding(
            APK,
            format!("apk's trigger starts {program}, which is not an executable file"),
            NOT_TOLD,
            "apk fix --reinstall modstamp",
        );
    }
}
