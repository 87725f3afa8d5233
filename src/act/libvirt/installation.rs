//! The libvirt that is installed: its version, when its files changed last, and which module directories it watches.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::files::root::{Root, Steps};
use crate::observe::profile::Profile;

/// Where distributions, and libvirt's own `make install`, put its modules. In “*” is the name of an architecture.
const LIBRARIES: [&str; 6] = [
    "/usr/lib64",
    "/usr/lib/*",
    "/usr/lib",
    "/usr/local/lib64",
    "/usr/local/lib/*",
    "/usr/local/lib",
];

/// The daemons that ask QEMU: the one for all drivers, and the one for QEMU alone.
pub(super) const DAEMONS: [&str; 2] = ["libvirtd", "virtqemud"];

/// Where they are.
const PROGRAMS: [&str; 3] = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"];

/// A driver is some 2 MB.
const MOST_BYTES: u64 = 64 << 20;

/// An installed libvirt.
pub(crate) struct Installation {
    /// As 9000000 is 9.0.0; `None` where its library does not tell.
    pub(crate) version: Option<i64>,
    /// The driver for QEMU.
    driver: PathBuf,
    /// In whole seconds since 1970, as all times here.
    driver_ctime: i64,
    daemon_ctimes: Vec<i64>,
    /// Of all modules.
    module_ctimes: Vec<i64>,
}

impl Installation {
    /// Those that have a driver for QEMU, the distribution's first.
    pub(crate) fn all(root: &Root) -> Vec<Installation> {
        let libraries = libraries(root).into_iter();
        libraries
            .filter_map(|library| Installation::at(root, &library))
            .collect()
    }

    fn at(root: &Root, library: &Path) -> Option<Installation> {
        let modules = library.join("libvirt");
        let driver = modules.join("connection-driver/libvirt_driver_qemu.so");
        let driver_ctime = root.target(&driver)?.st_ctime;
        let daemons = PROGRAMS.iter().flat_map(|programs| {
            let programs = Path::new(programs);
            DAEMONS.iter().map(|daemon| programs.join(daemon))
        });
        let mut module_ctimes = Vec::new();
        for folder in ["connection-driver", "storage-backend", "storage-file"] {
            let folder = modules.join(folder);
            let names = root.names(&folder).unwrap_or_default();
            let files = names
                .iter()
                .filter_map(|name| root.target(&folder.join(name)));
            module_ctimes.extend(files.map(|stat| stat.st_ctime));
        }
        Some(Installation {
            version: version(root, library),
            driver,
            driver_ctime,
            daemon_ctimes: daemons
                .filter_map(|daemon| Some(root.target(&daemon)?.st_ctime))
                .collect(),
            module_ctimes,
        })
    }

    /// Whether a daemon that is started now would find `self_ctime` to be the latest ctime of its own files: of its
    /// program and the modules that it loads, which is at least the driver for QEMU (`virUpdateSelfLastChanged`).
    /// `None` where no daemon is found.
    pub(crate) fn is_self_ctime(&self, self_ctime: i64) -> Option<bool> {
        if self.daemon_ctimes.is_empty() {
            return None;
        }
        let may_be = |least: i64| {
            self_ctime == least || self_ctime > least && self.module_ctimes.contains(&self_ctime)
        };
        let mut daemons = self.daemon_ctimes.iter();
        Some(daemons.any(|daemon| may_be(self.driver_ctime.max(*daemon))))
    }

    /// The module directories of `profile` whose paths are compiled into the driver (QEMU_MODDIR): those whose mtime it
    /// compares.
    pub(crate) fn watched(&self, profile: &Profile) -> Vec<PathBuf> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let read = profile.root().read(&self.driver, Steps::Any).map(|fd| {
            std::fs::File::from(fd)
                .take(MOST_BYTES)
                .read_to_end(&mut bytes)
        });
        if !matches!(read, Ok(Ok(_))) {
            return Vec::new();
        }
        let mut watched: Vec<PathBuf> = bytes
            .split(|byte| *byte == 0)
            .skip(1) // Each text of a driver stands behind a zero byte.
            .filter(|text| text.starts_with(b"/"))
            .map(|text| PathBuf::from(std::ffi::OsStr::from_bytes(text)))
            .filter(|path| profile.has_directory(path))
            .collect();
        watched.sort();
        watched.dedup();
        watched
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

/// The version in the name of the file that `libvirt.so.0` is a link to: `libvirt.so.0.11003.2` is 11.3.2.
fn version(root: &Root, library: &Path) -> Option<i64> {
    let directory = root.place(library, Steps::Any).ok()?;
    let target = rustix::fs::readlinkat(directory, "libvirt.so.0", Vec::new()).ok()?;
    let version = target.to_str().ok()?.rsplit_once("libvirt.so.0.")?.1;
    let (major_minor, micro) = version.split_once('.')?;
    let major_minor: i64 = major_minor.parse().ok()?;
    major_minor
        .checked_mul(1000)?
        .checked_add(micro.parse().ok()?)
}
