//! The environment of the process, as far as it can be believed.

use std::ffi::OsString;
use std::path::PathBuf;

/// The value of an environment variable.
///
/// A set-user-ID program that uses the C library believes none, as by secure_getenv(3): whoever starts
/// it chooses them.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    #[cfg(feature = "ffi")]
    if has_foreign_rights() {
        return None;
    }
    std::env::var_os(name)
}

/// A directory of the caller's own, by the XDG Base Directory Specification: the one that `variable`
/// names, or `default` in the home directory. `None` without a home.
///
/// Relative values do not count, as the specification says.
pub(crate) fn home_directory(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        self::variable(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(default)))
}

/// Whether the process has rights that its starter lacks (`AT_SECURE`, getauxval(3)).
#[cfg(feature = "ffi")]
#[allow(unsafe_code)]
fn has_foreign_rights() -> bool {
    use std::ffi::c_ulong;
    const AT_SECURE: c_ulong = 23;
    unsafe extern "C" {
        fn getauxval(kind: c_ulong) -> c_ulong;
    }
    // SAFETY: it takes any number.
    unsafe { getauxval(AT_SECURE) != 0 }
}
