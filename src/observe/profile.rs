//! A profile: what one ecosystem's caches depend on.
//!
//! `qemu` and `nbdkit` are built in, from `packaging/`; others are TOML files of the same lay-out, and such a file may
//! override what is built in, too.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use toml::de::{DeTable, DeValue};

use crate::files::root::{Root, Steps, is_match};
use crate::ground::error::{Error, Result};
use crate::stamp::stamp::{Stamp, check_name};

/// Where profiles are looked for, in the root directory. A later file's keys replace an earlier one's.
const SYSTEM_DIRECTORIES: [&str; 3] = [
    "/usr/lib/modstamp/profiles.d",
    "/run/modstamp/profiles.d",
    "/etc/modstamp/profiles.d",
];

/// A profile is a few lines. A larger file is something else, and is not read.
const MOST_BYTES: u64 = 1 << 20;

/// The profiles that are built in.
const BUILT_IN: [(&str, &str); 2] = [
    ("nbdkit", include_str!("../../packaging/nbdkit.toml")),
    ("qemu", include_str!("../../packaging/qemu.toml")),
];

const KEYS: [&str; 4] = ["module-directories", "programs", "files", REFRESH];

/// Whether a touch also refreshes libvirt.
const REFRESH: &str = "refresh-libvirt";

/// What one ecosystem's caches depend on: module directories, programs, further files.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    root: Root,
    stamps: Vec<Stamp>,
    pub(crate) directories: Vec<Source>,
    pub(crate) programs: Vec<Glob>,
    pub(crate) files: Vec<Glob>,
    refreshes_libvirt: bool,
}

/// Where module directories come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A path, perhaps with wildcards.
    Glob(Glob),
    /// The environment variable that names one or, with “:” between them, several.
    Variable(String),
}

/// An absolute path whose components may hold `*`, `?` and `[…]`, as in glob(7).
#[derive(Debug, Clone)]
pub(crate) struct Glob(pub(crate) Vec<glob::Pattern>);

impl Profile {
    /// The profile of that name for the running system.
    ///
    /// `name` is "qemu", "nbdkit", or the name of a `<name>.toml` in `/usr/lib/modstamp/profiles.d`,
    /// `/run/modstamp/profiles.d`, `/etc/modstamp/profiles.d` or `$XDG_CONFIG_HOME/modstamp/profiles.d`, of which
    /// a later one's keys replace an earlier one's. A value with a `/` in it is the path of such a file, which is
    /// then read alone.
    ///
    /// # Errors
    /// Where there is no such profile, or where a file of it is wrong: the error names file, line and key, and
    /// says what would be right.
    pub fn load(name: &str) -> Result<Profile> {
        Profile::load_in(name, &Root::system()?)
    }

    /// The same for the tree below another root directory. A value with a `/` in it is still a path outside it.
    ///
    /// # Errors
    /// As [`Profile::load`].
    pub fn load_in(name: &str, root: &Root) -> Result<Profile> {
        if name.contains('/') {
            return Profile::from_file(Path::new(name), root);
        }
        check_name(name)?;
        let mut profile = Profile::built_in(name, root);
        for path in Profile::paths(name) {
            let Some(text) = read_profile(root, &path)? else {
                continue;
            };
            profile
                .get_or_insert_with(|| Profile::empty(name, root))
                .merge(&root.outside(&path), &text)?;
        }
        let profile = profile.ok_or_else(|| {
            Error::NoProfile(format!(
                "there is no profile “{name}”; write it to /etc/modstamp/profiles.d/{name}.toml, or name one of: {}",
                Profile::names(root).join(", ")
            ))
        })?;
        profile.not_empty(name)
    }

    fn from_file(path: &Path, root: &Root) -> Result<Profile> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        check_name(&name)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            Error::system(
                "read the profile",
                path,
                errno,
                "name a file that you can read",
            )
        })?;
        let text = read_text(file, path)?;
        let mut profile = Profile::empty(&name, root);
        profile.merge(path, &text)?;
        profile.not_empty(&path.display().to_string())
    }

    /// The profile that is built in under that name, whatever files say.
    pub fn built_in(name: &str, root: &Root) -> Option<Profile> {
        let (_, text) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
        let mut profile = Profile::empty(name, root);
        profile.merge(Path::new(name), text).ok()?;
        Some(profile)
    }

    /// The names of all profiles there are, sorted.
    pub fn names(root: &Root) -> Vec<String> {
        let mut names: Vec<String> = BUILT_IN.map(|(name, _)| name.to_owned()).into();
        for directory in profile_directories() {
            for file in root.names(&directory).unwrap_or_default() {
                let name = file.to_string_lossy();
                let name = name.strip_suffix(".toml").unwrap_or_default();
                if check_name(name).is_ok() {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The root directory that it is looked up in.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Its stamps: the system's and, where the caller has a home, the caller's own.
    pub fn stamps(&self) -> &[Stamp] {
        &self.stamps
    }

    /// Whether a touch of the system's stamp also makes libvirt ask again: see [`crate::act::libvirt::refresh`].
    pub fn refreshes_libvirt(&self) -> bool {
        self.refreshes_libvirt
    }

    /// Whether a path that a package manager sent lies in one of the module directories, or is one.
    ///
    /// Only the path's text is looked at: what a removed package owned is not there any more.
    pub fn covers(&self, path: &Path) -> bool {
        if path.components().any(|step| step.as_os_str() == "..") {
            return true; // No package manager sends this. Who knows where it leads?
        }
        self.directories.iter().any(|source| match source {
            Source::Glob(glob) => glob.covers(path),
            Source::Variable(name) => named_by(name).any(|directory| path.starts_with(directory)),
        })
    }

    /// Whether `path` is what one of the module directories is given as.
    #[cfg(feature = "libvirt")]
    pub(crate) fn has_directory(&self, path: &Path) -> bool {
        self.directories.iter().any(|source| match source {
            Source::Glob(glob) => glob.0.len() + 1 == path.iter().count() && glob.covers(path),
            Source::Variable(_) => false,
        })
    }

    /// The same for a program whose environment is not the caller's.
    pub(crate) fn without_variables(&self) -> Profile {
        let mut profile = self.clone();
        let is_glob = |source: &Source| matches!(source, Source::Glob(_));
        profile.directories.retain(is_glob);
        profile
    }

    /// The environment variables that the profile asks, with their values.
    pub(crate) fn variables(&self) -> Vec<(String, Option<OsString>)> {
        self.directories
            .iter()
            .filter_map(|source| match source {
                Source::Variable(name) => {
                    Some((name.clone(), crate::ground::environment::variable(name)))
                }
                Source::Glob(_) => None,
            })
            .collect()
    }

    fn empty(name: &str, root: &Root) -> Profile {
        let system = Stamp::system(root, name).ok();
        let user = Stamp::user(root, name).ok().flatten();
        Profile {
            name: name.to_owned(),
            root: root.clone(),
            stamps: system.into_iter().chain(user).collect(),
            directories: Vec::new(),
            programs: Vec::new(),
            files: Vec::new(),
            refreshes_libvirt: false,
        }
    }

    fn not_empty(self, what: &str) -> Result<Profile> {
        if self.directories.is_empty() && self.programs.is_empty() && self.files.is_empty() {
            return Err(Error::NoProfile(format!(
                "the profile {what} names nothing to watch; give it module-directories = [\"/usr/lib64/NAME\"]"
            )));
        }
        Ok(self)
    }

    /// The files that may define the profile, the ones that override last.
    fn paths(name: &str) -> impl Iterator<Item = PathBuf> {
        let file = format!("{name}.toml");
        profile_directories().map(move |directory| directory.join(&file))
    }

    /// Replaces each key that `text` has.
    fn merge(&mut self, path: &Path, text: &str) -> Result<()> {
        let wrong = |at: usize, problem: String| Error::Profile {
            path: path.to_owned(),
            line: text[..at].matches('\n').count() + 1,
            problem,
        };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            wrong(
                at.min(text.len()),
                format!("{}; write it as TOML", error.message()),
            )
        })?;
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            let key: &str = key.get_ref();
            if !KEYS.contains(&key) {
                let keys = KEYS.join(", ");
                return Err(wrong(
                    at,
                    format!("there is no key “{key}”; the keys are {keys}"),
                ));
            }
            if key == REFRESH {
                let DeValue::Boolean(refreshes) = value.get_ref() else {
                    let kind = value.get_ref().type_str();
                    let problem = format!("“{key}” is of type {kind}; write {key} = true or false");
                    return Err(wrong(at, problem));
                };
                self.refreshes_libvirt = *refreshes;
                continue;
            }
            let DeValue::Array(array) = value.get_ref() else {
                let kind = value.get_ref().type_str();
                return Err(wrong(
                    at,
                    format!("“{key}” is of type {kind}; write a list, {key} = [\"/usr/…\"]"),
                ));
            };
            let mut sources = Vec::new();
            for item in array.iter() {
                let at = item.span().start;
                let DeValue::String(item) = item.get_ref() else {
                    let kind = item.get_ref().type_str();
                    return Err(wrong(
                        at,
                        format!("“{key}” holds something of type {kind}; write \"/usr/…\""),
                    ));
                };
                let source = Source::parse(item, key == "module-directories")
                    .map_err(|problem| wrong(at, format!("“{key}” holds “{item}”, {problem}")))?;
                sources.push(source);
            }
            let globs = |sources: Vec<Source>| {
                let glob = |source| match source {
                    Source::Glob(glob) => Some(glob),
                    Source::Variable(_) => None,
                };
                sources.into_iter().filter_map(glob).collect()
            };
            match key {
                "module-directories" => self.directories = sources,
                "programs" => self.programs = globs(sources),
                _ => self.files = globs(sources),
            }
        }
        Ok(())
    }
}

impl Source {
    /// One item of a list. The error continues "… holds “ITEM”, ".
    fn parse(text: &str, may_be_variable: bool) -> std::result::Result<Source, String> {
        if let Some(name) = text.strip_prefix('$') {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !may_be_variable {
                return Err(
                    "a variable, which only module-directories may name; write a path".into(),
                );
            }
            if name.is_empty() || !name.chars().all(is_name) {
                return Err("which names no environment variable; write \"$NAME\" alone".into());
            }
            return Ok(Source::Variable(name.to_owned()));
        }
        if !text.starts_with('/') {
            return Err("a relative path; begin it with “/”".into());
        }
        let mut components = Vec::new();
        for component in text.split('/').filter(|component| !component.is_empty()) {
            if component == "." || component == ".." {
                return Err(format!("a path with “{component}”; write it without"));
            }
            if component.contains("**") {
                return Err("a bad pattern: “*” matches within one name, “**” is not known".into());
            }
            let pattern = glob::Pattern::new(component)
                .map_err(|error| format!("a bad pattern: {}; see glob(7)", error.msg))?;
            components.push(pattern);
        }
        if components.is_empty() {
            return Err("the root directory; name one below it".into());
        }
        Ok(Source::Glob(Glob(components)))
    }
}

impl Glob {
    /// The path up to the first component that matches more than one name, and the components from there on.
    pub(crate) fn split(&self) -> (PathBuf, &[glob::Pattern]) {
        let plain = self.0.iter().position(is_wild).unwrap_or(self.0.len());
        let (plain, rest) = self.0.split_at(plain);
        let names = plain.iter().map(glob::Pattern::as_str);
        (Path::new("/").join(names.collect::<PathBuf>()), rest)
    }

    /// Whether `path` is a place that the glob matches, or lies below one.
    fn covers(&self, path: &Path) -> bool {
        let mut names = path.iter().filter(|name| *name != "/");
        self.0
            .iter()
            .all(|component| names.next().is_some_and(|name| is_match(component, name)))
    }
}

/// Whether a component of a glob matches more than one name.
pub(crate) fn is_wild(component: &glob::Pattern) -> bool {
    component.as_str().contains(['*', '?', '['])
}

/// The directories that the environment variable `name` names: the items of a list with “:” between them, such as PATH is,
/// and the whole value, for who takes it as one.
pub(crate) fn named_by(name: &str) -> impl Iterator<Item = PathBuf> {
    let value = crate::ground::environment::variable(name).unwrap_or_default();
    let items: Vec<PathBuf> = std::env::split_paths(&value).collect();
    let whole = (items.len() > 1 && value.as_bytes().starts_with(b"/")).then(|| value.into());
    let named = items.into_iter().chain(whole);
    named.filter(|path| !path.as_os_str().is_empty())
}

fn profile_directories() -> impl Iterator<Item = PathBuf> {
    let user = crate::ground::environment::home_directory("XDG_CONFIG_HOME", ".config")
        .map(|config| config.join("modstamp/profiles.d"));
    SYSTEM_DIRECTORIES.iter().map(PathBuf::from).chain(user)
}

/// The text of a profile's file; `None` where there is none, or where it is a user's that the caller must not trust.
fn read_profile(root: &Root, path: &Path) -> Result<Option<String>> {
    let is_system = SYSTEM_DIRECTORIES
        .iter()
        .any(|directory| path.starts_with(directory));
    if root.lacks(path) {
        return Ok(None);
    }
    match root.read(path, Steps::Trusted) {
        Ok(fd) => read_text(fd, &root.outside(path)).map(Some),
        Err(stop) if stop.is_missing() => Ok(None),
        // Root with another user's home: that user's profiles are not root's.
        Err(crate::files::root::Stop::Untrusted { .. }) if !is_system => Ok(None),
        Err(stop) => {
            Err(stop.into_error("read the profile", root.outside(path), "make it readable"))
        }
    }
}

fn read_text(fd: std::os::fd::OwnedFd, path: &Path) -> Result<String> {
    use std::io::Read;
    let failed = |error: std::io::Error| {
        Error::system(
            "read the profile",
            path,
            error,
            "name a text file of a few lines",
        )
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| failed(errno.into()))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(failed(std::io::Error::other("it is not a regular file")));
    }
    let mut bytes = Vec::new();
    let mut file = std::fs::File::from(fd).take(MOST_BYTES + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(std::io::Error::other("it is larger than 1 MiB")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        Error::Profile {
            path: path.to_owned(),
            line: error.as_bytes()[..good]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1,
            problem: "this is not text in UTF-8; write a profile as TOML".to_owned(),
        }
    })
}
