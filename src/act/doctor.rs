//! The doctor: looks whether triggers, units, profiles, paths and rights are as they should be.
//!
//! A look can fail: a directory is closed to the caller, or the system is out of descriptors. Then it
//! is not known what is there. So a failed look is reported as unseen, and is neither a finding nor
//! silence. Each look of `host::Host` is a `report::Seen`, and a check hands a failed one on.
//!
//! It changes nothing. Each finding says what was seen and why it matters, and has a command that
//! mends it. The doctor reads files below the root directory. It asks other programs only about
//! the running system, because anybody may have made another root's programs and databases. For the
//! same reason a command that mends another root has to be run inside that system.
//!
//! | file | checks |
//! | --- | --- |
//! | `dpkg`, `rpm`, `hooks` | the triggers of each package manager, and if the last run fired them |
//! | `units` | systemd's units |
//! | `drop_ins` | the drop-ins of libvirt's daemons, and the directories that the units watch |
//! | `inotify` | the room for the units' watches |
//! | `profiles` | unloadable profiles, missing directories, files that replace others' keys |
//! | `stamps` | the stamps, their rights, labels, disk and time, and changes of modules since |
//! | `libvirt` | module directories, stale answers, and the holes of libvirt's version |
//! | `caches` | stale caches of other programs that profiles name |
//!
//! `host` is the host under examination, `unit_file` finds the files of systemd's units, `ask` asks
//! other programs, and `report` holds the results.

mod ask;
mod caches;
mod dpkg;
mod drop_ins;
mod hooks;
mod host;
mod inotify;
mod libvirt;
mod names;
mod profiles;
mod report;
mod rpm;
mod stamps;
mod unit_file;
mod units;

use crate::act::doctor::host::Host;
pub use crate::act::doctor::names::CHECK_NAMES;
use crate::act::doctor::names::{
    APK_TRIGGER, CACHE, CLOCK, DAEMON_DROP_IN, DPKG_LAST_RUN, DPKG_TRIGGER, INOTIFY,
    LIBVIRT_ANSWERS, LIBVIRT_VERSION, MODULE_DIRECTORIES, MODULES, PACMAN_HOOK, PROFILE,
    PROFILE_DIRECTORY, RPM_TRIGGER, STAMP, STAMP_DISK, STAMP_LABEL, STAMP_RIGHTS, UNIT,
    UNIT_DIRECTORIES,
};
use crate::act::doctor::report::{Checked, Seen};
pub use crate::act::doctor::report::{Examination, Finding, Health, Note, Unseen};
use crate::act::look::Look;
use crate::files::root::Root;

/// Looks at one thing, and reports what is wrong with it. A failed look may end it.
type Check = fn(&Host, &mut Examination) -> Seen<Checked>;

/// Each check, with the name under which a look that ends it is reported.
const CHECKS: [(&str, Check); 21] = [
    (DPKG_TRIGGER, dpkg::triggers),
    (DPKG_LAST_RUN, dpkg::last_run),
    (RPM_TRIGGER, rpm::triggers),
    (PACMAN_HOOK, hooks::pacman),
    (APK_TRIGGER, hooks::apk),
    (UNIT, units::units),
    (UNIT_DIRECTORIES, drop_ins::directories),
    (DAEMON_DROP_IN, drop_ins::daemons),
    (INOTIFY, inotify::inotify),
    (PROFILE, profiles::profiles),
    (PROFILE_DIRECTORY, profiles::directories),
    (STAMP, stamps::exist),
    (STAMP_RIGHTS, stamps::rights),
    (STAMP_LABEL, stamps::labels),
    (STAMP_DISK, stamps::disk),
    (CLOCK, stamps::clock),
    (MODULES, stamps::modules),
    (MODULE_DIRECTORIES, libvirt::directories),
    (LIBVIRT_ANSWERS, libvirt::answers),
    (LIBVIRT_VERSION, libvirt::version),
    (CACHE, caches::caches),
];

/// Examines the host below `root`. It takes a few milliseconds, unless rpm or systemd is slow.
///
/// A profile that is in `looks` costs no second look.
pub fn examine(root: &Root, looks: &[Look]) -> Examination {
    let mut examination = Examination::of(root);
    let host = Host::of(root, looks, &mut examination);
    examination.is_used = !host.in_use.is_empty();
    for (name, check) in CHECKS {
        match check(&host, &mut examination) {
            Ok(Checked::Made) => examination.checks += 1,
            Ok(Checked::NothingHere) => {}
            Err(blind) => examination.blind(name, blind),
        }
    }
    examination
}
