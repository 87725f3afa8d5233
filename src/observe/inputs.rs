//! A profile's inputs as they are now: one look at them, by stat alone.
//!
//! Contents are read later, and only if a verdict needs them or a witness stores them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::root::Root;
use crate::ground::error::Result;
use crate::ground::time::Mtime;
use crate::observe::completion::complete;
use crate::observe::content::Content;
use crate::observe::directory::DirectoryState;
use crate::observe::entry::Entry;
use crate::observe::input::Input;
use crate::observe::linked::linked;
use crate::observe::modules::module_directories;
#[cfg(feature = "libraries")]
use crate::observe::needs::Question;
use crate::observe::observation::Observation;
use crate::observe::pattern::Glob;
use crate::observe::profile::Profile;
use crate::observe::reader::Reader;
use crate::observe::search::matches;
use crate::observe::stamps::Stamps;
use crate::observe::tick::Tick;
use crate::observe::walk::{Note, Walk};
use crate::stamp::stamp::Owner;

/// A profile's inputs as they are now. Judge any number of witnesses by one look at them.
#[derive(Debug, Clone)]
pub struct Inputs {
    observation: Observation,
    /// Paths that the caller may not enter.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    shut: Vec<PathBuf>,
    /// The own files of the programs that links lead to.
    linked: Vec<Glob>,
    /// The profile of a look at all programs, and the absolute paths of module directories and
    /// further files that it searched for. `None` if one program counts, or if no path depends on
    /// the programs.
    whole: Option<Arc<(Profile, Vec<Glob>)>>,
    /// Reads in the profile's root directory.
    reader: Reader,
    /// Reads commands, which the caller's own root directory holds.
    command_reader: Reader,
    /// What the profile asks of the loader; `None` if it does not ask for libraries.
    #[cfg(feature = "libraries")]
    question: Option<Question>,
    /// The tick of the inputs' own times.
    tick: Tick,
    /// The tick of all times: of the stamps', too.
    whole_tick: Tick,
}

/// Selects the contents that a read reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// All.
    All,
    /// Those of modules and files whose stat identity is no evidence. Programs and libraries are
    /// large, and are not read. This is for a caller that has no time to read all. If something
    /// that was not read is touched later, the verdict on it is "not known".
    Doubtful,
}

impl Profile {
    /// Looks at all inputs: one walk over module directories, programs and files, by stat alone.
    ///
    /// Judge any number of stored witnesses by it, with [`Witness::judge`](crate::Witness::judge).
    ///
    /// A second thread helps with a directory of more than 4,096 files. The thread inherits the
    /// caller's priority, rights and blocked signals, and ends before the call returns.
    ///
    /// # Errors
    /// If the profile names nothing to watch, or if the system is out of descriptors or memory. An
    /// unreadable input is no error, but a finding.
    pub fn inputs(&self) -> Result<Inputs> {
        self.refuse_empty(self.name())?;
        Inputs::of(self, None)
    }
}

impl Depth {
    fn wants(self, input: Input, entry: &Entry) -> bool {
        match (self, input) {
            (Depth::All, _) => true,
            // Only a directory's ACL is read.
            _ if entry.file_type().is_dir() => true,
            (Depth::Doubtful, Input::Program | Input::Command | Input::Library) => false,
            (Depth::Doubtful, _) => entry.identity.evidence().is_none(),
        }
    }
}

impl Inputs {
    /// Like [`Profile::inputs`]. An older observation spares work wherever nothing changed.
    pub(crate) fn of(profile: &Profile, older: Option<&Observation>) -> Result<Inputs> {
        Inputs::by(Walk::new(profile.root(), older), profile).map(|(inputs, _)| inputs)
    }

    /// Like [`Inputs::of`]. Also returns every path that the look depends on, but the stamps.
    pub(crate) fn with_notes(
        profile: &Profile,
        older: Option<&Observation>,
    ) -> Result<(Inputs, BTreeSet<Note>)> {
        let mut walk = Walk::new(profile.root(), older);
        walk.noted = Some(BTreeSet::new());
        Inputs::by(walk, profile)
    }

    fn by<'a>(mut walk: Walk<'a>, profile: &'a Profile) -> Result<(Inputs, BTreeSet<Note>)> {
        // The stamps first. If one is touched during the walk, the observation has its old time,
        // and even a check of the stamps alone is then stale.
        let stamps = Stamps::of(profile);
        let mut globs = profile.program_globs();
        let programs = match &profile.program {
            None => matches(&mut walk, &profile.programs, &[], []),
            Some(program) => matches(&mut walk, &[], &[], [program.as_path()]),
        };
        let linked = match globs.is_empty() {
            true => Vec::new(),
            false => linked(profile.root(), &programs.entries),
        };
        globs.extend_from_slice(&linked);
        let is_whole = profile.program.is_none() && !globs.is_empty();
        let whole = is_whole.then(|| Arc::new((profile.clone(), profile.named_paths(&globs))));
        let mut files = matches(&mut walk, &profile.files, &globs, profile.added_files());
        let mut directories = [programs.directories, files.directories].concat();
        let mut searched = [programs.searched, files.searched].concat();
        let mut manifests = Vec::new();
        for manifest in &profile.manifests {
            let matched = matches(&mut walk, &manifest.files, &globs, []);
            let names = matched.entries.iter().map(|entry| &entry.name);
            let paths = names.chain(&matched.directories).cloned();
            manifests.extend(paths.map(|path| (path, manifest.place.clone())));
            files.entries.extend(matched.entries);
            directories.extend(matched.directories);
            searched.extend(matched.searched);
        }
        let found = module_directories(&mut walk, profile, &globs, directories);
        files.entries.extend(found.files);
        files.entries.sort_by(|a, b| a.name.cmp(&b.name));
        files.entries.dedup_by(|a, b| a.name == b.name);
        #[cfg_attr(not(feature = "libraries"), allow(unused_mut))]
        let mut observation = Observation {
            profile: profile.name().to_owned(),
            scope: profile.scope,
            tag: profile.tag.clone(),
            program: profile.program.clone(),
            items: profile.items(),
            stamps,
            variables: profile.variable_facts(),
            host: profile.host_facts(walk.older.map(|older| &older.host)),
            directories: found.directories,
            programs: programs.entries,
            files: files.entries,
            commands: Vec::new(),
            libraries: None,
            searched,
        };
        #[cfg(feature = "libraries")]
        let question = profile
            .counts_libraries()
            .then(|| Question::new(profile.libraries, manifests, &observation));
        #[cfg(feature = "libraries")]
        if let Some(question) = &question {
            let libraries = question.libraries(&mut walk, &observation);
            for looked in &libraries.looked {
                walk.note_names(&looked.path);
            }
            for library in &libraries.entries {
                walk.note(&library.name);
            }
            observation.libraries = Some(libraries);
        }
        let mut whole_tick = walk.evidence.tick;
        for stamp in [stamps.system, stamps.user] {
            stamp
                .mtime()
                .into_iter()
                .for_each(|mtime| whole_tick.see(mtime));
        }
        let inputs = Inputs {
            reader: Reader::new(profile.root()),
            command_reader: Reader::new(profile.root()),
            #[cfg(feature = "libraries")]
            question,
            tick: walk.evidence.tick,
            whole_tick,
            shut: walk.shut,
            linked,
            whole,
            observation,
        };
        Ok((inputs, walk.noted.unwrap_or_default()))
    }

    /// Like [`Inputs::of`], for a caller that will keep the result, but cannot wait for long.
    ///
    /// If a change was recent, the function looks again some milliseconds later. Most changes after
    /// that second look then leave another stat identity.
    pub(crate) fn soon_after_changes(
        profile: &Profile,
        older: Option<&Observation>,
    ) -> Result<Inputs> {
        let inputs = Inputs::of(profile, older)?;
        match inputs.tick.wait_if_short() {
            true => Inputs::of(profile, older),
            false => Ok(inputs),
        }
    }

    /// These inputs, as a witness of one program needs them: the other programs do not count, and
    /// neither do their libraries. `then` is that witness's observation.
    ///
    /// If `{program}` stands for other paths now, only a look of its own can tell what counts.
    pub(crate) fn narrowed_to(&self, then: &Observation) -> Cow<'_, Inputs> {
        let (Some(program), None) = (&then.program, &self.observation.program) else {
            return Cow::Borrowed(self);
        };
        if let Some(whole) = &self.whole {
            let (profile, paths) = &**whole;
            let profile = profile.clone().of_program(program);
            let own_paths = profile.named_paths(&profile.program_globs());
            let is_same = own_paths.iter().all(|path| paths.contains(path))
                && paths.iter().all(|path| own_paths.contains(path));
            if !is_same {
                if let Ok(own) = Inputs::of(&profile, Some(then)) {
                    return Cow::Owned(own.with_commands_of(self));
                }
            }
        }
        let mut narrowed = self.clone();
        narrowed.observation.program = Some(program.clone());
        let programs = &mut narrowed.observation.programs;
        programs.retain(|entry| entry.name == *program);
        narrowed.narrow_libraries(then);
        Cow::Owned(narrowed)
    }

    /// These inputs, with the commands of a look that had them.
    fn with_commands_of(mut self, other: &Inputs) -> Inputs {
        let commands = &other.observation.commands;
        self.observation.commands.clone_from(commands);
        self.command_reader = other.command_reader.clone();
        self.tick = self.tick.or_later(other.tick);
        self.whole_tick = self.whole_tick.or_later(other.whole_tick);
        self
    }

    #[cfg(not(feature = "libraries"))]
    fn narrow_libraries(&mut self, _: &Observation) {}

    #[cfg(feature = "libraries")]
    fn narrow_libraries(&mut self, then: &Observation) {
        let Some(question) = &self.question else {
            return;
        };
        let mut walk = Walk::new(&self.reader.root, Some(then));
        let libraries = question.libraries(&mut walk, &self.observation);
        let tick = walk.evidence.tick;
        self.observation.libraries = Some(libraries);
        self.tick = self.tick.or_later(tick);
        self.whole_tick = self.whole_tick.or_later(tick);
    }

    /// Turns these inputs of the profile `own` into those of the profile `other`. `None` if `other`
    /// looks elsewhere.
    #[cfg(feature = "cli")]
    pub(crate) fn as_of(&self, own: &Profile, other: &Profile) -> Option<Inputs> {
        let paths = other.named_paths(&other.program_globs());
        let is_same = paths == own.named_paths(&own.program_globs())
            && own.excluded_names() == other.excluded_names()
            && own.program == other.program
            && own.named_programs().eq(other.named_programs())
            // `LD_LIBRARY_PATH` may lead elsewhere.
            && !own.counts_libraries()
            && !other.counts_libraries();
        is_same.then_some(())?;
        let mut inputs = self.clone();
        inputs.observation.scope = other.scope;
        inputs.observation.items = other.items();
        inputs.observation.variables = other.variable_facts();
        inputs.observation.host = other.host_facts(Some(&self.observation.host));
        let whole = inputs.whole.as_deref();
        inputs.whole = whole.map(|(_, paths)| Arc::new((other.clone(), paths.clone())));
        Some(inputs)
    }

    /// These inputs and one more: the command, which is outside the root directory.
    ///
    /// # Errors
    /// Like [`Root::system`].
    pub(crate) fn with_command(mut self, path: &Path) -> Result<Inputs> {
        let mut programs = self.observation.programs.iter();
        if self.root().is_system() && programs.any(|entry| entry.name == path) {
            return Ok(self);
        }
        let root = Root::system()?;
        let mut walk = Walk::new(&root, None);
        let missing = || Entry::unreadable(path.to_owned(), FileType::RegularFile, Errno::NOENT);
        let entry = walk.entry(path).unwrap_or_else(missing);
        self.observation.commands.push(entry);
        self.tick = self.tick.or_later(walk.evidence.tick);
        self.whole_tick = self.whole_tick.or_later(walk.evidence.tick);
        self.command_reader = Reader::new(&root);
        Ok(self)
    }

    /// These inputs, but with a stamp as our own touch left it.
    pub(crate) fn with_stamp(mut self, owner: Owner, mtime: Mtime) -> Inputs {
        self.observation = self.observation.with_stamp(owner, mtime);
        self
    }

    /// The own files of the programs that links lead to.
    pub(crate) fn linked(&self) -> &[Glob] {
        &self.linked
    }

    /// What the look saw.
    pub(crate) fn observation(&self) -> &Observation {
        &self.observation
    }

    /// The paths that the caller may not enter. Inputs may be there for others.
    #[cfg(feature = "cli")]
    pub(crate) fn shut(&self) -> &[PathBuf] {
        &self.shut
    }

    /// The profile's root directory.
    pub(crate) fn root(&self) -> &Root {
        &self.reader.root
    }

    /// Waits until a new change gets a time that this look did not see. Returns whether the look
    /// was racy.
    pub(crate) fn wait_if_racy(&self) -> bool {
        self.whole_tick.wait();
        self.whole_tick.is_racy()
    }

    /// Whether a later change can still get a time that this look saw.
    #[cfg(feature = "libvirt")]
    pub(crate) fn is_racy(&self) -> bool {
        self.whole_tick.is_racy()
    }

    /// Like [`Inputs::wait_if_racy`], but only if that takes some milliseconds. Returns whether it
    /// waited.
    #[cfg(feature = "libvirt")]
    pub(crate) fn wait_if_short(&self) -> bool {
        self.whole_tick.wait_if_short()
    }

    /// The content of an entry of this look, which is at `path`. Later calls get it from memory.
    pub(crate) fn content(&self, input: Input, entry: &Entry, path: PathBuf) -> Content {
        self.reader(input).content(entry, path)
    }

    fn reader(&self, input: Input) -> &Reader {
        match input {
            Input::Command => &self.command_reader,
            _ => &self.reader,
        }
    }

    /// A completed observation, with the contents that `depth` asks for.
    ///
    /// A content is taken from a `known` observation if stat proves that it is still the same. It
    /// takes the inputs, so that 100,000 entries are in memory once. Clone them to keep them.
    pub(crate) fn read(mut self, depth: Depth, known: &[&Observation]) -> Observation {
        if depth == Depth::All {
            self.whole_tick.wait();
        }
        let now = std::mem::take(&mut self.observation);
        // Without a wait, a later change can leave an identity that this look saw.
        let is_early = depth == Depth::Doubtful && self.tick.is_racy();
        let is_wanted = |input, entry: &Entry| depth.wants(input, entry);
        complete(now, known, is_early, is_wanted, |input, entry, path| {
            let reader = self.reader(input);
            match (reader.known(&path), depth) {
                (Some(content), _) => content,
                (None, _) if !depth.wants(input, entry) => Content::Unread,
                (None, Depth::All) => reader.read(entry.file_type(), &path),
                // These are few. A refresh of libvirt asks for them again, so remember them.
                (None, Depth::Doubtful) => reader.content(entry, path),
            }
        })
    }

    /// The module directories that exist, each with the names of its modules below it.
    pub fn module_directories(&self) -> impl Iterator<Item = (&Path, Vec<&Path>)> {
        let directories = self.observation.directories.iter();
        let by_own_name =
            directories.filter(|found| !matches!(found.state, DirectoryState::Alias(_)));
        by_own_name.map(|directory| {
            let modules = directory.entries().iter();
            let modules = modules.filter(|entry| !entry.file_type().is_dir());
            let names = modules.map(|entry| entry.name.as_path()).collect();
            (directory.name.as_path(), names)
        })
    }

    /// The programs that exist.
    pub fn programs(&self) -> impl Iterator<Item = &Path> {
        let programs = self.observation.programs.iter();
        programs.map(|entry| entry.name.as_path())
    }

    /// The shared libraries that exist, if the profile asks for them.
    pub fn libraries(&self) -> impl Iterator<Item = &Path> {
        let libraries = self.observation.libraries().iter();
        libraries.map(|entry| entry.name.as_path())
    }

    /// The names of shared libraries that are needed, and that the loader finds nowhere.
    pub fn missing_libraries(&self) -> impl Iterator<Item = &Path> {
        let libraries = self.observation.libraries.iter();
        libraries.flat_map(|it| it.missing.iter().map(PathBuf::as_path))
    }

    /// The further files that exist.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let files = self.observation.files.iter();
        files.map(|entry| entry.name.as_path())
    }
}
