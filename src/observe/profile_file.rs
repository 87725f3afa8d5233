//! A profile's files: where they are, and how their TOML is read.
//!
//! `qemu` and `nbdkit` are built in, from `packaging/`. Files may override them key by key, and
//! define other profiles.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::ground::environment::home_directory;
use crate::ground::error::{Error, Result};
use crate::ground::text::Printable;
use crate::observe::evidence::hash;
use crate::observe::exclude::Exclude;
use crate::observe::fact::HostInput;
use crate::observe::foreign_cache::{ForeignCache, Remedy};
use crate::observe::pattern::Source;
use crate::observe::profile::{Profile, parse_variable};
use crate::observe::profile_text::{Text, syntax_error};
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

/// The old spelling of a cache whose remedy is libvirt's rule.
const REFRESH_LIBVIRT: &str = "refresh-libvirt";

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
    /// one. A value with a `/` in it is the path of such a file, which is then read alone. Its stamp
    /// and its answers are those of that path: the name has the directory's number, as in
    /// `gst-1b2e9c04`.
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
            let file = format!("/etc/modstamp/profiles.d/{name}.toml");
            Error::NoProfile(format!(
                "there is no profile “{name}”; write it to {}, or name one of: {}",
                Printable(root.outside(Path::new(&file)).as_os_str()),
                Profile::names(root).join(", ")
            ))
        })?;
        profile.refuse_empty(name)?;
        Ok(profile.without_caches_among_modules())
    }

    /// The built-in profile `name`, whatever files there are. `None` if there is none.
    #[doc(hidden)] // Only the programs use it.
    pub fn built_in(name: &str, root: &Root) -> Option<Profile> {
        let (_, text) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
        let profile = Profile::begin(name, root).ok()?;
        let profile = profile.with(Path::new(name), text).ok()?;
        Some(profile.without_caches_among_modules())
    }

    /// Lists the names of all profiles that [`Profile::load_in`] finds, sorted.
    pub fn names(root: &Root) -> Vec<String> {
        Profile::names_seen(root).0
    }

    /// Like [`Profile::names`], and the directories of profiles that could not be read.
    pub(crate) fn names_seen(root: &Root) -> (Vec<String>, Vec<(PathBuf, io::Error)>) {
        let mut names: Vec<String> = BUILT_IN.map(|(name, _)| name.to_owned()).into();
        let mut unread = Vec::new();
        for directory in directories() {
            let files = match root.names(&directory, Steps::Any) {
                Ok(files) => files,
                Err(stop) if stop.is_missing() => continue,
                Err(stop) => {
                    unread.push((directory, stop.into()));
                    continue;
                }
            };
            for file in files {
                let name = file.to_string_lossy();
                let name = name.strip_suffix(".toml").unwrap_or_default();
                if check_name(name).is_ok() {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        names.dedup();
        (names, unread)
    }

    fn from_file(path: &Path, root: &Root) -> Result<Profile> {
        let profile = Profile::begin(&name_of_file(path), root)?;
        let (file, foreign) = match open_trusted(path) {
            Ok(file) => (file, None),
            Err(problem) => (open_any(path)?, Some(problem)),
        };
        let mut profile = profile.with(path, &read(file, path)?)?;
        profile.foreign = foreign;
        profile.refuse_empty(&path.display().to_string())?;
        Ok(profile.without_caches_among_modules())
    }

    /// This profile, but with each key that the file's text has.
    fn with(mut self, path: &Path, text: &str) -> Result<Profile> {
        let text = Text { path, text };
        let table = DeTable::parse(text.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            text.error(at, format!("{}; write it as TOML", error.message()))
        })?;
        // The old spelling of one of the caches counts after the caches, wherever it stands.
        let (old, keys): (Vec<_>, Vec<_>) =
            (table.get_ref().iter()).partition(|(key, _)| key.get_ref() == REFRESH_LIBVIRT);
        for (key, value) in keys.into_iter().chain(old) {
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
            "cache" => self.caches = ForeignCache::parse_all(text, key, value)?,
            REFRESH_LIBVIRT => {
                self.caches.retain(|cache| cache.remedy != Remedy::Libvirt);
                let is_wanted = text.boolean(key, value)?;
                self.caches.extend(is_wanted.then(ForeignCache::of_libvirt));
            }
            _ => {
                let problem = format!(
                    "there is no key “{name}”; the keys are module-directories, programs, files, \
                     exclude, libraries, manifests, variables, host, cache, {REFRESH_LIBVIRT}"
                );
                return Err(text.error(key.span().start, problem));
            }
        }
        Ok(())
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

/// The name of a profile that is given as a file's path.
///
/// In a directory of profiles it is the file's own. Elsewhere the directory is a part of it, so that
/// two files of one name share neither a stamp nor answers.
fn name_of_file(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    let file = file.unwrap_or_else(|_| path.to_owned());
    let directory = file.parent().unwrap_or(&file);
    if directories().any(|known| known == directory) || stem.is_empty() {
        return stem.into_owned();
    }
    format!(
        "{stem}-{:08x}",
        hash(0, directory.as_os_str().as_bytes()) >> 32
    )
}

/// The directories of profiles, the system's and the user's. The last one counts most.
fn directories() -> impl Iterator<Item = PathBuf> {
    let user = home_directory("XDG_CONFIG_HOME", ".config");
    let user = user.map(|config| config.join("modstamp/profiles.d"));
    SYSTEM_DIRECTORIES.iter().map(PathBuf::from).chain(user)
}

/// The files of the profile `name` in the root directory. Each replaces keys of those before it.
///
/// # Errors
/// If the system refuses a look at one.
#[cfg(feature = "cli")]
pub(crate) fn files_of(name: &str, root: &Root) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in directories() {
        let file = directory.join(format!("{name}.toml"));
        match read_below(root, &file) {
            Ok(None) => {}
            Err(error) if error.errno().is_some() => return Err(error),
            Ok(Some(_)) | Err(_) => files.push(file),
        }
    }
    Ok(files)
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

/// Opens a file that the caller named, if nobody else could have written it. The error tells why
/// somebody could. The remedies of such a profile do nothing.
fn open_trusted(path: &Path) -> std::result::Result<OwnedFd, String> {
    let absolute = std::path::absolute(path).map_err(|error| error.to_string())?;
    let system = Root::system().map_err(|error| error.to_string())?;
    let opened = system.read(&absolute, Steps::Trusted);
    opened.map_err(|stop| match stop {
        Stop::Untrusted { culprit, problem } => {
            format!("{} {problem}", Printable(culprit.as_os_str()))
        }
        stop => io::Error::from(stop).to_string(),
    })
}

fn open_any(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        let remedy = "name a file that you can read";
        Error::system("read the profile", path, errno, remedy)
    })
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
