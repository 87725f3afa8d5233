//! The inputs as they are now: stamps, variables, module directories, programs and further files.
//!
//! One walk, by stat alone. Contents are read only when a verdict needs them, and once for all verdicts.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;

use crate::entry::{Content, Entry, see};
use crate::evidence::Evidence;
use crate::profile::{Glob, Source};
use crate::root::{Steps, for_each_name};
use crate::{Mtime, Owner, Profile, Result, Root, Witness};

/// Directories below a module directory are walked so far down and no further.
const MOST_LEVELS: usize = 32;

/// What a profile's inputs are now.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub(crate) root: Root,
    pub(crate) observed: Observed,
}

/// What was observed of the inputs: at one time, in a witness, or now.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) profile: String,
    pub(crate) stamps: Vec<(Owner, StampState)>,
    pub(crate) variables: Vec<(String, Option<OsString>)>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) programs: Vec<Entry>,
    pub(crate) files: Vec<Entry>,
    /// The program whose output is cached, outside the root directory.
    pub(crate) commands: Vec<Entry>,
}

impl Observed {
    /// Every module, program, file and command, in that order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let modules = self
            .directories
            .iter()
            .flat_map(|directory| &directory.modules);
        modules
            .chain(&self.programs)
            .chain(&self.files)
            .chain(&self.commands)
    }
}

/// A stamp as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StampState {
    Absent,
    At(Mtime),
    Unreadable,
}

/// A module directory and all that is in it, sorted by name.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) entry: Entry,
    pub(crate) modules: Vec<Entry>,
}

impl Inputs {
    pub(crate) fn of(profile: &Profile) -> Result<Inputs> {
        // The stamps first: a change that is made and stamped while the rest is looked at must not look seen.
        let stamps = stamps(profile);
        let mut walk = Walk {
            root: profile.root(),
            evidence: Evidence::now(),
        };
        let variables = profile.variables();
        let directories = walk.directories(profile);
        let programs = walk.globs(&profile.programs);
        let files = walk.globs(&profile.files);
        Ok(Inputs {
            root: profile.root().clone(),
            observed: Observed {
                profile: profile.name().to_owned(),
                stamps,
                variables,
                directories,
                programs,
                files,
                commands: Vec::new(),
            },
        })
    }

    /// Adds a program that is watched outside the root directory: the one whose output is cached.
    pub(crate) fn add_command(&mut self, path: &Path) -> Result<()> {
        if self.root.is_system()
            && self
                .observed
                .programs
                .iter()
                .any(|entry| entry.name == path)
        {
            return Ok(());
        }
        let root = Root::system()?;
        let mut walk = Walk {
            root: &root,
            evidence: Evidence::now(),
        };
        self.observed.commands.extend(walk.entry(path));
        Ok(())
    }

    /// All of it with the contents, as a witness. See [`Profile::observe`].
    pub fn witness(&self) -> Witness {
        self.wait_for_stamps();
        for directory in &self.observed.directories {
            for module in &directory.modules {
                module.content(&self.root, || directory.entry.name.join(&module.name));
            }
        }
        for entry in self.observed.programs.iter().chain(&self.observed.files) {
            entry.content(&self.root, || entry.name.clone());
        }
        if let (false, Ok(root)) = (self.observed.commands.is_empty(), Root::system()) {
            for entry in &self.observed.commands {
                entry.content(&root, || entry.name.clone());
            }
        }
        Witness {
            observed: self.observed.clone(),
        }
    }

    /// Takes over from an older witness the contents of what, by its stat identity, is still the same, so that
    /// [`Inputs::witness`] reads only the rest.
    pub fn trust(&self, older: &Witness) {
        let older = &older.observed;
        let trust = |now: &[Entry], then: &[Entry]| {
            for entry in now {
                let same = then.binary_search_by(|then| then.name.cmp(&entry.name));
                let Ok(same) = same.map(|index| &then[index]) else {
                    continue;
                };
                if let (true, Some(content)) = (is_same(same, entry), same.content.get()) {
                    let _ = entry.content.set(*content);
                }
            }
        };
        for now in &self.observed.directories {
            let then = older
                .directories
                .iter()
                .find(|then| then.entry.name == now.entry.name);
            if let Some(then) = then {
                trust(&now.modules, &then.modules);
            }
        }
        trust(&self.observed.programs, &older.programs);
        trust(&self.observed.files, &older.files);
        trust(&self.observed.commands, &older.commands);
    }

    /// The module directories that were found, each with the names of its modules below it.
    pub fn module_directories(&self) -> impl Iterator<Item = (&Path, Vec<&Path>)> {
        self.observed.directories.iter().map(|directory| {
            let modules = directory
                .modules
                .iter()
                .filter(|entry| !entry.file_type().is_dir());
            let names = modules.map(|entry| entry.name.as_path()).collect();
            (directory.entry.name.as_path(), names)
        })
    }

    /// The programs that were found.
    pub fn programs(&self) -> impl Iterator<Item = &Path> {
        self.observed
            .programs
            .iter()
            .map(|entry| entry.name.as_path())
    }

    /// The further files that were found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.observed.files.iter().map(|entry| entry.name.as_path())
    }

    /// Waits until a touch by hand could no longer leave the very mtime that was seen.
    fn wait_for_stamps(&self) {
        let at = |(_, state): &(Owner, StampState)| match state {
            StampState::At(mtime) => Some(*mtime),
            _ => None,
        };
        let seen: Vec<Mtime> = self.observed.stamps.iter().filter_map(at).collect();
        // At most two seconds and a tick, also if the clock is set meanwhile.
        for _ in 0..2100 {
            let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse).into();
            if !seen.iter().any(|mtime| could_be_left_at(*mtime, now)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a file that is touched at `now` can get the mtime `mtime`: the time of the clock's last tick, which some file
/// systems cut to 10 ms (exFAT), to a second (ext2, ext3) or to two (FAT).
fn could_be_left_at(mtime: Mtime, now: Mtime) -> bool {
    let tens = |time: Mtime| (time.seconds, time.nanoseconds / 10_000_000);
    match mtime.nanoseconds {
        0 => mtime.seconds == now.seconds || mtime.seconds == now.seconds & !1,
        n if n % 10_000_000 == 0 => tens(mtime) == tens(now),
        _ => mtime == now,
    }
}

/// Whether stat alone shows that two entries are the same.
pub(crate) fn is_same(then: &Entry, now: &Entry) -> bool {
    then.is_evidence && now.is_evidence && then.fingerprint == now.fingerprint
}

fn stamps(profile: &Profile) -> Vec<(Owner, StampState)> {
    let mut stamps: Vec<(Owner, StampState)> = profile
        .stamps()
        .iter()
        .map(|stamp| {
            let state = match stamp.mtime() {
                Ok(None) => StampState::Absent,
                Ok(Some(mtime)) => StampState::At(mtime),
                Err(_) => StampState::Unreadable,
            };
            (stamp.owner(), state)
        })
        .collect();
    if stamps.len() == 1 {
        // No home: as good as a home without a stamp.
        stamps.push((Owner::User, StampState::Absent));
    }
    stamps
}

/// One walk over a root directory.
struct Walk<'a> {
    root: &'a Root,
    evidence: Evidence,
}

impl Walk<'_> {
    fn directories(&mut self, profile: &Profile) -> Vec<Directory> {
        let mut paths = Vec::new();
        for source in &profile.directories {
            match source {
                Source::Glob(glob) => paths.extend(self.root.find(&glob.0)),
                Source::Variable(name) => {
                    let value = std::env::var_os(name).filter(|value| !value.is_empty());
                    paths.extend(value.map(PathBuf::from));
                }
            }
        }
        paths.sort();
        paths.dedup();
        let mut seen = Vec::new();
        let mut directories = Vec::new();
        for path in paths {
            directories.extend(self.directory(path, &mut seen));
        }
        directories
    }

    /// One module directory; `None` where there is none, or where it was seen by another of its names.
    fn directory(&mut self, path: PathBuf, seen: &mut Vec<(u64, u64)>) -> Option<Directory> {
        if !path.is_absolute() {
            // From an environment variable. Where it leads depends on the directory that the program runs in.
            return Some(Directory::unreadable(path, Errno::INVAL));
        }
        let place = self.root.place(&path, Steps::Any).ok()?;
        let stat = rustix::fs::fstat(&place).ok()?;
        if !FileType::from_raw_mode(stat.st_mode).is_dir() {
            return None;
        }
        let identity = (stat.st_dev, stat.st_ino);
        if seen.contains(&identity) {
            return None;
        }
        seen.push(identity);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&place, c".", flags, Mode::empty());
        let mut modules = Vec::new();
        let walked = opened.and_then(|fd| {
            let mut ancestors = vec![identity];
            self.modules(&fd, &path, Path::new(""), &mut ancestors, &mut modules)
        });
        if let Err(errno) = walked {
            return Some(Directory::unreadable(path, errno));
        }
        modules.sort_by(|a, b| a.name.cmp(&b.name));
        Some(Directory {
            entry: Entry {
                name: path,
                mode: stat.st_mode,
                uid: stat.st_uid,
                gid: stat.st_gid,
                size: 0,
                fingerprint: 0,
                is_evidence: false,
                content: OnceLock::from(Content::Nothing),
            },
            modules,
        })
    }

    /// Adds what is in `directory`, which is at `top/below`, and in the directories below it.
    fn modules(
        &mut self,
        directory: &OwnedFd,
        top: &Path,
        below: &Path,
        ancestors: &mut Vec<(u64, u64)>,
        modules: &mut Vec<Entry>,
    ) -> rustix::io::Result<()> {
        let first = modules.len();
        let mut failed = None;
        for_each_name(directory.as_fd(), |name| {
            let parent = directory.as_fd();
            match self.see(parent, name, || top.join(below).join(name)) {
                Ok(Some(entry)) => modules.push(entry),
                Ok(None) => {} // Gone since its name was read.
                Err(errno) => failed = Some(errno),
            }
        })?;
        if let Some(errno) = failed {
            return Err(errno);
        }
        for index in first..modules.len() {
            let name = below.join(&modules[index].name);
            modules[index].name.clone_from(&name);
            if modules[index].file_type().is_dir() || modules[index].file_type().is_symlink() {
                if let Some(errno) = self.below(top, &name, ancestors, modules).err() {
                    modules[index].content =
                        OnceLock::from(Content::Unreadable(errno.raw_os_error()));
                    modules[index].is_evidence = false;
                }
            }
        }
        Ok(())
    }

    /// Adds what is in the directory at `top/name`, if it is one and none that it lies in itself.
    fn below(
        &mut self,
        top: &Path,
        name: &Path,
        ancestors: &mut Vec<(u64, u64)>,
        modules: &mut Vec<Entry>,
    ) -> rustix::io::Result<()> {
        let Ok(place) = self.root.place(&top.join(name), Steps::Any) else {
            return Ok(());
        };
        let stat = rustix::fs::fstat(&place)?;
        let identity = (stat.st_dev, stat.st_ino);
        if !FileType::from_raw_mode(stat.st_mode).is_dir() || ancestors.contains(&identity) {
            return Ok(());
        }
        if ancestors.len() > MOST_LEVELS {
            return Err(Errno::LOOP);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&place, c".", flags, Mode::empty())?;
        ancestors.push(identity);
        let result = self.modules(&directory, top, name, ancestors, modules);
        ancestors.pop();
        result
    }

    fn globs(&mut self, globs: &[Glob]) -> Vec<Entry> {
        let mut paths: Vec<PathBuf> = globs
            .iter()
            .flat_map(|glob| self.root.find(&glob.0))
            .collect();
        paths.sort();
        paths.dedup();
        paths.iter().filter_map(|path| self.entry(path)).collect()
    }

    /// The program or further file at an absolute path.
    fn entry(&mut self, path: &Path) -> Option<Entry> {
        let parent = self.root.place(path.parent()?, Steps::Any).ok()?;
        let entry = self.see(parent.as_fd(), path.file_name()?, || path.to_owned());
        let mut entry = entry.ok()??;
        entry.name = path.to_owned();
        Some(entry)
    }

    /// `name` in `directory`; a link together with what it leads to.
    fn see(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &OsStr,
        path: impl FnOnce() -> PathBuf,
    ) -> rustix::io::Result<Option<Entry>> {
        let Walk { root, evidence } = self;
        see(directory, name, |stat| {
            let of = |evidence: &mut Evidence, stat: &Stat, place: &OwnedFd| {
                evidence.fingerprint(stat, || Some(place.as_fd()))
            };
            if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
                // On an overlay, files are on another device than their directory.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut place = None;
                return evidence.fingerprint(stat, || {
                    place = rustix::fs::openat(directory, name, flags, Mode::empty()).ok();
                    place.as_ref().map(AsFd::as_fd)
                });
            }
            let (link, link_is_evidence) = evidence.fingerprint(stat, || Some(directory));
            let Ok(target) = root.place(&path(), Steps::Any) else {
                return (link, false);
            };
            let Ok(stat) = rustix::fs::fstat(&target) else {
                return (link, false);
            };
            let (target, target_is_evidence) = of(evidence, &stat, &target);
            let both = crate::evidence::hash(&[link, target]);
            (both, link_is_evidence && target_is_evidence)
        })
    }
}

impl Directory {
    fn unreadable(path: PathBuf, errno: Errno) -> Directory {
        Directory {
            entry: Entry {
                name: path,
                mode: FileType::Directory.as_raw_mode(),
                uid: 0,
                gid: 0,
                size: 0,
                fingerprint: 0,
                is_evidence: false,
                content: OnceLock::from(Content::Unreadable(errno.raw_os_error())),
            },
            modules: Vec::new(),
        }
    }
}
