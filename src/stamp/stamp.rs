//! The stamp: one small file per profile. Its mtime says "something changed".
//!
//! Only the mtime counts, so a plain `touch FILE` by hand is as good as a touch of ours. Ours
//! promises more: each one leaves an mtime that the stamp never had before.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::trust::why_not_believed;
use crate::files::way::{Steps, Stop};
use crate::ground::environment::home_directory;
use crate::ground::error::{Error, Result};
use crate::ground::platform::{OsStr, OsStrExt, Path, PathBuf, io};
use crate::ground::text::Printable;
use crate::ground::time::Mtime;

/// The directory of the system's stamps. Per-user daemons must be able to read it, so it is not
/// below another program's cache.
const SYSTEM_DIRECTORY: &str = "/var/lib/modstamp";

/// In bytes. A touch writes a shorter note.
const LONGEST_NOTE: u64 = 16 << 10;

/// The owner of a stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// `/var/lib/modstamp/<profile>.stamp`: root's, which counts for everybody.
    System,
    /// `$XDG_STATE_HOME/modstamp/<profile>.stamp`: a user's own, which also counts for that user.
    User,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::System => "system",
            Owner::User => "user",
        })
    }
}

/// When a touch must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Before [`Stamp::touch`] returns: a power cut afterwards does not undo it.
    Synced,
    /// Whenever the system, or a later synced touch, writes it out.
    NotSynced,
}

impl Durability {
    /// Puts a file or directory on disk, if it has to be there now.
    pub(crate) fn sync(self, file: impl AsFd) -> rustix::io::Result<()> {
        match self {
            Durability::Synced => rustix::fs::fsync(file),
            Durability::NotSynced => Ok(()),
        }
    }
}

/// Tells people about the last touch. It is text in the stamp, and nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The mtime that this touch left. If the stamp has another one, somebody touched it since.
    pub mtime: Mtime,
    /// The clock's time in UTC. The mtime can be later: it never goes back with the clock.
    pub when: String,
    /// The author of the touch, for example "rpm" or "root".
    pub by: String,
    /// The reason in a few words.
    pub why: String,
}

/// One profile's stamp: the system's, or a user's own.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub(crate) root: Root,
    pub(crate) directory: PathBuf,
    /// In that directory. Each check of the stamps needs it.
    file: PathBuf,
    profile: String,
    owner: Owner,
}

impl Stamp {
    /// The system's stamp of a profile, `/var/lib/modstamp/<profile>.stamp` in `root`.
    ///
    /// # Errors
    /// If `profile` cannot be the name of a profile.
    pub fn system(root: &Root, profile: &str) -> Result<Stamp> {
        check_name(profile)?;
        let directory = PathBuf::from(SYSTEM_DIRECTORY);
        Ok(Stamp::new(root, directory, profile, Owner::System))
    }

    /// The caller's own stamp of a profile, `$XDG_STATE_HOME/modstamp/<profile>.stamp` in `root`.
    ///
    /// The variable defaults to `$HOME/.local/state` (XDG Base Directory Specification). `None` if
    /// neither variable is set.
    ///
    /// # Errors
    /// Like [`Stamp::system`].
    pub fn user(root: &Root, profile: &str) -> Result<Option<Stamp>> {
        check_name(profile)?;
        Ok(user_directory().map(|directory| Stamp::new(root, directory, profile, Owner::User)))
    }

    /// The stamp that a touch by the caller moves.
    ///
    /// For root, and in any root directory but `/`, it is the system's. For everybody else it is
    /// their own.
    ///
    /// # Errors
    /// Like [`Stamp::system`].
    pub fn own(root: &Root, profile: &str) -> Result<Stamp> {
        let system = Stamp::system(root, profile)?;
        if rustix::process::geteuid().is_root() || !root.is_system() {
            return Ok(system);
        }
        Ok(Stamp::user(root, profile)?.unwrap_or(system))
    }

    fn new(root: &Root, directory: PathBuf, profile: &str, owner: Owner) -> Stamp {
        Stamp {
            root: root.clone(),
            file: directory.join(format!("{profile}.stamp")),
            directory,
            profile: profile.to_owned(),
            owner,
        }
    }

    /// The owner of the stamp.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The stamp's path, as seen from outside the root.
    pub fn path(&self) -> PathBuf {
        self.root.outside(&self.file)
    }

    /// The stamp's path in its root directory.
    pub(crate) fn place(&self) -> &Path {
        &self.file
    }

    /// The stamp's mtime; `None` if there is no stamp.
    ///
    /// # Errors
    /// If the stamp cannot be reached, or is not a regular file. A symbolic link is not followed.
    pub fn mtime(&self) -> Result<Option<Mtime>> {
        let attempt = "read the stamp";
        let remedy = match self.owner {
            Owner::System => "make its directory readable for every user",
            Owner::User => "make its directory readable for you",
        };
        match self.root.stat(&self.file) {
            Ok(None) => Ok(None),
            Ok(Some(stat)) => self.check_kind(&stat).map(|()| Some(Mtime::of(&stat))),
            Err(stop) => Err(stop.into_error(attempt, self.path(), remedy)),
        }
    }

    /// The note of the last touch that wrote one; `None` if there is none that can be read.
    ///
    /// A plain `touch` leaves the note of the touch before it. [`Note::mtime`] then differs from
    /// the stamp's mtime.
    pub fn note(&self) -> Option<Note> {
        let file = self.root.read(&self.file, Steps::Any).ok()?;
        self.check_kind(&rustix::fs::fstat(&file).ok()?).ok()?;
        let bytes = read_at_most(LONGEST_NOTE, file).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.strip_prefix(": ")?.to_owned())
        };
        Some(Note {
            mtime: field("mtime")?.parse().ok()?,
            when: field("when")?,
            by: field("by")?,
            why: field("why")?,
        })
    }

    /// The profiles whose system's stamp exists in `root`.
    ///
    /// # Errors
    /// If the directory of the stamps cannot be read.
    pub(crate) fn all_of_system(root: &Root) -> Result<Vec<String>> {
        profiles_in(root, Path::new(SYSTEM_DIRECTORY), ".stamp", Steps::Any)
    }

    /// An owner's stamps that have a file with that extension, such as `.log`, beside them.
    ///
    /// # Errors
    /// If the directory of the stamps cannot be read, or if somebody else could bend the way to it.
    pub(crate) fn all_beside(root: &Root, owner: Owner, extension: &str) -> Result<Vec<Stamp>> {
        let directory = match owner {
            Owner::System => Some(PathBuf::from(SYSTEM_DIRECTORY)),
            Owner::User => user_directory(),
        };
        let Some(directory) = directory else {
            return Ok(Vec::new());
        };
        if matches!(root.stat(&directory), Ok(None)) {
            return Ok(Vec::new()); // Whatever could have been there.
        }
        let profiles = profiles_in(root, &directory, extension, Steps::Trusted)?.into_iter();
        let profiles = profiles.filter(|profile| check_name(profile).is_ok());
        let stamp = |profile: String| Stamp::new(root, directory.clone(), &profile, owner);
        Ok(profiles.map(stamp).collect())
    }

    /// The name of the stamp's profile.
    #[doc(hidden)] // Only the programs use it.
    pub fn profile(&self) -> &str {
        &self.profile
    }

    /// The stamp's own name in its directory.
    pub(crate) fn name(&self) -> String {
        self.name_beside("stamp")
    }

    /// The name of this profile's file with an extension, in the stamp's directory.
    #[inline(never)] // rpm's program has to stay small.
    pub(crate) fn name_beside(&self, extension: &str) -> String {
        format!("{}.{extension}", self.profile)
    }

    /// Opens a file beside the stamp for reading. Refuses one that somebody else could have written.
    pub(crate) fn open_beside(&self, extension: &str) -> core::result::Result<OwnedFd, Stop> {
        let path = self.directory.join(self.name_beside(extension));
        let file = self.root.read(&path, Steps::Trusted)?;
        match why_not_believed(&rustix::fs::fstat(&file)?) {
            None => Ok(file),
            Some(problem) => Err(Stop::Untrusted {
                culprit: self.root.outside(&path),
                problem,
            }),
        }
    }

    /// Whether a name is that of this profile's stamp, or of a file that is kept beside it.
    pub(crate) fn is_beside(&self, name: &OsStr) -> bool {
        let extensions = ["stamp", "witness", "libvirt", "remedies", "log"];
        extensions
            .iter()
            .any(|it| name.as_bytes() == self.name_beside(it).as_bytes())
    }

    /// The name of the lock by which touches take turns.
    pub(crate) fn lock_name(&self) -> String {
        format!(".{}.lock", self.profile)
    }

    /// The name of the lock by which the commands of remedies take turns.
    pub(crate) fn commands_lock_name(&self) -> String {
        format!(".{}.remedies.lock", self.profile)
    }

    /// Refuses a stamp that is not a regular file.
    pub(crate) fn check_kind(&self, stat: &Stat) -> Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(()),
            FileType::Symlink => "symbolic link",
            FileType::Directory => "directory",
            FileType::Fifo => "FIFO",
            FileType::Socket => "socket",
            _ => "device",
        };
        Err(Error::NotAStamp {
            path: self.path(),
            kind,
        })
    }

    /// The error of a touch that the system refused.
    pub(crate) fn refused(&self, errno: Errno) -> Error {
        let remedy = match errno {
            Errno::NOSPC | Errno::DQUOT => "make room on its file system and touch again",
            Errno::FBIG => "raise “ulimit -f” and touch again",
            Errno::ROFS => {
                "touch again once its file system can be written; checks look at the modules themselves"
            }
            _ => self.owner_remedy(),
        };
        Error::system("touch the stamp", self.path(), errno, remedy)
    }

    /// The error of a touch that modstamp itself refused because of a problem of the stamp.
    pub(crate) fn not_moved(&self, problem: String) -> Error {
        let (cause, remedy) = (io::Error::other(problem), self.owner_remedy());
        Error::system("touch the stamp", self.path(), cause, remedy)
    }

    /// The error of a touch that moved the stamp, but could not put that on disk.
    pub(crate) fn not_on_disk(&self, cause: impl Into<io::Error>) -> Error {
        let remedy = "it was touched, but a power cut may undo that; touch again";
        Error::system("put on disk the touch of", self.path(), cause, remedy)
    }

    /// The remedy if the stamp's directory cannot be made or written.
    pub(crate) fn owner_remedy(&self) -> &'static str {
        match self.owner {
            Owner::System => "run as root, on a directory that root can write",
            Owner::User => "make its directory one that you can write",
        }
    }
}

/// The directory of the caller's own stamps (XDG Base Directory Specification).
fn user_directory() -> Option<PathBuf> {
    let state = home_directory("XDG_STATE_HOME", ".local/state");
    state.map(|state| state.join("modstamp"))
}

/// The profiles that have a file with that extension in a directory.
fn profiles_in(
    root: &Root,
    directory: &Path,
    extension: &str,
    steps: Steps,
) -> Result<Vec<String>> {
    let names = match root.names(directory, steps) {
        Ok(names) => names,
        Err(Stop::System(Errno::NOENT)) => Vec::new(),
        Err(stop) => {
            let (path, remedy) = (root.outside(directory), "make it readable for its owner");
            return Err(stop.into_error("read the directory", path, remedy));
        }
    };
    let mut profiles = Vec::new();
    for name in names {
        let name = core::str::from_utf8(name.as_bytes()).ok();
        if let Some(profile) = name.and_then(|name| name.strip_suffix(extension)) {
            profiles.push(profile.to_owned());
        }
    }
    Ok(profiles)
}

/// Refuses a name that no profile may have, because it becomes part of file names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(is_good) {
        return Err(Error::NoProfile(format!(
            "“{}” cannot be a profile's name; use letters, digits, “-”, “_”, “.” and “+”, as in “qemu”",
            Printable(name.as_ref())
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_a_refused_touch_fits_its_cause() {
        let scratch = tempfile::tempdir().unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let stamp = Stamp::system(&root, "qemu").unwrap();
        let causes = [
            (Errno::NOSPC, "make room on its file system"),
            (Errno::DQUOT, "make room on its file system"),
            (Errno::FBIG, "raise “ulimit -f”"),
            (Errno::ROFS, "once its file system can"),
            (Errno::ACCESS, "run as root"),
        ];
        for (cause, remedy) in causes {
            let error = stamp.refused(cause).to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }
}
