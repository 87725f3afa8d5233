//! A profile: what one ecosystem's cached answers depend on.
//!
//! A profile is built in code, or read from a file. `profile_file.rs` tells which files there are.

use std::ffi::OsString;
use std::path::Path;

use crate::files::root::Root;
use crate::ground::environment::variable;
use crate::ground::error::{Error, Result};
use crate::observe::added::Added;
use crate::observe::pattern::{Glob, Source};
use crate::stamp::stamp::{Stamp, check_name};

/// Stands for the name of a profile without one. No stamp can have this name.
pub(crate) const UNNAMED: &str = "-";

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
    pub(crate) programs: Vec<Glob>,
    pub(crate) files: Vec<Glob>,
    /// Sorted.
    pub(crate) added: Vec<Added>,
    /// Whether a touch of the system's stamp also makes libvirt probe again.
    #[cfg_attr(not(feature = "libvirt"), allow(dead_code))]
    pub(crate) refreshes_libvirt: bool,
}

/// # Building one in code
///
/// An item is an absolute path. Each name in it may be a pattern, as in glob(7): `*`, `?` and
/// `[…]`. Each method replaces the list that was there.
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
    /// If an item is no such path and no variable. The error names the item and the remedy.
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
        self.programs = self.parse("programs", items, Glob::parse)?;
        Ok(self)
    }

    /// Names further files that the answers depend on.
    ///
    /// # Errors
    /// Like [`Profile::programs`].
    pub fn files<T: AsRef<str>>(mut self, items: impl IntoIterator<Item = T>) -> Result<Profile> {
        self.files = self.parse("files", items, Glob::parse)?;
        Ok(self)
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
        self.directories.iter().any(|source| source.covers(path))
    }

    /// Whether the profile names `path` itself as a module directory.
    #[cfg(feature = "libvirt")]
    pub(crate) fn has_directory(&self, path: &Path) -> bool {
        self.directories.iter().any(|source| match source {
            Source::Glob(glob) => glob.matches(path),
            Source::Variable(_) => false,
        })
    }

    /// This profile without its variables, for a program with an environment of its own.
    pub(crate) fn without_variables(&self) -> Profile {
        let mut profile = self.clone();
        let is_glob = |source: &Source| matches!(source, Source::Glob(_));
        profile.directories.retain(is_glob);
        profile
    }

    /// The environment variables that the profile names, with their values.
    pub(crate) fn variables(&self) -> Vec<(String, Option<OsString>)> {
        let named = self.directories.iter().filter_map(|source| match source {
            Source::Variable(name) => Some(name),
            Source::Glob(_) => None,
        });
        named.map(|name| (name.clone(), variable(name))).collect()
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
            added: Vec::new(),
            refreshes_libvirt: false,
        }
    }

    /// Refuses a profile that names nothing: a look at nothing would call every answer fresh.
    /// `what` names the profile, or its file, in the error.
    pub(crate) fn refuse_empty(&self, what: &str) -> Result<()> {
        let has_patterns =
            !(self.directories.is_empty() && self.programs.is_empty() && self.files.is_empty());
        if !has_patterns && self.added.is_empty() {
            return Err(Error::NoProfile(format!(
                "the profile {what} names nothing to watch; \
                 give it module-directories = [\"/usr/lib64/NAME\"]"
            )));
        }
        Ok(())
    }
}

fn stamps(name: &str, root: &Root) -> Vec<Stamp> {
    let system = Stamp::system(root, name).ok();
    let user = Stamp::user(root, name).ok().flatten();
    system.into_iter().chain(user).collect()
}
