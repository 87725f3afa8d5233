//! Finds, reads and removes the files of libvirt's cache: one for each program that it probed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::act::libvirt::capabilities::Recorded;
use crate::act::libvirt::kind::Kind;
use crate::files::directory::{for_each_name, open_file, os, stat_at};
use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::files::trust::why_not_believed;
use crate::files::way::Steps;
use crate::ground::environment::home_directory;
use crate::ground::error::{Error, Result};
use crate::ground::text::Printable;
use crate::stamp::stamp::Owner;

/// libvirt's files have up to 1 MB. A much larger file is not libvirt's.
const MOST_BYTES: u64 = 4 << 20;

/// An error about a file's content is cut to this many characters.
const LONGEST_SENTENCE: usize = 300;

/// A cache directory of one daemon, for one kind of program.
pub(crate) struct CacheDirectory {
    /// The path as seen from outside the root.
    path: PathBuf,
    pub(crate) owner: Owner,
    kind: &'static Kind,
    fd: OwnedFd,
}

/// One file of libvirt's cache.
pub struct CacheFile {
    directory: Arc<CacheDirectory>,
    name: OsString,
    stat: Stat,
    content: Content,
}

/// The content of a cache file, or a sentence about the file.
enum Content {
    Recorded(Recorded),
    /// The caller may not read it.
    Closed(String),
    /// It is not a whole cache file of libvirt's.
    Wrong(String),
}

impl From<String> for Content {
    fn from(sentence: String) -> Content {
        Content::Wrong(sentence.chars().take(LONGEST_SENTENCE).collect())
    }
}

impl From<io::Error> for Content {
    fn from(error: io::Error) -> Content {
        match error.kind() {
            io::ErrorKind::FileTooLarge => {
                Content::Wrong(format!("it is larger than {} MiB", MOST_BYTES >> 20))
            }
            io::ErrorKind::PermissionDenied => {
                Content::Closed(format!("it cannot be read: {error}"))
            }
            _ => Content::Wrong(format!("it cannot be read: {error}")),
        }
    }
}

/// Where system daemons keep caches: a distribution's, and one that was built with the prefix
/// /usr/local. Meson then takes /var/local for its state, and other tools /usr/local/var.
const SYSTEM_TOPS: [&str; 3] = ["/var/cache", "/var/local/cache", "/usr/local/var/cache"];

impl CacheDirectory {
    /// Opens the cache directories of `kind`: the system daemons' and the caller's own.
    ///
    /// A missing directory is left out. The second value has one error for each directory that
    /// cannot be opened.
    pub(crate) fn all(
        root: &Root,
        kind: &'static Kind,
    ) -> (Vec<CacheDirectory>, Vec<(Owner, Error)>) {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        let system = SYSTEM_TOPS.map(|top| (Owner::System, PathBuf::from(top), "libvirt/qemu"));
        let user = home_directory("XDG_CACHE_HOME", ".cache");
        let user = user.map(|cache| (Owner::User, cache, "libvirt/qemu/cache"));
        for (owner, top, below) in system.into_iter().chain(user) {
            // Debian's /var/local can be written by a group. Without a cache there, that is no matter.
            let is_usual = owner == Owner::User || top == Path::new(SYSTEM_TOPS[0]);
            let is_missing = |path: &Path| matches!(root.place(path, Steps::Any), Err(stop) if stop.leads_nowhere());
            if !is_usual && is_missing(&top.join(below)) {
                continue;
            }
            let path = root.outside(&top).join(below);
            match open(root, &top, &Path::new(below).join(kind.folder)) {
                Ok(Some(fd)) => found.push(CacheDirectory {
                    path: path.join(kind.folder),
                    owner,
                    kind,
                    fd,
                }),
                Ok(None) => {}
                Err(cause) => {
                    let remedy = match owner {
                        Owner::System => "ask as root to see the system's",
                        Owner::User => "make it a directory of your own",
                    };
                    let error = Error::system("look at libvirt's cache in", path, cause, remedy);
                    errors.push((owner, error));
                }
            }
        }
        (found, errors)
    }

    /// Reads all cache files in the directory, sorted by program.
    ///
    /// The second value has one error for each file that cannot be looked at, and one if the
    /// directory cannot be listed to its end. A file that cannot be read is one of those returned.
    pub(crate) fn files(self) -> (Vec<CacheFile>, Vec<Error>) {
        let (mut names, mut files, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let listed = for_each_name(self.fd.as_fd(), |name| names.push(os(name).to_owned()));
        if let Err(errno) = listed {
            let remedy = "make it readable, or ask as its owner";
            errors.push(Error::system(
                "list libvirt's cache",
                &self.path,
                errno,
                remedy,
            ));
        }
        let directory = Arc::new(self);
        names.retain(|name| name.as_bytes().ends_with(b".xml"));
        for name in names {
            match CacheFile::read(&directory, name) {
                Ok(file) => files.extend(file),
                Err(error) => errors.push(error),
            }
        }
        files.sort_by_cached_key(CacheFile::title);
        (files, errors)
    }
}

/// Opens the directory `top/below`. `None` if it does not exist.
///
/// No link below `top` is followed: `/var/cache/libvirt/qemu` can belong to the user that QEMU
/// runs as.
fn open(root: &Root, top: &Path, below: &Path) -> io::Result<Option<OwnedFd>> {
    let mut here = match root.place(top, Steps::Trusted) {
        Ok(here) => here,
        Err(stop) if stop.is_missing() => return Ok(None),
        Err(stop) => return Err(stop.into()),
    };
    let mut components = below.iter().peekable();
    while let Some(name) = components.next() {
        let access = match components.peek() {
            Some(_) => OFlags::PATH,
            None => OFlags::RDONLY,
        };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        here = match rustix::fs::openat(&here, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
    }
    Ok(Some(here))
}

impl CacheFile {
    /// Reads one file. `None` if it is gone since it was listed.
    fn read(directory: &Arc<CacheDirectory>, name: OsString) -> Result<Option<CacheFile>> {
        let stat = stat_at(&directory.fd, &name).map_err(|errno| {
            let (path, remedy) = (directory.path.join(&name), "look at it, and try again");
            Error::system("look at libvirt's cache file", path, errno, remedy)
        })?;
        Ok(stat.map(|stat| {
            let read = read(directory, &name, &stat);
            CacheFile {
                directory: Arc::clone(directory),
                name,
                stat,
                content: read.map_or_else(|content| content, Content::Recorded),
            }
        }))
    }

    /// The file's path, as seen from outside the root.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    /// Whose daemon keeps the file.
    pub fn owner(&self) -> Owner {
        self.directory.owner
    }

    /// When libvirt wrote the file, in seconds since 1970.
    pub fn written(&self) -> i64 {
        self.stat.st_mtime
    }

    /// The program and the times that libvirt noted down in the file.
    ///
    /// # Errors
    /// A sentence about the file, if it is not a whole cache file of libvirt's.
    pub fn recorded(&self) -> std::result::Result<&Recorded, &str> {
        match &self.content {
            Content::Recorded(recorded) => Ok(recorded),
            Content::Closed(sentence) | Content::Wrong(sentence) => Err(sentence),
        }
    }

    /// Whether only root can read the file, because the system's cache is closed to the caller.
    #[doc(hidden)] // Only the programs use it.
    pub fn is_for_root(&self) -> bool {
        matches!(self.content, Content::Closed(_)) && self.is_foreign()
    }

    /// Whether the file is in the system's cache, and the caller is neither root nor its owner.
    pub(crate) fn is_foreign(&self) -> bool {
        let caller = rustix::process::geteuid();
        self.owner() == Owner::System && !caller.is_root() && self.stat.st_uid != caller.as_raw()
    }

    /// The name that people know the file by, safe for a terminal.
    ///
    /// It is the program that was probed, or the file's own path if the file cannot be read.
    pub fn title(&self) -> String {
        let path = match self.recorded() {
            Ok(recorded) => recorded.program.clone(),
            Err(_) => self.path(),
        };
        Printable(path.as_os_str()).to_string()
    }

    /// Whether [`CacheFile::remove`] would try to remove the file.
    ///
    /// # Errors
    /// If it is not a regular file of the caller's own. A link is never followed.
    pub(crate) fn check_removal(&self) -> Result<()> {
        let refused = |what: &str| Err(self.not_removed(io::Error::other(what)));
        if !FileType::from_raw_mode(self.stat.st_mode).is_file() {
            return refused("it is not a regular file");
        }
        if self.stat.st_uid != rustix::process::geteuid().as_raw() {
            return refused("it belongs to another user");
        }
        Ok(())
    }

    /// Removes the file. A daemon that holds the answer in memory still serves it until it ends.
    ///
    /// # Errors
    /// Like [`CacheFile::check_removal`], and if the system refuses.
    pub(crate) fn remove(&self) -> Result<()> {
        self.check_removal()?;
        match rustix::fs::unlinkat(&self.directory.fd, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.not_removed(errno.into())),
        }
    }

    fn not_removed(&self, cause: io::Error) -> Error {
        let remedy = "look at it, and remove it by hand if that is right";
        Error::system("remove libvirt's cache file", self.path(), cause, remedy)
    }
}

/// Reads the content of a file of root's or the caller's. The error is a sentence about the file.
fn read(
    directory: &CacheDirectory,
    name: &OsStr,
    stat: &Stat,
) -> std::result::Result<Recorded, Content> {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err("it is not a regular file".to_owned().into());
    }
    let file = open_file(&directory.fd, name, OFlags::RDONLY).map_err(io::Error::from)?;
    let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
    // Others may fill the directory with large files, and with lies.
    if let Some(problem) = why_not_believed(&stat) {
        return Err(format!("it {problem}").into());
    }
    let text = read_at_most(MOST_BYTES, file)?;
    let recorded = Recorded::parse(directory.kind, &text)?;
    let digest = Sha256::digest(recorded.program.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    // libvirt finds an answer by the digest of the program's path (virFileCacheGetFileName).
    match name.to_str() == Some(&format!("{digest}.xml")) {
        true => Ok(recorded),
        false => Err(Content::from(format!(
            "its name is not the SHA-256 digest of “{}”, the path that it has inside",
            Printable(recorded.program.as_os_str())
        ))),
    }
}
