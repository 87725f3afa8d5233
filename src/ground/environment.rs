//! The process's environment, as far as it can be believed.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use crate::ground::platform::{self, OsStr, OsStrExt, OsString, Path, PathBuf};

/// The value of an environment variable.
///
/// A set-user-ID program that uses the C library believes none, because its starter chose them
/// (secure_getenv(3)).
pub(crate) fn variable(name: &str) -> Option<OsString> {
    #[cfg(feature = "ffi")]
    if has_foreign_rights() {
        return None;
    }
    platform::variable(name)
}

/// The caller's own directory: the one that the variable `name` holds, or `default` in the home
/// directory.
///
/// `None` without a home. Relative values do not count (XDG Base Directory Specification).
pub(crate) fn home_directory(name: &str, default: &str) -> Option<PathBuf> {
    absolute(name).or_else(|| Some(absolute("HOME")?.join(default)))
}

/// Whether the caller's home directory is below `path`.
pub(crate) fn leads_to_home(path: &Path) -> bool {
    absolute("HOME").is_some_and(|home| home != path && home.starts_with(path))
}

/// The value of a variable that holds an absolute path.
fn absolute(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    path.is_absolute().then_some(path)
}

/// The caller, as a stamp's note names the author of a touch: “root”, “root, as alice by sudo”
/// (sudo(8)) or “user 1000”.
pub fn caller() -> String {
    let user = rustix::process::geteuid();
    if !user.is_root() {
        return format!("user {}", user.as_raw());
    }
    let name = variable("SUDO_USER").and_then(|name| text(&name));
    let name = name.filter(|name| !name.is_empty());
    name.map_or("root".to_owned(), |name| format!("root, as {name} by sudo"))
}

/// Whether an image is being built, and not a host running: `SOURCE_DATE_EPOCH` is set to a number
/// (reproducible-builds.org's specification).
pub(crate) fn image_is_being_built() -> bool {
    let seconds = variable("SOURCE_DATE_EPOCH").and_then(|seconds| text(&seconds));
    seconds.is_some_and(|seconds| seconds.parse::<u64>().is_ok())
}

/// A value as text, if it is UTF-8.
fn text(value: &OsStr) -> Option<String> {
    let text = core::str::from_utf8(value.as_bytes());
    text.ok().map(str::to_owned)
}

/// Whether the process has rights that its starter lacks (`AT_SECURE`, getauxval(3)).
#[cfg(feature = "ffi")]
#[allow(unsafe_code)]
fn has_foreign_rights() -> bool {
    use core::ffi::c_ulong;
    const AT_SECURE: c_ulong = 23;
    unsafe extern "C" {
        fn getauxval(kind: c_ulong) -> c_ulong;
    }
    // SAFETY: it takes any number.
    unsafe { getauxval(AT_SECURE) != 0 }
}
