//! The inputs as they are now: stamps, variables, module directories, programs and further files.
//!
//! One walk, by stat alone. Contents are read only when a verdict needs them, and once for all verdicts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::root::Root;
use crate::ground::error::Result;
use crate::ground::time::Mtime;
use crate::judge::reason::{Input, Subject};
use crate::judge::witness::Witness;
use crate::observe::entry::{Content, Entry};
use crate::observe::profile::Profile;
use crate::observe::tick::Tick;
use crate::observe::walk::Walk;
use crate::stamp::stamp::Owner;

/// What a profile's inputs are now.
#[derive(Debug, Clone)]
pub struct Inputs {
    pub(crate) root: Root,
    /// The root that commands are looked up in: that of who asks.
    pub(crate) command_root: Root,
    pub(crate) observation: Observation,
    /// Of the latest times that were seen.
    tick: Tick,
}

/// What was observed of the inputs: at one time, in a witness, or now.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) profile: String,
    pub(crate) stamps: Stamps,
    pub(crate) variables: Vec<(String, Option<OsString>)>,
    pub(crate) directories: Vec<Directory>,
    pub(crate) programs: Vec<Entry>,
    pub(crate) files: Vec<Entry>,
    /// Patterns that programs and files were searched by, each with its directory's fingerprint, which shows that the
    /// same names are in it.
    pub(crate) searched: Vec<(PathBuf, u64)>,
    /// The program whose output is cached, by its path outside the root directory.
    pub(crate) commands: Vec<Entry>,
}

impl Observation {
    /// The module directory of that name.
    pub(crate) fn directory(&self, name: &Path) -> Option<&Directory> {
        let by_name = |directory: &Directory| directory.entry.name.as_path().cmp(name);
        let index = self.directories.binary_search_by(by_name).ok()?;
        Some(&self.directories[index])
    }

    /// What a reason is about; `None` where it was not there.
    pub(crate) fn entry(&self, subject: &Subject) -> Option<&Entry> {
        let named = |entries: &[Entry], name: &Path| {
            let index = entries.binary_search_by(|entry| entry.name.as_path().cmp(name));
            index.ok()
        };
        let among = |entries: &'_ [Entry]| named(entries, &subject.path);
        match subject.input {
            Input::ModuleDirectory => self.directory(&subject.path).map(|found| &found.entry),
            Input::Module => self.directories.iter().find_map(|directory| {
                let name = subject.path.strip_prefix(&directory.entry.name).ok()?;
                Some(&directory.modules[named(&directory.modules, name)?])
            }),
            Input::Program => among(&self.programs).map(|at| &self.programs[at]),
            Input::File => among(&self.files).map(|at| &self.files[at]),
            Input::Command => among(&self.commands).map(|at| &self.commands[at]),
        }
    }

    /// Every module, program, file and command, in that order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let modules = self
            .directories
            .iter()
            .flat_map(|directory| directory.modules.iter());
        modules
            .chain(&self.programs)
            .chain(&self.files)
            .chain(&self.commands)
    }
}

/// Which contents a read reads.
#[allow(dead_code)] // Its callers come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All.
    All,
    /// Those of modules and files for which stat is no evidence. No programs, which are large: for a caller that may not take
    /// the time. What then has another stat identity later is not known.
    Doubtful,
}

/// Both stamps as they were seen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stamps {
    pub(crate) system: StampState,
    pub(crate) user: StampState,
}

/// A stamp as it was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum StampState {
    #[default]
    Absent,
    At(Mtime),
    Unreadable,
}

/// A module directory and all that is in it, sorted by name.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    /// The fingerprint of it is the sum of those of all in it.
    pub(crate) entry: Entry,
    /// The fingerprint of its own stat identity, which moves with every name that comes or goes. No verdict looks at it:
    /// it moves with a redeploy, too.
    pub(crate) own_fingerprint: u64,
    /// Shared with the witness that it was found to be equal to.
    pub(crate) modules: Arc<Vec<Entry>>,
}

impl Profile {
    /// What the inputs are now: one walk over the module directories, programs and files, by stat alone.
    ///
    /// Judge any number of stored witnesses against it, with [`Witness::judge`].
    ///
    /// # Errors
    /// If the profile names nothing to watch, or if the system is out of descriptors or memory. An input that cannot be
    /// read is no error, but part of the result.
    pub fn inputs(&self) -> Result<Inputs> {
        self.refuse_empty(self.name())?;
        Inputs::of(self, None)
    }
}

impl Inputs {
    /// Looks at all inputs. What an `older` witness has spares a search where nothing can have changed.
    pub(crate) fn of(profile: &Profile, older: Option<&Observation>) -> Result<Inputs> {
        // The stamps first: what is stamped while the rest is looked at does not look seen, also to a check by them alone.
        let stamps = Stamps::of(profile);
        let mut walk = Walk::new(profile.root(), older);
        for state in [stamps.system, stamps.user] {
            if let StampState::At(mtime) = state {
                walk.evidence.tick.see(mtime);
            }
        }
        let variables = profile.variables();
        let directories = walk.directories(profile);
        let programs = walk.globs(&profile.programs);
        let files = walk.globs(&profile.files);
        Ok(Inputs {
            root: profile.root().clone(),
            command_root: profile.root().clone(),
            tick: walk.evidence.tick,
            observation: Observation {
                profile: profile.name().to_owned(),
                stamps,
                variables,
                directories,
                programs,
                files,
                searched: walk.searched,
                commands: Vec::new(),
            },
        })
    }

    /// Adds a program that is watched outside the root directory: the one whose output is cached.
    pub(crate) fn add_command(&mut self, path: &Path) -> Result<()> {
        if self.root.is_system()
            && self
                .observation
                .programs
                .iter()
                .any(|entry| entry.name == path)
        {
            return Ok(());
        }
        let root = Root::system()?;
        let mut walk = Walk::new(&root, None);
        let entry = walk.entry(path).unwrap_or_else(|| {
            Entry::unreadable(path.to_owned(), FileType::RegularFile, Errno::NOENT)
        });
        self.observation.commands.push(entry);
        self.tick = self.tick.or_later(walk.evidence.tick);
        self.command_root = root;
        Ok(())
    }

    #[allow(dead_code)] // Its callers come next.
    /// A completed observation: each content is taken from a `known` observation, if by stat it is still the same there,
    /// or else read as far as `depth` says.
    pub(crate) fn read(&self, depth: Depth, known: &[&Observation]) -> Observation {
        known.iter().for_each(|known| self.trust(known));
        match depth {
            Depth::All => self.witness().observation,
            Depth::Doubtful => self.outline().observation,
        }
    }

    /// Makes it look as if a stamp had been seen after a touch.
    pub(crate) fn stamped(&mut self, owner: Owner, mtime: Mtime) {
        *self.observation.stamps.of_mut(owner) = StampState::At(mtime);
    }

    /// Looks at the stamps alone anew.
    #[cfg(feature = "libvirt")]
    pub(crate) fn look_at_stamps(&mut self, profile: &Profile) {
        self.observation.stamps = Stamps::of(profile);
    }

    /// Waits, where something was changed so shortly before it was looked at that a later change could not be told from
    /// it; says whether it was.
    pub(crate) fn wait_if_racy(&self) -> bool {
        self.tick.wait();
        self.tick.is_racy()
    }

    /// All of it with the contents, as a witness. See [`Profile::observe`].
    pub fn witness(&self) -> Witness {
        self.tick.wait();
        self.read_contents(|_| true);
        for entry in &self.observation.programs {
            entry.content(&self.root, || entry.name.clone());
        }
        for entry in &self.observation.commands {
            entry.content(&self.command_root, || entry.name.clone());
        }
        self.seen()
    }

    /// The same with the contents of just those modules and files for which stat is no evidence, and of no programs, which
    /// are large: for who may not take the time. What then has another stat identity is "not known".
    pub(crate) fn outline(&self) -> Witness {
        self.read_contents(|entry| !entry.is_evidence);
        self.seen()
    }

    /// Reads modules and further files.
    fn read_contents(&self, is_wanted: impl Fn(&Entry) -> bool) {
        for file in self.observation.files.iter().filter(|file| is_wanted(file)) {
            file.content(&self.root, || file.name.clone());
        }
        for directory in &self.observation.directories {
            for module in directory.modules.iter().filter(|module| is_wanted(module)) {
                module.content(&self.root, || directory.entry.name.join(&module.name));
            }
        }
    }

    /// What was seen and read so far, as a witness.
    fn seen(&self) -> Witness {
        let mut observation = self.observation.clone();
        for directory in &mut observation.directories {
            // By the sum nobody would look at it again.
            let is_unreadable = directory.modules.iter().any(Entry::is_unreadable);
            directory.entry.is_evidence &= !is_unreadable;
        }
        Witness { observation }
    }

    /// Takes over from an older witness the contents of what, by its stat identity, is still the same, so that
    /// [`Inputs::witness`] reads only the rest.
    pub(crate) fn trust(&self, older: &Observation) {
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
        for now in &self.observation.directories {
            let then = older.directory(&now.entry.name);
            if let Some(then) = then.filter(|then| !now.has_the_same_modules(then)) {
                trust(&now.modules, &then.modules);
            }
        }
        trust(&self.observation.programs, &older.programs);
        trust(&self.observation.files, &older.files);
        trust(&self.observation.commands, &older.commands);
    }

    /// The module directories that were found, each with the names of its modules below it.
    pub fn module_directories(&self) -> impl Iterator<Item = (&Path, Vec<&Path>)> {
        let directories = self.observation.directories.iter();
        directories
            .filter(|directory| !directory.is_alias())
            .map(|directory| {
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
        self.observation
            .programs
            .iter()
            .map(|entry| entry.name.as_path())
    }

    /// The further files that were found.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.observation
            .files
            .iter()
            .map(|entry| entry.name.as_path())
    }
}

impl Directory {
    /// Whether it is another name of one that is there already.
    pub(crate) fn is_alias(&self) -> bool {
        matches!(self.entry.content.get(), Some(Content::Digest(_)))
    }

    /// Whether stat alone shows that all in it is the same.
    pub(crate) fn has_the_same_modules(&self, other: &Directory) -> bool {
        Arc::ptr_eq(&self.modules, &other.modules)
    }
}

/// Whether stat alone shows that two entries are the same. What could not be read never is: who asks now may be allowed to.
pub(crate) fn is_same(then: &Entry, now: &Entry) -> bool {
    let is_evidence = then.is_evidence && now.is_evidence && !then.is_unreadable();
    is_evidence && then.fingerprint == now.fingerprint
}

impl Stamps {
    /// A user without a home is as good as one without a stamp.
    pub(crate) fn of(profile: &Profile) -> Stamps {
        let mut stamps = Stamps::default();
        for stamp in profile.stamps() {
            *stamps.of_mut(stamp.owner()) = match stamp.mtime() {
                Ok(None) => StampState::Absent,
                Ok(Some(mtime)) => StampState::At(mtime),
                Err(_) => StampState::Unreadable,
            };
        }
        stamps
    }

    pub(crate) fn of_mut(&mut self, owner: Owner) -> &mut StampState {
        match owner {
            Owner::System => &mut self.system,
            Owner::User => &mut self.user,
        }
    }
}
