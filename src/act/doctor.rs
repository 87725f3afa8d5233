//! The doctor: looks whether triggers, units, profiles, paths and rights are as they should be.
//!
//! It changes nothing. Each finding says what was seen and why it matters, and has a command that
//! mends it. The doctor reads files below the root directory. It asks other programs only about
//! the running system, because anybody may have made another root's programs and databases. For the
//! same reason a command that mends another root has to be run inside that system.
//!
//! | file | checks |
//! | --- | --- |
//! | `dpkg`, `rpm`, `hooks` | the triggers of each package manager, and if the last run fired them |
//! | `units` | systemd's units, and the room for their watches |
//! | `profiles` | unloadable profiles, missing directories, files that replace others' keys |
//! | `stamps` | the stamps, their rights, labels, disk and time, and changes of modules since |
//! | `libvirt` | module directories, stale answers, and the holes of libvirt's version |
//!
//! `host` is the host under examination, and `report` holds the results.

mod dpkg;
mod hooks;
mod host;
mod libvirt;
mod profiles;
mod report;
mod rpm;
mod stamps;
mod units;

use crate::act::doctor::host::{Host, INSIDE};
pub use crate::act::doctor::report::{Examination, Finding, Health, Note, Unseen};
use crate::files::root::Root;

/// Looks at one thing, and reports what is wrong with it.
type Check = fn(&Host, &mut Examination);

const CHECKS: [Check; 18] = [
    dpkg::triggers,
    dpkg::last_run,
    rpm::triggers,
    hooks::pacman,
    hooks::apk,
    units::units,
    units::inotify,
    profiles::profiles,
    profiles::directories,
    stamps::exist,
    stamps::rights,
    stamps::labels,
    stamps::disk,
    stamps::clock,
    stamps::modules,
    libvirt::directories,
    libvirt::answers,
    libvirt::version,
];

/// Examines the host below `root`. It takes a few milliseconds, unless rpm or systemd is slow.
pub fn examine(root: &Root) -> Examination {
    let host = Host::of(root);
    let mut examination = Examination {
        checks: CHECKS.len(),
        ..Examination::default()
    };
    for check in CHECKS {
        check(&host, &mut examination);
    }
    if !root.is_system() {
        for finding in &mut examination.findings {
            finding.remedy.insert_str(0, INSIDE);
        }
    }
    examination
}
