//! The needs for shared libraries, from modules, programs and manifests to all that they load.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::observe::content::TOO_MANY_PLACES;
use crate::observe::elf::Elf;
use crate::observe::entry::Entry;
use crate::observe::evidence::hash;
use crate::observe::fact::Value;
use crate::observe::libraries::{Libraries, Looked};
use crate::observe::library_path::{expanded, run_path};
use crate::observe::loader::{File, Loader, MOST_PLACES, MOST_TEXT, Route};
use crate::observe::manifest::Place;
use crate::observe::manifest_file::ManifestFile;
use crate::observe::observation::Observation;
use crate::observe::profile::SEARCH_PATH;
use crate::observe::walk::Walk;

/// What a profile asks of the loader.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Whether the libraries of modules and programs count.
    pub(crate) counts_all: bool,
    pub(crate) manifests: Vec<ManifestFile>,
    /// The value of LD_LIBRARY_PATH.
    pub(crate) search_path: Option<OsString>,
}

impl Question {
    /// The question of a profile, with the manifests that a look found. Each may be a directory of
    /// manifests.
    pub(crate) fn new(
        counts_all: bool,
        manifests: Vec<(PathBuf, Place)>,
        now: &Observation,
    ) -> Question {
        let files = manifests.into_iter().flat_map(|(path, place)| {
            let (paths, is_found) = match now.modules_at(&path) {
                Some(modules) => {
                    let names = modules.entries.iter().map(|entry| &entry.name);
                    (names.map(|name| path.join(name)).collect(), true)
                }
                None => (vec![path], false),
            };
            let of = move |path| ManifestFile {
                path,
                place: place.clone(),
                is_found,
            };
            paths.into_iter().map(of)
        });
        let mut variables = now.variables.iter();
        let search_path = variables.find(|fact| fact.name == SEARCH_PATH);
        let search_path = search_path.and_then(|fact| match &fact.value {
            Value::Text(text) => Some(text.clone()),
            Value::Absent | Value::Unreadable(_) => None,
        });
        Question {
            counts_all,
            manifests: files.collect(),
            search_path,
        }
    }

    /// Looks for the libraries that the modules, programs and manifests of a look need.
    pub(crate) fn look(&self, walk: &mut Walk<'_>, now: &Observation) -> Libraries {
        self.look_in(MOST_PLACES, walk, now)
    }

    /// Like [`Question::look`], but in at most `most_places` places.
    fn look_in(&self, most_places: usize, walk: &mut Walk<'_>, now: &Observation) -> Libraries {
        let needs = Needs {
            loader: Loader::new(walk, most_places),
            question: self,
            now,
            search_path: Vec::new(),
            roots: BTreeSet::new(),
            entries: BTreeMap::new(),
            missing: BTreeSet::new(),
            no_json: BTreeSet::new(),
            needed_by: BTreeMap::new(),
            links: 0,
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
        };
        needs.run()
    }
}

/// A look for libraries that is under way.
struct Needs<'w, 'a, 'q> {
    loader: Loader<'w, 'a>,
    question: &'q Question,
    now: &'q Observation,
    /// The directories of LD_LIBRARY_PATH.
    search_path: Vec<PathBuf>,
    /// The modules and programs. An observation lists them elsewhere, not among the libraries.
    roots: BTreeSet<PathBuf>,
    entries: BTreeMap<PathBuf, Entry>,
    missing: BTreeSet<PathBuf>,
    no_json: BTreeSet<PathBuf>,
    needed_by: BTreeMap<PathBuf, PathBuf>,
    links: u64,
    /// Files whose needs are to be looked up.
    queue: VecDeque<Loaded>,
    queued: BTreeSet<(PathBuf, Rc<Context>)>,
}

/// The settings that a file inherits from the files that load it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Context {
    /// The directories of their DT_RPATH.
    rpath: Vec<PathBuf>,
    /// Whether the program runs with another user's rights, so that no variable counts.
    is_secure: bool,
}

/// A file that the loader loads.
struct Loaded {
    path: PathBuf,
    /// `$ORIGIN`.
    origin: PathBuf,
    elf: Rc<Elf>,
    context: Rc<Context>,
}

impl Needs<'_, '_, '_> {
    fn run(mut self) -> Libraries {
        self.take_search_path();
        let contexts = self.programs();
        if self.question.counts_all {
            self.modules(&contexts);
        }
        self.manifests(&contexts);
        while let Some(loaded) = self.queue.pop_front() {
            if self.loader.places_left == 0 {
                break;
            }
            self.needs_of(&loaded);
        }
        if self.loader.places_left == 0 {
            let all = PathBuf::from("/");
            let entry = Entry::unreadable(all.clone(), FileType::Directory, TOO_MANY_PLACES);
            self.entries.insert(all, entry);
        }
        self.entries.append(&mut self.loader.unreadable);
        let looked = self.loader.looked.into_iter();
        Libraries {
            entries: self.entries.into_values().collect(),
            missing: self.missing.into_iter().collect(),
            no_json: self.no_json.into_iter().collect(),
            needed_by: self.needed_by,
            links: self.links,
            looked: looked
                .map(|(path, identity)| Looked { path, identity })
                .collect(),
        }
    }

    /// Takes LD_LIBRARY_PATH. An empty item stands for the working directory, and does not count.
    /// Any other relative path counts as unreadable, because its target is not known.
    fn take_search_path(&mut self) {
        let text = self.question.search_path.clone().unwrap_or_default();
        let items = text.as_bytes().split(|byte| matches!(byte, b':' | b';'));
        for item in items.filter(|item| !item.is_empty()) {
            let path = PathBuf::from(OsStr::from_bytes(item));
            if path.is_absolute() {
                self.search_path.push(path);
            } else {
                let entry = Entry::unreadable(path.clone(), FileType::Directory, Errno::INVAL);
                self.entries.insert(path, entry);
            }
        }
    }

    /// Takes the programs. Returns the settings that modules inherit from them.
    fn programs(&mut self) -> BTreeSet<Rc<Context>> {
        let mut contexts = BTreeSet::new();
        for program in &self.now.programs {
            let File::Elf(_, elf) = self.loader.file(&program.name) else {
                continue;
            };
            // The loader takes `$ORIGIN` from there.
            let path = self.loader.walk.root.own_path(&program.name);
            let target = self.loader.walk.root.target(&path);
            let origin = path.parent().unwrap_or(&path).to_owned();
            let context = Rc::new(Context {
                rpath: rpath(&elf, &origin),
                is_secure: target.is_some_and(|stat| stat.st_mode & 0o6000 != 0),
            });
            contexts.insert(Rc::clone(&context));
            if self.question.counts_all {
                self.roots.insert(program.name.clone());
                self.queue.push_back(Loaded {
                    path: program.name.clone(),
                    origin,
                    elf,
                    context,
                });
            }
        }
        if contexts.is_empty() {
            contexts.insert(Rc::default());
        }
        contexts
    }

    fn modules(&mut self, contexts: &BTreeSet<Rc<Context>>) {
        let now = self.now;
        for directory in &now.directories {
            for module in directory.entries() {
                let path = directory.name.join(&module.name);
                self.roots.insert(path.clone());
                if self.loader.places_left == 0 {
                    continue; // The look ends as one that was cut off.
                }
                if let File::Elf(_, elf) = self.loader.parse(&path, module.clone()) {
                    self.load(path, &elf, contexts);
                }
            }
        }
    }

    fn manifests(&mut self, contexts: &BTreeSet<Rc<Context>>) {
        let route = Rc::new(Route {
            first: self.search_path.clone(),
            target: None,
            lacks_defaults: false,
        });
        for manifest in &self.question.manifests {
            let Some(bytes) = self.loader.text(&manifest.path, MOST_TEXT) else {
                continue;
            };
            let names = manifest.names(&bytes);
            if names.is_none() && manifest.is_meant() {
                self.no_json.insert(manifest.path.clone());
            }
            for name in names.unwrap_or_default() {
                let found = match manifest.path_of(&name) {
                    Some(path) => Rc::new(self.loader.at(path, None)),
                    None => self.loader.answer(OsStr::new(&name), &route),
                };
                self.take(&manifest.path, OsStr::new(&name), &found, contexts);
            }
        }
    }

    fn needs_of(&mut self, loaded: &Loaded) {
        let Elf { target, .. } = *loaded.elf;
        let mut context = (*loaded.context).clone();
        let mut first = Vec::new();
        // A program's own DT_RPATH is in its context already.
        let own = rpath(&loaded.elf, &loaded.origin);
        if !context.rpath.starts_with(&own) {
            context.rpath.splice(..0, own);
            // A repeated directory finds nothing new. If libraries need each other, repetition
            // would make the list longer for ever.
            let mut seen = BTreeSet::new();
            context.rpath.retain(|path| seen.insert(path.clone()));
        }
        if loaded.elf.runpath.is_none() {
            first.clone_from(&context.rpath);
        }
        if !context.is_secure {
            first.extend_from_slice(&self.search_path);
        }
        if let Some(text) = &loaded.elf.runpath {
            first.extend(run_path(text, &loaded.origin, target));
        }
        let route = Rc::new(Route {
            first,
            target: Some(target),
            lacks_defaults: loaded.elf.lacks_defaults,
        });
        let contexts = BTreeSet::from([Rc::new(context)]);
        for name in &loaded.elf.needs {
            let found = match name.as_bytes().contains(&b'/') {
                true => {
                    let paths = expanded(name.as_bytes(), &loaded.origin, target).into_iter();
                    let paths = paths.filter(|path| path.is_absolute());
                    let found = paths.flat_map(|path| self.loader.at(path, Some(target)));
                    Rc::new(found.collect())
                }
                false => self.loader.answer(name, &route),
            };
            self.take(&loaded.path, name, &found, &contexts);
        }
    }

    /// Takes the libraries that a need of `by` leads to.
    fn take(
        &mut self,
        by: &Path,
        name: &OsStr,
        found: &[PathBuf],
        contexts: &BTreeSet<Rc<Context>>,
    ) {
        self.links = plus(plus(self.links, by.as_os_str()), name);
        let needed_by = |name: &Path, needed_by: &mut BTreeMap<PathBuf, PathBuf>| {
            let needer = needed_by.entry(name.to_owned());
            needer.or_insert_with(|| by.to_owned());
        };
        if found.is_empty() {
            needed_by(Path::new(name), &mut self.needed_by);
            self.missing.insert(PathBuf::from(name));
        }
        for path in found {
            self.links = plus(self.links, path.as_os_str());
            let (entry, elf) = match self.loader.file(path) {
                File::Elf(entry, elf) => (entry, Some(elf)),
                File::Unreadable(entry) => (entry, None),
                File::Missing | File::Other => continue,
            };
            if !self.roots.contains(path) {
                needed_by(path, &mut self.needed_by);
                self.entries.insert(path.clone(), entry);
            }
            if let Some(elf) = elf {
                self.load(path.clone(), &elf, contexts);
            }
        }
    }

    /// Queues a file, to look up its needs later. Queues it once in each context.
    fn load(&mut self, path: PathBuf, elf: &Rc<Elf>, contexts: &BTreeSet<Rc<Context>>) {
        for context in contexts {
            if self.queued.insert((path.clone(), Rc::clone(context))) {
                // Each queued file takes memory, so it counts as places, too.
                let cost = 1 + context.rpath.len();
                self.loader.places_left = self.loader.places_left.saturating_sub(cost);
                self.queue.push_back(Loaded {
                    origin: path.parent().unwrap_or(&path).to_owned(),
                    path: path.clone(),
                    elf: Rc::clone(elf),
                    context: Rc::clone(context),
                });
            }
        }
    }
}

fn rpath(elf: &Elf, origin: &Path) -> Vec<PathBuf> {
    let text = elf.rpath.as_deref();
    text.map(|text| run_path(text, origin, elf.target))
        .unwrap_or_default()
}

/// A hash with one more text in it.
pub(crate) fn plus(sum: u64, text: &OsStr) -> u64 {
    hash(sum, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::files::root::Root;

    #[test]
    fn a_look_in_too_many_places_ends_and_its_libraries_are_not_known() {
        let root = Root::system().unwrap();
        let mut walk = Walk::new(&root, None);
        let program = std::env::current_exe().unwrap();
        let now = Observation {
            programs: vec![walk.entry(&program).unwrap()],
            ..Observation::default()
        };
        let question = Question {
            counts_all: true,
            manifests: Vec::new(),
            search_path: None,
        };
        let libraries = question.look(&mut walk, &now);
        assert!(!libraries.entries.iter().any(Entry::is_unreadable));
        let libraries = question.look_in(2, &mut walk, &now);
        assert!(libraries.entries.iter().any(Entry::is_unreadable));
    }
}
