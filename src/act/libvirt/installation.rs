//! The installed libvirts, and the module directories that each of them watches.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::files::read::read_at_most;
use crate::files::root::{Root, Steps};
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

/// Finds the driver for QEMU of each installed libvirt, the distribution's first.
pub(crate) fn drivers(root: &Root) -> Vec<PathBuf> {
    let libraries = libraries(root).into_iter();
    let drivers = libraries.map(|library| library.join(DRIVER));
    drivers
        .filter(|driver| root.target(driver).is_some())
        .collect()
}

/// The module directories of `profile` whose mtime the libvirt with this driver compares.
///
/// Their paths are compiled into the driver (`QEMU_MODDIR`). The list is empty if the driver has
/// none of them, like that of a libvirt before 6.8, or cannot be read.
pub(crate) fn watched(driver: &Path, profile: &Profile) -> Vec<PathBuf> {
    let file = profile.root().read(driver, Steps::Any).ok();
    let bytes = file.and_then(|file| read_at_most(MOST_BYTES, file).ok());
    let bytes = bytes.unwrap_or_default();
    // A compiled-in text ends with a NUL, and so does the one before it.
    let texts = bytes.split(|byte| *byte == 0).skip(1);
    texts
        .filter(|text| text.starts_with(b"/"))
        .map(|text| PathBuf::from(OsStr::from_bytes(text)))
        .filter(|path| profile.has_directory(path))
        .collect()
}

fn libraries(root: &Root) -> Vec<PathBuf> {
    let mut libraries = Vec::new();
    for library in LIBRARIES {
        match library.strip_suffix("/*") {
            None => libraries.push(PathBuf::from(library)),
            Some(parent) => {
                let names = root.names(Path::new(parent)).unwrap_or_default();
                let names = names.iter();
                let names = names.filter(|name| name.to_string_lossy().contains("-linux-"));
                libraries.extend(names.map(|name| Path::new(parent).join(name)));
            }
        }
    }
    libraries
}
