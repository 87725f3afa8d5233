//! libvirt's own cache, for a libvirt that knows nothing of stamps.
//!
//! libvirt keeps what it learnt from each QEMU, and from nbdkit, in a file for each program, and in the memory of its
//! daemons. Whether that still holds it tells by its own version and by the whole seconds of three times: the program's ctime,
//! the module directory's mtime, and the latest ctime of its own files. So it does not notice a module that is removed while the directory's mtime
//! is put back, one that is rewritten in place, a directory that vanishes, or what happens within a second; `docs/libvirt.md`
//! has the whole list.
//!
//! [`refresh()`] moves these times, so that every daemon probes again, and keeps a record of it. [`Cached`] is what is in the
//! cache, with libvirt's own rule and, by the record, modstamp's verdict on each file; it removes what is stale.

mod cache_file;
mod installation;
mod record;
mod refresh;
mod rule;

use std::path::{Path, PathBuf};

pub use cache_file::{CacheFile, Recorded};
pub use refresh::{Refreshed, refresh};
pub(crate) use refresh::{refresh_too, update, update_own};
pub use rule::{Clause, Rule};

use cache_file::CacheDirectory;
use installation::Installation;
use record::Record;
use rule::Now;

use crate::files::root::Root;
use crate::ground::error::{Error, Result};
use crate::judge::verdict::Verdict;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Owner, Stamp};

/// How libvirt caches what it learns from one kind of program.
#[derive(Debug)]
pub(crate) struct Kind {
    profile: &'static str,
    /// The cache's directory below that of libvirt's QEMU driver.
    folder: &'static str,
    /// The root element of a file, and the elements in it that say by what it is told to hold.
    element: &'static str,
    program: &'static str,
    program_ctime: &'static str,
    /// Of each module directory its path, where a file says it, and its mtime.
    directories: &'static [(Option<&'static str>, &'static str)],
}

/// libvirt's `virQEMUCapsFormatCache` and `qemuNbdkitCapsFormatCache` write these.
static KINDS: [Kind; 2] = [
    Kind {
        profile: "qemu",
        folder: "capabilities",
        element: "qemuCaps",
        program: "emulator",
        program_ctime: "qemuctime",
        directories: &[(None, "qemumoddirmtime")],
    },
    Kind {
        profile: "nbdkit",
        folder: "nbdkitcapabilities",
        element: "nbdkitCaps",
        program: "path",
        program_ctime: "nbdkitctime",
        directories: &[
            (Some("plugindir"), "plugindirmtime"),
            (Some("filterdir"), "filterdirmtime"),
        ],
    },
];

impl Kind {
    fn of(profile: &Profile) -> Result<&'static Kind> {
        let kind = KINDS.iter().find(|kind| kind.profile == profile.name());
        kind.ok_or_else(|| {
            let names: Vec<&str> = profiles().collect();
            Error::NoProfile(format!(
                "libvirt caches nothing of the profile “{}”; name one of: {}",
                profile.name(),
                names.join(", ")
            ))
        })
    }

    /// Whether which directory it is is compiled into libvirt's driver, and not in the file.
    fn is_directory_in_driver(&self) -> bool {
        self.directories.iter().any(|(path, _)| path.is_none())
    }

    /// Whether an element counts.
    fn has(&self, element: &[u8]) -> bool {
        let directories = self.directories.iter();
        let mut names = directories.flat_map(|(path, mtime)| path.iter().chain([mtime]));
        let others = [self.program, self.program_ctime, "selfctime", "selfvers"];
        let is_it = |name: &&str| name.as_bytes() == element;
        others.iter().any(is_it) || names.any(is_it)
    }
}

/// The profiles whose programs' answers libvirt caches.
pub fn profiles() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.profile)
}

/// What libvirt has cached of one profile's programs, for the system's daemon and for the caller's own.
pub struct Cached {
    root: Root,
    kind: &'static Kind,
    files: Vec<CacheFile>,
    errors: Vec<(Owner, Error)>,
    record: Option<Record>,
    /// The caller's own, for the caller's own cache where the system's cannot tell.
    own: Option<Record>,
    inputs: Inputs,
    now: Now,
}

impl Cached {
    /// Looks at all of it. Other users' caches are left alone.
    ///
    /// # Errors
    /// As [`Profile::inputs`], and where libvirt caches nothing of the profile's programs. What cannot be looked at is in
    /// [`Cached::errors`].
    pub fn find(profile: &Profile) -> Result<Cached> {
        let kind = Kind::of(profile)?;
        let profile = &profile.without_variables();
        let record = Record::read(&Stamp::system(profile.root(), profile.name())?);
        let inputs = Inputs::of(
            profile,
            record.as_ref().map(|record| &record.witness.observation),
        )?;
        Ok(Cached::of(kind, profile, record, inputs))
    }

    fn of(
        kind: &'static Kind,
        profile: &Profile,
        record: Option<Record>,
        inputs: Inputs,
    ) -> Cached {
        let root = profile.root().clone();
        let mut files = Vec::new();
        let (directories, mut errors) = CacheDirectory::all(&root, kind);
        for directory in directories {
            let owner = directory.owner;
            match directory.files() {
                Ok(found) => files.extend(found),
                Err(error) => errors.push((owner, error)),
            }
        }
        // Which of several wrote a file cannot be told: the distribution's is taken for it.
        let installation = match files.is_empty() {
            true => None,
            false => Installation::all(&root).into_iter().next(),
        };
        let watched = installation
            .as_ref()
            .map(|installation| installation.watched(profile));
        let now = Now::new(installation, watched.unwrap_or_default());
        Cached {
            root,
            kind,
            files,
            errors,
            own: match record.as_ref().is_none_or(|record| !record.tells_all()) {
                true => own_record(profile),
                false => None,
            },
            record,
            inputs,
            now,
        }
    }

    /// The cache files, those of the system's daemon first.
    pub fn files(&self) -> &[CacheFile] {
        &self.files
    }

    /// Why a cache could not be looked at, such as the system's by an ordinary user, and whose it is.
    pub fn errors(&self) -> &[(Owner, Error)] {
        &self.errors
    }

    /// What libvirt's own rule says of a file.
    pub fn rule(&self, file: &CacheFile) -> Rule {
        match file.recorded() {
            Ok(recorded) => self.now.judge(&self.root, self.kind, recorded),
            Err(error) => Rule::Unknown(error.to_owned()),
        }
    }

    /// What modstamp says of a file: whether all that the last refresh saw is as it was, and the file from after that.
    pub fn verdict(&self, file: &CacheFile) -> Verdict {
        let record = match (&self.own, file.owner()) {
            (Some(own), Owner::User) => Some(own),
            _ => self.record.as_ref(),
        };
        Record::judge(record, file, &self.inputs)
    }

    /// Removes the files whose verdict is stale, or `all` of them; with `dry_run` only says which. Returns those, and what
    /// could not be removed. A link is never followed, and a file of another user's left alone.
    pub fn evict(&self, all: bool, dry_run: bool) -> (Vec<&CacheFile>, Vec<Error>) {
        let is_wanted = |file: &&CacheFile| all || !self.verdict(file).is_fresh();
        let (mut removed, mut errors) = (Vec::new(), Vec::new());
        for file in self.files.iter().filter(is_wanted) {
            match file.remove(dry_run) {
                Ok(()) => removed.push(file),
                Err(error) => errors.push(error),
            }
        }
        (removed, errors)
    }

    /// Removes what is stale from the cache of one owner alone. Returns that, and whether it was all.
    fn evict_of(mut self, owner: Owner, warnings: &mut Vec<String>) -> (Vec<PathBuf>, bool) {
        self.files.retain(|file| file.owner() == owner);
        self.errors.retain(|(whose, _)| *whose == owner);
        let (removed, errors) = self.evict(false, false);
        let is_all = errors.is_empty() && self.errors.is_empty();
        let errors = errors
            .iter()
            .chain(self.errors.iter().map(|(_, error)| error));
        warnings.extend(errors.map(Error::to_string));
        (removed.iter().map(|file| file.path()).collect(), is_all)
    }
}

/// The record that an ordinary user has in the directory of the own stamp.
fn own_record(profile: &Profile) -> Option<Record> {
    let stamp = Stamp::own(profile.root(), profile.name()).ok()?;
    (stamp.owner() == Owner::User).then(|| Record::read(&stamp))?
}

/// The running daemons that may hold an older answer in memory, a sentence each: all for root, for everybody else their own.
pub fn daemons(root: &Root) -> Vec<String> {
    if !root.is_system() {
        return Vec::new();
    }
    let me = rustix::process::geteuid();
    // Those of a container, or of another root directory, have other programs.
    let place = |path: &Path| {
        let stat = rustix::fs::stat(path).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let here = place(Path::new("/"));
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let daemon = |process: std::fs::DirEntry| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        let name = name.trim_end();
        installation::DAEMONS.contains(&name).then_some(())?;
        (place(&process.path().join("root")) == here).then_some(())?;
        let user = std::os::unix::fs::MetadataExt::uid(&process.metadata().ok()?);
        (me.is_root() || me.as_raw() == user).then_some(())?;
        Some(format!(
            "{name} of user {user}, process {pid}, may hold an older answer in memory; restart it, which leaves guests running"
        ))
    };
    processes.filter_map(daemon).collect()
}
