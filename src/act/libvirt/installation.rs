//! An installed libvirt, and the module directories that it watches.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::files::root::{Root, Steps};
use crate::observe::profile::Profile;

/// Distributions, and libvirt's own `make install`, put libvirt's modules below one of these. “*”
/// stands for the name of an architecture.
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

/// An installed libvirt.
pub(crate) struct Installation {
    /// Its driver for QEMU.
    driver: PathBuf,
}

impl Installation {
    /// Finds each libvirt that has a driver for QEMU, the distribution's first.
    pub(crate) fn all(root: &Root) -> Vec<Installation> {
        let libraries = libraries(root).into_iter();
        let drivers = libraries.map(|library| library.join(DRIVER));
        let drivers = drivers.filter(|driver| root.target(driver).is_some());
        drivers.map(|driver| Installation { driver }).collect()
    }

    /// The module directories of `profile` whose mtime this libvirt compares.
    ///
    /// Their paths are compiled into the driver (`QEMU_MODDIR`). The list is empty if the driver
    /// has none of them, like that of a libvirt before 6.8, or cannot be read.
    pub(crate) fn watched(&self, profile: &Profile) -> Vec<PathBuf> {
        let bytes = self.driver_bytes(profile.root()).unwrap_or_default();
        // A compiled-in text ends with a NUL, and so does the one before it.
        let texts = bytes.split(|byte| *byte == 0).skip(1);
        let mut watched: Vec<PathBuf> = texts
            .filter(|text| text.starts_with(b"/"))
            .map(|text| PathBuf::from(OsStr::from_bytes(text)))
            .filter(|path| profile.has_directory(path))
            .collect();
        watched.sort();
        watched.dedup();
        watched
    }

    fn driver_bytes(&self, root: &Root) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let driver = File::from(root.read(&self.driver, Steps::Any)?);
        driver.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn libraries(root: &Root) -> Vec<PathBuf> {
    let mut libraries = Vec::new();
    for library in LIBRARIES {
        match library.strip_suffix("/*") {
            None => libraries.push(PathBuf::from(library)),
            Some(parent) => {
                let names = root.names(Path::new(parent)).unwrap_or_default();
                let names = names
                    .iter()
                    .filter(|name| name.to_string_lossy().contains("-linux-"));
                libraries.extend(names.map(|name| Path::new(parent).join(name)));
            }
        }
    }
    libraries
}
