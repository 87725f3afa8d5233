//! A kind of program whose answers libvirt caches, and the form of the files that it keeps them in.

use crate::ground::error::{Error, Result};
use crate::observe::profile::Profile;

/// How libvirt caches the answers of one kind of program.
#[derive(Debug)]
pub(crate) struct Kind {
    profile: &'static str,
    /// The cache's directory, below the cache directory of libvirt's QEMU driver.
    pub(crate) folder: &'static str,
    /// The root element of a cache file.
    pub(crate) element: &'static str,
    /// The element that has the program's path.
    pub(crate) program: &'static str,
    /// The element that has the program's ctime.
    pub(crate) program_ctime: &'static str,
    pub(crate) directories: &'static [DirectoryElements],
    pub(crate) remedies: Remedies,
}

/// The remedies for a refresh that failed, or whose record cannot be read. Each names the profile,
/// unless it is the default.
#[derive(Debug)]
pub(crate) struct Remedies {
    /// For an obstacle that may go away.
    pub(crate) later: &'static str,
    /// For an obstacle to everybody but root.
    pub(crate) as_root: &'static str,
    /// For a record of root's that is torn.
    pub(crate) torn: &'static str,
    /// For a record of root's that the caller cannot open.
    pub(crate) closed: &'static str,
    /// For a record of the caller's own that is torn.
    pub(crate) own_torn: &'static str,
    /// For a record of the caller's own that the caller cannot open.
    pub(crate) own_closed: &'static str,
}

/// The remedies, with the option that names the profile.
macro_rules! remedies {
    ($profile:literal) => {
        Remedies {
            later: concat!(
                "run “modstamp libvirt refresh",
                $profile,
                "” when that is over"
            ),
            as_root: concat!("run “modstamp libvirt refresh", $profile, "” as root"),
            torn: concat!(
                "run “modstamp libvirt refresh",
                $profile,
                "” as root, which writes another"
            ),
            closed: concat!(
                "make it readable for every user, or run “modstamp libvirt refresh",
                $profile,
                "” as root, which writes another"
            ),
            own_torn: concat!("run “modstamp update", $profile, "”, which writes another"),
            own_closed: concat!(
                "make it readable, or run “modstamp update",
                $profile,
                "”, which writes another"
            ),
        }
    };
}

/// The elements of a cache file that are about one module directory.
#[derive(Debug)]
pub(crate) struct DirectoryElements {
    /// The element that has the path. `None` if the path is compiled into libvirt's driver instead.
    pub(crate) path: Option<&'static str>,
    /// The element that has the mtime.
    pub(crate) mtime: &'static str,
}

/// libvirt's `virQEMUCapsFormatCache` and `qemuNbdkitCapsFormatCache` write these elements.
static KINDS: [Kind; 2] = [
    Kind {
        profile: "qemu",
        folder: "capabilities",
        element: "qemuCaps",
        program: "emulator",
        program_ctime: "qemuctime",
        directories: &[DirectoryElements {
            path: None,
            mtime: "qemumoddirmtime",
        }],
        remedies: remedies!(""),
    },
    Kind {
        profile: "nbdkit",
        folder: "nbdkitcapabilities",
        element: "nbdkitCaps",
        program: "path",
        program_ctime: "nbdkitctime",
        directories: &[
            DirectoryElements {
                path: Some("plugindir"),
                mtime: "plugindirmtime",
            },
            DirectoryElements {
                path: Some("filterdir"),
                mtime: "filterdirmtime",
            },
        ],
        remedies: remedies!(" --profile nbdkit"),
    },
];

impl Kind {
    /// Finds the kind of a profile's programs.
    ///
    /// # Errors
    /// If libvirt caches no answer of the profile's programs.
    pub(crate) fn of(profile: &Profile) -> Result<&'static Kind> {
        Kind::named(profile.name()).ok_or_else(|| {
            let (name, names) = (profile.name(), profiles().collect::<Vec<&str>>());
            let remedy = match profile.refreshes_libvirt() {
                true => "take the remedy “libvirt”, or the line refresh-libvirt, out of its file"
                    .to_owned(),
                false => format!("name one of: {}", names.join(", ")),
            };
            Error::NoProfile(format!(
                "libvirt caches nothing of the profile “{name}”; {remedy}"
            ))
        })
    }

    /// The kind of the programs of the profile `name`.
    pub(crate) fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.profile == name)
    }

    /// Whether the path of a module directory is compiled into libvirt's driver.
    pub(crate) fn is_directory_in_driver(&self) -> bool {
        let mut directories = self.directories.iter();
        directories.any(|elements| elements.path.is_none())
    }

    /// Whether an element of a cache file counts. All others are passed over.
    pub(crate) fn has(&self, element: &[u8]) -> bool {
        let directories = self.directories.iter();
        let of_directories = directories.flat_map(|it| it.path.into_iter().chain([it.mtime]));
        let of_program = [self.program, self.program_ctime].into_iter();
        let mut names = of_program.chain(of_directories);
        names.any(|name| name.as_bytes() == element)
    }
}

/// Names the profiles whose programs' answers libvirt caches.
pub fn profiles() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.profile)
}
