//! A profile: what one ecosystem's cached answers depend on.
//!
//! A profile is built in code, or read from a file. `profile_file.rs` tells which files there are.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::files::root::Root;
use crate::ground::error::{Error, Result};
use crate::observe::added::Added;
use crate::observe::exclude::{Exclude, is_excluded};
use crate::observe::fact::{Fact, HostFacts, HostInput, Scope};
use crate::observe::foreign_cache::{ForeignCache, Remedy};
use crate::observe::manifest::Manifest;
#[cfg(feature = "libraries")]
use crate::observe::manifest::Place;
use crate::observe::pattern::{Glob, Named, Source, is_variable};
use crate::stamp::stamp::{Owner, Stamp, check_name};

/// The variable in which the dynamic loader finds directories, by ld.so(8).
pub(crate) const SEARCH_PATH: &str = "LD_LIBRARY_PATH";

/// Stands for the name of a profile without one. No stamp can have this name.
pub(crate) const UNNAMED: &str = "-";

/// The name of the profile of a command that names none.
const DEFAULT: &str = "qemu";

/// Names what one ecosystem's cached answers depend on: module directories, programs, further
/// files.
///
/// [`Profile::load`] takes a built-in profile, or one that an administrator or a package wrote.
/// [`Profile::new`] begins one in code:
///
/// ```no_run
/// # fn main() -> modstamp::Result<()> {
/// let profile = modstamp::Profile::new("thumbnails")?
///     .module_directories(["/usr/lib/thumbnailers", "$THUMBNAILER_PATH"])?
///     .programs(["/usr/bin/thumb*"])?
///     .files(["/etc/thumbnails.conf"])?;
/// let before = profile.observe()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    root: Root,
    stamps: Vec<Stamp>,
    pub(crate) directories: Vec<Source>,
    pub(crate) programs: Vec<Source>,
    pub(crate) files: Vec<Source>,
    /// Variables that are no paths.
    pub(crate) variables: Vec<String>,
    /// Sorted.
    pub(crate) host: Vec<HostInput>,
    pub(crate) exclude: Vec<Exclude>,
    /// Whether the libraries that modules and programs load count.
    pub(crate) libraries: bool,
    /// Files that name libraries.
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) scope: Scope,
    /// The program whose answer alone counts; `None` for all programs.
    pub(crate) program: Option<PathBuf>,
    /// A text of the consumer's, such as its own version.
    pub(crate) tag: Option<String>,
    /// Sorted.
    pub(crate) added: Vec<Added>,
    /// The caches of other programs that a change makes stale.
    pub(crate) caches: Vec<ForeignCache>,
    /// Why somebody else could have written the profile; `None` if nobody else could.
    pub(crate) foreign: Option<String>,
}

/// # Building one in code
///
/// A path is absolute, or begins with `$NAME/`, `~/` or `{program}/`, as in a profile's file. Each
/// name in it may be a pattern, as in glob(7): `*`, `?` and `[…]`. A directory counts with all that
/// is in it, a file by its content, in whichever list they are. Each method replaces the list that
/// was there.
impl Profile {
    /// Begins a profile of the running system in code. It names nothing yet.
    ///
    /// `name` is the name of its stamp, too. Choose one that no other ecosystem has.
    ///
    /// # Errors
    /// If `name` has other characters than letters, digits, `-`, `_`, `.` and `+`, or begins with
    /// `-` or `.`.
    pub fn new(name: &str) -> Result<Profile> {
        Profile::begin(name, &Root::system()?)
    }

    /// Looks up the inputs and the system's stamp below another root directory.
    pub fn in_root(mut self, root: &Root) -> Profile {
        self.stamps = stamps(&self.name, root);
        self.root = root.clone();
        self
    }

    /// Names the directories that modules are loaded from. All that is in them counts, at any
    /// depth.
    ///
    /// A directory that does not exist is no error. `$NAME` alone stands for the directories that
    /// this environment variable names.
    ///
    /// # Errors
    /// If an item is no such path. The error names the item and the remedy.
    pub fn module_directories<T: AsRef<str>>(
        mut self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Profile> {
        self.directories = self.parse("module-directories", items, Source::parse)?;
        Ok(self)
    }

    /// Names the programs that load the modules.
    ///
    /// # Errors
    /// If an item is no such path. The error names the item and the remedy.
    pub fn programs<T: AsRef<str>>(
        mut self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Profile> {
        self.programs = self.parse("programs", items, Source::parse_program)?;
        Ok(self)
    }

    /// Names further files that the answers depend on.
    ///
    /// # Errors
    /// Like [`Profile::programs`].
    pub fn files<T: AsRef<str>>(mut self, items: impl IntoIterator<Item = T>) -> Result<Profile> {
        self.files = self.parse("files", items, Source::parse)?;
        Ok(self)
    }

    /// Names environment variables whose values count, and that are no paths.
    ///
    /// # Errors
    /// If an item is no variable's name.
    pub fn variables<T: AsRef<str>>(
        mut self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<Profile> {
        self.variables = self.parse("variables", items, parse_variable)?;
        Ok(self)
    }

    /// Names what counts of the running host: `kernel`, `cpu`, or the path of a device or of a
    /// short file.
    ///
    /// A stamp's update does not look at it. In another root directory it does not count.
    ///
    /// # Errors
    /// If an item is none of these.
    pub fn host<T: AsRef<str>>(mut self, items: impl IntoIterator<Item = T>) -> Result<Profile> {
        self.host = self.parse("host", items, HostInput::parse)?;
        self.host.sort();
        Ok(self)
    }

    /// Names what is in module directories and does not count: names at any depth, or paths from
    /// the module directory.
    ///
    /// # Errors
    /// If an item is no such name or path.
    pub fn exclude<T: AsRef<str>>(mut self, items: impl IntoIterator<Item = T>) -> Result<Profile> {
        self.exclude = self.parse("exclude", items, Exclude::parse)?;
        Ok(self)
    }

    /// Counts the shared libraries that the modules and the programs load, at any depth.
    ///
    /// They are found as the dynamic loader finds them, by ld.so(8). So `LD_LIBRARY_PATH` counts,
    /// too. Package triggers do not see libraries; checks do.
    #[cfg(feature = "libraries")]
    pub fn libraries(mut self, count: bool) -> Profile {
        self.libraries = count;
        self
    }

    /// Names files in JSON, such as those of Vulkan's drivers, that name a library elsewhere.
    ///
    /// `library` is the place of the library's path in each file: keys with `.` between them, such
    /// as `ICD.library_path`. The files count, and so do these libraries and all that they load. A
    /// second call adds files with another place.
    ///
    /// # Errors
    /// If an item is no such path, or `library` no such place.
    #[cfg(feature = "libraries")]
    pub fn manifests<T: AsRef<str>>(
        mut self,
        items: impl IntoIterator<Item = T>,
        library: &str,
    ) -> Result<Profile> {
        let places = self.parse("manifests", [library], Place::parse)?;
        let files = self.parse("manifests", items, Source::parse)?;
        let manifests = places.into_iter().map(|place| Manifest {
            files: files.clone(),
            place,
        });
        self.manifests.extend(manifests);
        Ok(self)
    }

    /// Narrows the profile to the answer of one program: neither the other programs nor what
    /// `{program}` names beside them counts.
    ///
    /// `program` is absolute, in the root directory. The profile need not name it.
    pub fn of_program(mut self, program: impl Into<PathBuf>) -> Profile {
        self.program = Some(program.into());
        self
    }

    /// Adds a text of the consumer's, such as its own version and build. An answer that was stored
    /// with another text, or with none, is stale.
    pub fn tagged(mut self, tag: impl Into<String>) -> Profile {
        self.tag = Some(tag.into());
        self
    }

    fn parse<T: AsRef<str>, P>(
        &self,
        list: &str,
        items: impl IntoIterator<Item = T>,
        parse: impl Fn(&str) -> std::result::Result<P, String>,
    ) -> Result<Vec<P>> {
        let parse = |item: T| {
            let (name, item) = (&self.name, item.as_ref());
            parse(item).map_err(|fault| {
                let problem = format!("“{list}” holds “{item}”, {fault}");
                Error::NoProfile(format!("the profile {name} is wrong: {problem}"))
            })
        };
        items.into_iter().map(parse).collect()
    }
}

impl Profile {
    /// The profile's name, which is also its stamp's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command of modstamp's for this profile, for people to paste.
    pub(crate) fn command(&self, verb: &str) -> String {
        match &*self.name {
            DEFAULT => format!("modstamp {verb}"),
            name => format!("modstamp {verb} --profile {name}"),
        }
    }

    /// The root directory below which the inputs and the system's stamp are looked up.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The stamps that count: the system's and, if the caller has a home, the caller's own.
    pub fn stamps(&self) -> &[Stamp] {
        &self.stamps
    }

    /// Whether `path`, which a package manager sent, is a module directory or lies in one.
    ///
    /// Only the text of the path counts, because a removed package's files are gone.
    pub fn covers(&self, path: &Path) -> bool {
        if path.components().any(|step| step.as_os_str() == "..") {
            return true; // No package manager sends this, and links decide where it leads.
        }
        let programs = self.program_globs();
        let covers = |named: &Named| match named {
            Named::Absolute(glob) => glob.rest_of(path).is_some_and(|below| {
                let top = path.ancestors().nth(below.iter().count()).unwrap_or(path);
                let exclude = self.exclude.iter();
                let exclude = exclude.filter(|it| it.is_for(&programs, |glob| glob.matches(top)));
                !is_excluded(exclude, below)
            }),
            Named::Relative(_) => false,
        };
        let mut sources = self.directories.iter();
        sources.any(|source| source.named(&programs).iter().any(covers))
    }

    /// The paths that items with `{program}` begin at. There are none if no item does. If one program
    /// counts, they are its own.
    pub(crate) fn program_globs(&self) -> Vec<Glob> {
        let in_caches = self.caches.iter().flat_map(|cache| &cache.files);
        let mut sources = self.all_sources().chain(in_caches);
        if !sources.any(Source::begins_at_program) {
            return Vec::new();
        }
        match &self.program {
            Some(program) => self.globs_of(program).collect(),
            None => self.named_programs().map(Cow::into_owned).collect(),
        }
    }

    /// Whether the profile names a program by this path. Links are not followed.
    pub(crate) fn names_program(&self, path: &Path) -> bool {
        self.named_programs().any(|glob| glob.matches(path))
    }

    pub(crate) fn named_programs(&self) -> impl Iterator<Item = Cow<'_, Glob>> {
        let named = self.programs.iter().flat_map(|source| source.named(&[]));
        named.filter_map(|named| match named {
            Named::Absolute(glob) => Some(glob),
            Named::Relative(_) => None,
        })
    }

    /// One program, by its path and by the path that links lead to.
    fn globs_of(&self, program: &Path) -> impl Iterator<Item = Glob> {
        let paths = [program.to_owned(), self.root.own_path(program)].into_iter();
        paths.map(Glob::plain)
    }

    /// Whether the profile names `path` itself as a module directory.
    #[cfg(feature = "libvirt")]
    pub(crate) fn has_directory(&self, path: &Path) -> bool {
        let programs = self.program_globs();
        let mut sources = self.directories.iter();
        let is_it = |named: &Named| matches!(named, Named::Absolute(glob) if glob.matches(path));
        sources.any(|source| source.named(&programs).iter().any(is_it))
    }

    /// Whether libvirt's rule is one of the remedies.
    #[cfg_attr(not(feature = "libvirt"), allow(dead_code))]
    pub(crate) fn refreshes_libvirt(&self) -> bool {
        let mut caches = self.caches.iter();
        caches.any(|cache| cache.remedy == Remedy::Libvirt)
    }

    /// This profile, but with the files of its caches among the further files. It is for the answer
    /// of a program that may have read its own stale cache.
    pub(crate) fn with_caches_as_files(&self) -> Cow<'_, Profile> {
        if self.caches.iter().all(|cache| cache.files.is_empty()) {
            return Cow::Borrowed(self);
        }
        let mut profile = self.clone();
        let files = self.caches.iter().flat_map(|cache| &cache.files);
        profile.files.extend(files.cloned());
        Cow::Owned(profile)
    }

    /// This profile, but a cache in a module directory is no module there. Otherwise each remedy
    /// would be a change.
    pub(crate) fn without_caches_among_modules(mut self) -> Profile {
        let files = self.caches.iter().flat_map(|cache| &cache.files);
        let excluded = files.flat_map(|file| {
            let directories = self.directories.iter();
            directories.filter_map(|directory| Exclude::of_file(file, directory))
        });
        let excluded: Vec<Exclude> = excluded.collect();
        self.exclude.extend(excluded);
        self
    }

    /// This profile as packages concern it, without its variables and host inputs. It is for a
    /// caller that has an environment of its own, or that runs while the host starts.
    pub(crate) fn of_packages(&self) -> Profile {
        self.as_updated_by(Owner::System)
    }

    /// This profile as a look for the stamp of `owner` has it, without variables and host inputs.
    ///
    /// A look for a user's own stamp keeps the items in the home directory. The home and the XDG
    /// directories are the same in a shell and in the user's manager. Other variables most often
    /// differ, and each look would then undo the other's. libvirt's records know no homes.
    pub(crate) fn as_updated_by(&self, owner: Owner) -> Profile {
        let with_home = owner == Owner::User && !self.refreshes_libvirt();
        let kept = |source: &Source| match with_home && source.is_in_home() {
            true => vec![source.clone()],
            false => source.without_variables(),
        };
        let mut profile = self.clone();
        let lists = [
            &mut profile.directories,
            &mut profile.programs,
            &mut profile.files,
        ];
        let manifests = profile.manifests.iter_mut().map(|it| &mut it.files);
        let exclude = profile.exclude.iter_mut();
        let exclude = exclude.filter_map(|it| it.directories.as_mut());
        for list in lists.into_iter().chain(manifests).chain(exclude) {
            *list = list.iter().flat_map(kept).collect();
        }
        profile.scope = Scope::Packages;
        profile
    }

    /// The paths that the profile's lists name now, without those of its caches. `programs` stand
    /// for `{program}`.
    pub(crate) fn named_paths(&self, programs: &[Glob]) -> Vec<Glob> {
        self.paths_of(programs, |_| true)
    }

    /// Those of [`Profile::named_paths`] that are in the home directory.
    pub(crate) fn named_paths_in_home(&self) -> Vec<Glob> {
        self.paths_of(&self.program_globs(), Source::is_in_home)
    }

    /// The names that `exclude` has now, each with the module directories to which it applies.
    #[cfg(feature = "cli")]
    pub(crate) fn excluded_names(&self) -> Vec<(String, Option<Vec<Glob>>)> {
        let programs = self.program_globs();
        let absolute = |named: Named<'_>| match named {
            Named::Absolute(glob) => Some(glob.into_owned()),
            Named::Relative(_) => None,
        };
        let names = self.exclude.iter().map(|exclude| {
            let directories = exclude.directories.as_ref().map(|directories| {
                let named = directories.iter().flat_map(|it| it.named(&programs));
                named.filter_map(absolute).collect()
            });
            (exclude.to_string(), directories)
        });
        names.collect()
    }

    fn paths_of(&self, programs: &[Glob], is_wanted: impl Fn(&Source) -> bool) -> Vec<Glob> {
        let mut paths = Vec::new();
        let sources = self.all_sources().filter(|source| is_wanted(source));
        for named in sources.flat_map(|source| source.named(programs)) {
            match named {
                Named::Absolute(glob) if !paths.contains(&*glob) => paths.push(glob.into_owned()),
                Named::Absolute(_) | Named::Relative(_) => {}
            }
        }
        paths
    }

    /// The environment variables that the profile names, with their values, sorted by name.
    pub(crate) fn variable_facts(&self) -> Vec<Fact> {
        if self.scope == Scope::Packages {
            return Vec::new();
        }
        let sources = self.all_sources();
        let in_paths = sources.filter_map(|source| match source {
            Source::Variable { name, .. } => Some(name),
            Source::Glob(_) | Source::Program { .. } => None,
        });
        let in_paths = in_paths.chain(&self.variables).map(String::as_str);
        let of_loader = self.counts_libraries().then_some(SEARCH_PATH);
        let names: BTreeSet<&str> = in_paths.chain(of_loader).collect();
        let facts = names.into_iter().map(Fact::of_variable);
        facts.collect()
    }

    /// Whether any libraries count.
    pub(crate) fn counts_libraries(&self) -> bool {
        self.libraries || !self.manifests.is_empty()
    }

    /// The items of all lists of paths, but for those of caches.
    pub(crate) fn all_sources(&self) -> impl Iterator<Item = &Source> {
        let manifests = self.manifests.iter().flat_map(|it| &it.files);
        let sources = self.directories.iter().chain(&self.programs);
        sources.chain(&self.files).chain(manifests)
    }

    /// The host inputs, with their values, sorted by name. Another root directory's host is not
    /// known.
    pub(crate) fn host_facts(&self, older: Option<&HostFacts>) -> HostFacts {
        match self.root.is_system() && self.scope == Scope::Whole {
            true => HostFacts::of(&self.host, &self.root, older),
            false => HostFacts::default(),
        }
    }

    /// A profile with these inputs alone. It has neither a name nor a stamp.
    #[doc(hidden)] // Only the programs use it.
    pub fn unnamed(root: &Root, added: Vec<Added>) -> Profile {
        Profile::of_nothing(UNNAMED, root).with_added(added)
    }

    /// Replaces the added inputs of this profile by these. Each path is absolute.
    #[doc(hidden)] // Only the programs use it.
    pub fn with_added(mut self, mut added: Vec<Added>) -> Profile {
        added.sort();
        added.dedup();
        self.added = added;
        self
    }

    pub(crate) fn added_directories(&self) -> impl Iterator<Item = &Path> {
        self.added.iter().filter_map(|added| match added {
            Added::Directory(path) => Some(path.as_path()),
            Added::File(_) => None,
        })
    }

    pub(crate) fn added_files(&self) -> impl Iterator<Item = &Path> {
        self.added.iter().filter_map(|added| match added {
            Added::File(path) => Some(path.as_path()),
            Added::Directory(_) => None,
        })
    }

    /// A profile that names nothing yet.
    pub(crate) fn begin(name: &str, root: &Root) -> Result<Profile> {
        check_name(name)?;
        Ok(Profile::of_nothing(name, root))
    }

    /// Like [`Profile::begin`]. A name that no stamp can have gives a profile without a stamp.
    pub(crate) fn of_nothing(name: &str, root: &Root) -> Profile {
        Profile {
            name: name.to_owned(),
            root: root.clone(),
            stamps: stamps(name, root),
            directories: Vec::new(),
            programs: Vec::new(),
            files: Vec::new(),
            variables: Vec::new(),
            host: Vec::new(),
            exclude: Vec::new(),
            libraries: false,
            manifests: Vec::new(),
            scope: Scope::Whole,
            program: None,
            tag: None,
            added: Vec::new(),
            caches: Vec::new(),
            foreign: None,
        }
    }

    /// Refuses a profile that names nothing: a look at nothing would call every answer fresh.
    /// `what` names the profile, or its file, in the error.
    pub(crate) fn refuse_empty(&self, what: &str) -> Result<()> {
        let lists = [&self.directories, &self.programs, &self.files];
        let has_patterns = lists.iter().any(|list| !list.is_empty());
        if !has_patterns && self.manifests.is_empty() && self.added.is_empty() {
            return Err(Error::NoProfile(format!(
                "the profile {what} names nothing to watch; \
                 give it module-directories = [\"/usr/lib64/NAME\"]"
            )));
        }
        Ok(())
    }
}

/// Parses an item of `variables`.
pub(crate) fn parse_variable(text: &str) -> std::result::Result<String, String> {
    match is_variable(text) {
        true => Ok(text.to_owned()),
        false => Err("which names no environment variable; write its name without “$”".into()),
    }
}

fn stamps(name: &str, root: &Root) -> Vec<Stamp> {
    let system = Stamp::system(root, name).ok();
    let user = Stamp::user(root, name).ok().flatten();
    system.into_iter().chain(user).collect()
}
