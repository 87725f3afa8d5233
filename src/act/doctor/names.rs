//! The names of the checks, which each finding, note and unseen place has.

pub(crate) const DPKG_TRIGGER: &str = "dpkg-trigger";
pub(crate) const DPKG_LAST_RUN: &str = "dpkg-last-run";
pub(crate) const RPM_TRIGGER: &str = "rpm-trigger";
pub(crate) const RPM_LAST_RUN: &str = "rpm-last-run";
pub(crate) const PACMAN_HOOK: &str = "pacman-hook";
pub(crate) const APK_TRIGGER: &str = "apk-trigger";
pub(crate) const UNIT: &str = "unit";
pub(crate) const UNIT_DIRECTORIES: &str = "unit-directories";
pub(crate) const DAEMON_DROP_IN: &str = "daemon-drop-in";
pub(crate) const INOTIFY: &str = "inotify";
pub(crate) const PROFILE: &str = "profile";
pub(crate) const PROFILE_DIRECTORY: &str = "profile-directory";
pub(crate) const PROFILE_OVERRIDE: &str = "profile-override";
pub(crate) const STAMP: &str = "stamp";
pub(crate) const STAMP_RIGHTS: &str = "stamp-rights";
pub(crate) const STAMP_LABEL: &str = "stamp-label";
pub(crate) const STAMP_DISK: &str = "stamp-disk";
pub(crate) const CLOCK: &str = "clock";
pub(crate) const MODULES: &str = "modules";
pub(crate) const MODULE_DIRECTORIES: &str = "module-directories";
pub(crate) const LIBVIRT_ANSWERS: &str = "libvirt-answers";
pub(crate) const LIBVIRT_VERSION: &str = "libvirt-version";
pub(crate) const CACHE: &str = "cache";

/// All of them.
pub const CHECK_NAMES: [&str; 23] = [
    DPKG_TRIGGER,
    DPKG_LAST_RUN,
    RPM_TRIGGER,
    RPM_LAST_RUN,
    PACMAN_HOOK,
    APK_TRIGGER,
    UNIT,
    UNIT_DIRECTORIES,
    DAEMON_DROP_IN,
    INOTIFY,
    PROFILE,
    PROFILE_DIRECTORY,
    PROFILE_OVERRIDE,
    STAMP,
    STAMP_RIGHTS,
    STAMP_LABEL,
    STAMP_DISK,
    CLOCK,
    MODULES,
    MODULE_DIRECTORIES,
    LIBVIRT_ANSWERS,
    LIBVIRT_VERSION,
    CACHE,
];
