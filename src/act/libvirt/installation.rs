//! The installed libvirts, and the module directories that each of them watches.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::act::libvirt::moved::Failure;
use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::way::Steps;
use crate::observe::profile::Profile;

/// Distributions, and libvirt's own `make install`, put libvirt's modules below one of these.
/// “*” stands for the name of an architecture.
const LIBRARIES: [&str; 6] = [
    "/usr/lib64",
    "/usr/lib/*",
    "/usr/lib",
    "/usr/local/lib64",
    "/usr/local/lib/*",
    "/usr/local/lib",
];

/// libvirt's driver for QEMU, in the directory of a library.
const DRIVER: &str = "libvirt/connection-driver/libvirt_driver_qemu.so";

/// A driver has some 2 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The most compiled-in paths of a file that are believed. A driver has one or two.
const MOST_PATHS: usize = 100;

/// The libvirts that a search found.
pub(crate) struct Installed {
    /// The driver for QEMU of each, the distribution's first.
    pub(crate) drivers: Vec<PathBuf>,
    /// The first place at which nobody could look. Another libvirt may be there.
    pub(crate) unseen: Option<Failure>,
}

impl Installed {
    /// Finds the driver for QEMU of each installed libvirt.
    pub(crate) fn find(root: &Root) -> Installed {
        let (libraries, mut unseen) = libraries(root);
        let mut drivers = Vec::new();
        for driver in libraries.iter().map(|library| library.join(DRIVER)) {
            match root.place(&driver, Steps::Any) {
                Ok(_) => drivers.push(driver),
                Err(stop) if stop.leads_nowhere() => {}
                Err(stop) => {
                    let cause = stop.into();
                    unseen.get_or_insert(Failure {
                        path: driver,
                        cause,
                    });
                }
            }
        }
        Installed { drivers, unseen }
    }
}

/// The module directories of `profile` whose mtime the libvirt with this driver compares.
///
/// Their paths are compiled into the driver (`QEMU_MODDIR`). The list is empty if the driver has
/// none of them, like that of a libvirt before 6.8, or cannot be read.
pub(crate) fn watched(driver: &Path, profile: &Profile) -> Vec<PathBuf> {
    let watched = compiled_in(profile.root(), driver, |path| profile.has_directory(path));
    watched.unwrap_or_default()
}

/// The absolute paths that are compiled into a program or library, as far as they are wanted.
///
/// # Errors
/// If the file cannot be read, or is larger than any driver.
pub(crate) fn compiled_in(
    root: &Root,
    file: &Path,
    is_wanted: impl Fn(&Path) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let bytes = read_at_most(MOST_BYTES, root.read(file, Steps::Any)?)?;
    // A compiled-in text ends with a NUL, and so does the one before it.
    let texts = bytes.split(|byte| *byte == 0).skip(1);
    let paths = texts
        .filter(|text| text.starts_with(b"/"))
        .map(|text| Path::new(OsStr::from_bytes(text)))
        .filter(|path| is_wanted(path));
    Ok(paths.take(MOST_PATHS).map(Path::to_owned).collect())
}

/// The directories that may hold a driver, and the first that could not be listed.
fn libraries(root: &Root) -> (Vec<PathBuf>, Option<Failure>) {
    let (mut libraries, mut unlisted) = (Vec::new(), None);
    for library in LIBRARIES {
        match library.strip_suffix("/*") {
            None => libraries.push(PathBuf::from(library)),
            Some(parent) => {
                let parent = Path::new(parent);
                let names = root.names(parent, Steps::Any).unwrap_or_else(|stop| {
                    if !stop.is_missing() {
                        unlisted.get_or_insert(Failure {
                            path: parent.to_owned(),
                            cause: stop.into(),
                        });
                    }
                    Vec::new()
                });
                let names = names.iter();
                let is_linux = |part: &[u8]| part == b"-linux-";
                let names = names.filter(|name| name.as_bytes().windows(7).any(is_linux));
                libraries.extend(names.map(|name| parent.join(name)));
            }
        }
    }
    (libraries, unlisted)
}
