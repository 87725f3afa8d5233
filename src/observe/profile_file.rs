//! A profile's files: where they are, and how their TOML is read.
//!
//! `qemu` and `nbdkit` are built in, from `packaging/`. Files may override them key by key, and
//! define other profiles.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::ground::environment::home_directory;
use crate::ground::error::{Error, Result};
use crate::observe::exclude::Exclude;
use crate::observe::fact::HostInput;
use crate::observe::manifest::{Manifest, Place};
use crate::observe::pattern::Source;
use crate::observe::profile::{Profile, parse_variable};
use crate::stamp::stamp::check_name;

/// The directories of the system's profiles, below the root directory. Later ones override earlier
/// ones.
const SYSTEM_DIRECTORIES: [&str; 3] = [
    "/usr/lib/modstamp/profiles.d",
    "/run/modstamp/profiles.d",
    "/etc/modstamp/profiles.d",
];

/// A profile is a few lines. A larger file is something else.
const MOST_BYTES: u64 = 1 << 20;

/// The built-in profiles, each with its text.
const BUILT_IN: [(&str, &str); 2] = [
    ("nbdkit", include_str!("../../packaging/nbdkit.toml")),
    ("qemu", include_str!("../../packaging/qemu.toml")),
];

impl Profile {
    /// Loads the profile `name` for the running system.
    ///
    /// `name` is "qemu", "nbdkit", or the name of a `<name>.toml` in
    /// `/usr/lib/modstamp/profiles.d`, `/run/modstamp/profiles.d`, `/etc/modstamp/profiles.d` or
    /// `$XDG_CONFIG_HOME/modstamp/profiles.d`. Each key of a later file replaces that of an earlier
    /// one. A value with a `/` in it is the path of such a file, which is then read alone.
    ///
    /// # Errors
    /// If there is no such profile, or if a file of it is wrong. The error then names the file, the
    /// line, the key and the remedy.
    pub fn load(name: &str) -> Result<Profile> {
        Profile::load_in(name, &Root::system()?)
    }

    /// Like [`Profile::load`], but for the tree below another root directory.
    ///
    /// The path of a file, a value with a `/` in it, does not start from that directory.
    ///
    /// # Errors
    /// Like [`Profile::load`].
    pub fn load_in(name: &str, root: &Root) -> Result<Profile> {
        if name.contains('/') {
            return Profile::from_file(Path::new(name), root);
        }
        check_name(name)?;
        let mut profile = Profile::built_in(name, root);
        for directory in directories() {
            let path = directory.join(format!("{name}.toml"));
            if let Some(text) = read_below(root, &path)? {
                let begun = profile.map_or_else(|| Profile::begin(name, root), Ok)?;
                profile = Some(begun.with(&root.outside(&path), &text)?);
            }
        }
        let profile = profile.ok_or_else(|| {
            Error::NoProfile(format!(
                "there is no profile “{name}”; write it to /etc/modstamp/profiles.d/{name}.toml, \
                 or name one of: {}",
                Profile::names(root).join(", ")
            ))
        })?;
        profile.refuse_empty(name)?;
        Ok(profile)
    }

    /// The built-in profile `name`, whatever files there are. `None` if there is none.
    #[doc(hidden)] // Only the programs use it.
    pub fn built_in(name: &str, root: &Root) -> Option<Profile> {
        let (_, text) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
        let profile = Profile::begin(name, root).ok()?;
        profile.with(Path::new(name), text).ok()
    }

    /// Lists the names of all profiles that [`Profile::load_in`] finds, sorted.
    pub fn names(root: &Root) -> Vec<String> {
        let mut names: Vec<String> = BUILT_IN.map(|(name, _)| name.to_owned()).into();
        for directory in directories() {
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

    fn from_file(path: &Path, root: &Root) -> Result<Profile> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let profile = Profile::begin(&name, root)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            let remedy = "name a file that you can read";
            Error::system("read the profile", path, errno, remedy)
        })?;
        let profile = profile.with(path, &read(file, path)?)?;
        profile.refuse_empty(&path.display().to_string())?;
        Ok(profile)
    }

    /// This profile, but with each key that the file's text has.
    fn with(mut self, path: &Path, text: &str) -> Result<Profile> {
        let text = Text { path, text };
        let table = DeTable::parse(text.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            text.error(at, format!("{}; write it as TOML", error.message()))
        })?;
        for (key, value) in table.get_ref() {
            self.set(&text, key, value)?;
        }
        Ok(self)
    }

    fn set(
        &mut self,
        text: &Text<'_>,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<()> {
        let name: &str = key.get_ref();
        match name {
            "module-directories" => self.directories = text.list(key, value, Source::parse)?,
            "programs" => self.programs = text.list(key, value, Source::parse_program)?,
            "files" => self.files = text.list(key, value, Source::parse)?,
            "exclude" => self.exclude = text.list(key, value, Exclude::parse)?,
            "libraries" => {
                self.libraries = text.boolean(key, value)?;
                refuse_libraries(text, key, self.libraries)?;
            }
            "manifests" => {
                self.manifests = text.manifests(key, value)?;
                refuse_libraries(text, key, !self.manifests.is_empty())?;
            }
            "variables" => self.variables = text.list(key, value, parse_variable)?,
            "host" => {
                self.host = text.list(key, value, HostInput::parse)?;
                self.host.sort();
            }
            "refresh-libvirt" => self.refreshes_libvirt = text.boolean(key, value)?,
            _ => {
                let problem = format!(
                    "there is no key “{name}”; the keys are module-directories, programs, files, \
                     exclude, libraries, manifests, variables, host, refresh-libvirt"
                );
                return Err(text.error(key.span().start, problem));
            }
        }
        Ok(())
    }
}

/// A profile's text, for errors that name the file and the line.
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Text<'_> {
    /// The error of a `problem`, `at` bytes from the beginning.
    fn error(&self, at: usize, problem: String) -> Error {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        syntax_error(self.path, before, problem)
    }

    fn boolean(&self, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> Result<bool> {
        let name: &str = key.get_ref();
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            other => {
                let kind = other.type_str();
                let problem = format!("“{name}” is of type {kind}; write {name} = true or false");
                Err(self.error(key.span().start, problem))
            }
        }
    }

    /// A list of tables, each with the keys `files` and `library`.
    fn manifests(
        &self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<Manifest>> {
        let DeValue::Array(items) = value.get_ref() else {
            let kind = value.get_ref().type_str();
            return Err(self.no_manifest(key.span().start, &format!("is of type {kind}")));
        };
        items.iter().map(|item| self.manifest(item)).collect()
    }

    fn manifest(&self, item: &Spanned<DeValue<'_>>) -> Result<Manifest> {
        let wrong = |fault: &str| self.no_manifest(item.span().start, fault);
        let DeValue::Table(table) = item.get_ref() else {
            let kind = item.get_ref().type_str();
            return Err(wrong(&format!("holds something of type {kind}")));
        };
        let (mut files, mut place) = (None, None);
        for (key, value) in table {
            match (&**key.get_ref(), value.get_ref()) {
                ("files", _) => files = Some(self.list(key, value, Source::parse)?),
                ("library", DeValue::String(text)) => {
                    let parsed = Place::parse(text);
                    place = Some(parsed.map_err(|fault| {
                        let problem = format!("“library” is “{text}”, {fault}");
                        self.error(value.span().start, problem)
                    })?);
                }
                ("library", _) => return Err(wrong("holds a “library” that is no text")),
                (other, _) => return Err(wrong(&format!("holds a key “{other}”"))),
            }
        }
        Ok(Manifest {
            files: files.ok_or_else(|| wrong("holds an item without “files”"))?,
            place: place.ok_or_else(|| wrong("holds an item without “library”"))?,
        })
    }

    fn no_manifest(&self, at: usize, fault: &str) -> Error {
        let remedy = "manifests = [{ files = [\"/usr/…/*.json\"], library = \"KEY.KEY\" }]";
        self.error(at, format!("“manifests” {fault}; write {remedy}"))
    }

    fn list<T>(
        &self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<Vec<T>> {
        let name: &str = key.get_ref();
        let DeValue::Array(items) = value.get_ref() else {
            let kind = value.get_ref().type_str();
            let problem =
                format!("“{name}” is of type {kind}; write a list, {name} = [\"/usr/…\"]");
            return Err(self.error(key.span().start, problem));
        };
        let parse = |item: &Spanned<DeValue<'_>>| {
            let parsed = match item.get_ref() {
                DeValue::String(text) => {
                    parse(text).map_err(|fault| format!("“{name}” holds “{text}”, {fault}"))
                }
                other => {
                    let kind = other.type_str();
                    Err(format!(
                        "“{name}” holds something of type {kind}; write \"/usr/…\""
                    ))
                }
            };
            parsed.map_err(|problem| self.error(item.span().start, problem))
        };
        items.iter().map(parse).collect()
    }
}

/// Refuses a profile that needs the feature `libraries`, in a build without it. Such a build would
/// call an answer fresh that another one calls stale.
fn refuse_libraries(text: &Text<'_>, key: &Spanned<DeString<'_>>, is_needed: bool) -> Result<()> {
    if cfg!(feature = "libraries") || !is_needed {
        return Ok(());
    }
    let problem = format!(
        "“{}” needs the feature “libraries”, and this modstamp was built without it; build it with \
         “--features libraries”, or remove this key",
        key.get_ref()
    );
    Err(text.error(key.span().start, problem))
}

fn syntax_error(path: &Path, before: &[u8], problem: String) -> Error {
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    Error::Profile {
        path: path.to_owned(),
        line: lines + 1,
        problem,
    }
}

/// The directories of profiles, the system's and the user's. The last one counts most.
fn directories() -> impl Iterator<Item = PathBuf> {
    let user = home_directory("XDG_CONFIG_HOME", ".config");
    let user = user.map(|config| config.join("modstamp/profiles.d"));
    SYSTEM_DIRECTORIES.iter().map(PathBuf::from).chain(user)
}

/// The files of the profile `name` in the root directory. Each replaces keys of those before it.
#[cfg(feature = "cli")]
pub(crate) fn files_of(name: &str, root: &Root) -> Vec<PathBuf> {
    let files = directories().map(|directory| directory.join(format!("{name}.toml")));
    let is_read = |file: &PathBuf| !matches!(read_below(root, file), Ok(None));
    files.filter(is_read).collect()
}

/// The text of a profile's file in the root directory. `None` if there is no such file, or if it is
/// a user's and another user could have written it.
fn read_below(root: &Root, path: &Path) -> Result<Option<String>> {
    if root.lacks(path) {
        return Ok(None);
    }
    let mut directories = SYSTEM_DIRECTORIES.iter();
    let is_system = directories.any(|directory| path.starts_with(directory));
    let outside = root.outside(path);
    match root.read(path, Steps::Trusted) {
        Ok(file) => read(file, &outside).map(Some),
        Err(stop) if stop.is_missing() => Ok(None),
        // Root may have another user's home, as by sudo(8). That user's profiles are not root's.
        Err(Stop::Untrusted { .. }) if !is_system => Ok(None),
        Err(stop) => Err(stop.into_error("read the profile", outside, "make it readable")),
    }
}

fn read(file: OwnedFd, path: &Path) -> Result<String> {
    let bytes = read_bytes(file).map_err(|cause| {
        let remedy = "name a text file of a few lines";
        Error::system("read the profile", path, cause, remedy)
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let problem = "this is not text in UTF-8; write a profile as TOML";
        syntax_error(path, before, problem.to_owned())
    })
}

fn read_bytes(file: OwnedFd) -> io::Result<Vec<u8>> {
    if !FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode).is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    read_at_most(MOST_BYTES, file).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => io::Error::other("it is larger than 1 MiB"),
        _ => error,
    })
}
