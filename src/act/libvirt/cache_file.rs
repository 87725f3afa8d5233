//! A file of libvirt's cache: what libvirt learnt from one program, and by what it will tell that it still holds.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_xml::events::Event;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use sha2::{Digest, Sha256};

use crate::act::libvirt::Kind;
use crate::files::directory::{for_each_name, os};
use crate::files::root::{Root, Steps};
use crate::ground::error::{Error, Result};
use crate::ground::text::Printable;
use crate::stamp::stamp::Owner;

/// libvirt's files are up to 1 MB. What is much larger is something else, and is not read.
const MOST_BYTES: u64 = 4 << 20;

/// No path is longer (PATH_MAX).
const LONGEST_PATH: usize = 4096;

/// What is wrong with a file is told in so many characters.
const LONGEST_SENTENCE: usize = 300;

/// libvirt knows some 30 emulators. More files than this are not looked at.
const MOST_FILES: usize = 1000;

/// No element of libvirt's is further down than a few.
const MOST_LEVELS: usize = 64;

/// A cache directory of libvirt's: of one kind, and one daemon's.
pub(crate) struct CacheDirectory {
    /// As somebody outside the root sees it.
    pub(crate) path: PathBuf,
    pub(crate) owner: Owner,
    pub(crate) kind: &'static Kind,
    fd: OwnedFd,
}

/// One file of libvirt's cache.
pub struct CacheFile {
    directory: Arc<CacheDirectory>,
    name: String,
    stat: Stat,
    recorded: std::result::Result<Recorded, String>,
}

/// What libvirt noted down of the time of its probe: before the probe of a QEMU (`virQEMUCapsNewForBinaryInternal`), of nbdkit
/// also after it (`qemuNbdkitCapsQuery`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The program that was asked.
    pub program: PathBuf,
    /// The program's ctime, in whole seconds since 1970.
    pub program_ctime: i64,
    /// The mtimes of the module directories, in whole seconds since 1970, with their paths where the file says them.
    /// 0 where there was no directory that is named; none where there was none of QEMU's, or before libvirt 6.8.
    pub directories: Vec<(Option<PathBuf>, i64)>,
    /// The latest ctime of libvirt's own files, in whole seconds since 1970.
    pub self_ctime: i64,
    /// libvirt's version: 9000000 is 9.0.0, 11003002 is 11.3.2.
    pub self_version: i64,
}

impl CacheDirectory {
    /// The cache directories of `kind` that there are for the caller: the system daemon's and the caller's own.
    ///
    /// The second value has what stands in the way of looking at one.
    pub(crate) fn all(
        root: &Root,
        kind: &'static Kind,
    ) -> (Vec<CacheDirectory>, Vec<(Owner, Error)>) {
        let (mut found, mut errors) = (Vec::new(), Vec::new());
        let user = crate::ground::environment::home_directory("XDG_CACHE_HOME", ".cache");
        let system = (Owner::System, PathBuf::from("/var/cache"), "libvirt/qemu");
        let user = user.map(|cache| (Owner::User, cache, "libvirt/qemu/cache"));
        for (owner, top, below) in [system].into_iter().chain(user) {
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

    /// All cache files in it, sorted by program.
    pub(crate) fn files(self) -> Result<Vec<CacheFile>> {
        let failed = |errno: rustix::io::Errno| {
            let remedy = "make it readable, or ask as its owner";
            Error::system("list libvirt's cache", &self.path, errno, remedy)
        };
        let mut names = Vec::new();
        for_each_name(self.fd.as_fd(), |name| names.push(os(name).to_owned())).map_err(failed)?;
        let directory = Arc::new(self);
        let mut files: Vec<CacheFile> = names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| name.ends_with(".xml"))
            .take(MOST_FILES)
            .filter_map(|name| CacheFile::read(&directory, name))
            .collect();
        files.sort_by_cached_key(CacheFile::title);
        Ok(files)
    }
}

/// Opens the directory `top/below`, and follows no link below `top`: `/var/cache/libvirt/qemu` can belong to the user
/// that QEMU runs as. `None` where there is none.
fn open(root: &Root, top: &Path, below: &Path) -> std::io::Result<Option<OwnedFd>> {
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
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
    }
    Ok(Some(here))
}

impl CacheFile {
    /// `None` where it is gone since it was listed.
    fn read(directory: &Arc<CacheDirectory>, name: String) -> Option<CacheFile> {
        let stat = rustix::fs::statat(&directory.fd, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let recorded = read(directory, &name, &stat);
        Some(CacheFile {
            directory: Arc::clone(directory),
            name,
            stat,
            recorded: recorded.map_err(|error| error.chars().take(LONGEST_SENTENCE).collect()),
        })
    }

    /// Where it is, as somebody outside the root sees it.
    pub fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    /// Whose daemon's it is.
    pub fn owner(&self) -> Owner {
        self.directory.owner
    }

    /// When libvirt wrote it, in seconds since 1970.
    pub fn written(&self) -> i64 {
        self.stat.st_mtime
    }

    /// What it says of the time of its probe, or a sentence that tells why that cannot be known.
    pub fn recorded(&self) -> std::result::Result<&Recorded, &str> {
        self.recorded.as_ref().map_err(String::as_str)
    }

    /// What people know it by, as a terminal may have it: the program that was asked, or the file's own path where it does
    /// not say.
    pub fn title(&self) -> String {
        let path = self
            .recorded
            .as_ref()
            .map(|recorded| recorded.program.clone());
        let path = path.unwrap_or_else(|_| self.path());
        Printable(path.as_os_str()).to_string()
    }

    /// Removes it: libvirt then probes again, once a daemon that has the answer in memory has ended. A link is not
    /// followed, and a file of somebody else's is left alone.
    ///
    /// # Errors
    /// Where it is not a regular file of the caller's own, or cannot be removed.
    pub(crate) fn remove(&self, dry_run: bool) -> Result<()> {
        let refused = |cause: std::io::Error| {
            let remedy = "look at it, and remove it by hand if that is right";
            Error::system("remove libvirt's cache file", self.path(), cause, remedy)
        };
        let other = |what: &str| Err(refused(std::io::Error::other(what)));
        if !FileType::from_raw_mode(self.stat.st_mode).is_file() {
            return other("it is not a regular file");
        }
        if self.stat.st_uid != rustix::process::geteuid().as_raw() {
            return other("it belongs to another user");
        }
        if dry_run {
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.directory.fd, &self.name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(refused(errno.into())),
        }
    }
}

/// What is in a file; the error is a sentence.
fn read(
    directory: &CacheDirectory,
    name: &str,
    stat: &Stat,
) -> std::result::Result<Recorded, String> {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err("it is not a regular file".to_owned());
    }
    if stat.st_size as u64 > MOST_BYTES {
        return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory.fd, name, flags, Mode::empty());
    let mut text = Vec::with_capacity(stat.st_size as usize);
    file.map_err(std::io::Error::from)
        .and_then(|file| {
            std::fs::File::from(file)
                .take(MOST_BYTES)
                .read_to_end(&mut text)
        })
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let recorded = parse(directory.kind, &text)?;
    let digest = Sha256::digest(recorded.program.as_os_str().as_encoded_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    match name.strip_suffix(".xml") == Some(&digest) {
        true => Ok(recorded),
        // libvirt looks an answer up by the digest of the program's path (virFileCacheGetFileName).
        false => Err(format!(
            "its name is not the SHA-256 digest of “{}”, the path that it has inside",
            Printable(recorded.program.as_os_str())
        )),
    }
}

/// What a file's text says. Of several elements of one name libvirt takes the first, among the root's own children.
fn parse(kind: &Kind, text: &[u8]) -> std::result::Result<Recorded, String> {
    let mut found = Elements::default();
    let mut reader = quick_xml::Reader::from_reader(text);
    let mut level = 0;
    let mut is_over = false;
    loop {
        let event = reader.read_event();
        match event.map_err(|error| {
            let error = error.to_string();
            let error = Printable(error.as_ref());
            format!("it is not XML as libvirt writes it: {error}")
        })? {
            Event::Start(start) => {
                level += 1;
                found.begin(kind, level, start.local_name().as_ref(), is_over)?;
            }
            Event::Empty(empty) => {
                found.begin(kind, level + 1, empty.local_name().as_ref(), is_over)?;
                found.end(level + 1);
                is_over |= level == 0;
            }
            Event::End(_) => {
                found.end(level);
                level -= 1;
                is_over |= level == 0;
            }
            Event::Text(text) => found.add(&text),
            Event::CData(text) => found.add(&text),
            Event::GeneralRef(name) => {
                let character = match name.resolve_char_ref() {
                    Ok(Some(character)) => Some(character.to_string()),
                    _ => std::str::from_utf8(&name)
                        .ok()
                        .and_then(quick_xml::escape::resolve_predefined_entity)
                        .map(str::to_owned),
                };
                let Some(character) = character else {
                    return Err("it has an entity that is not one of XML's own".to_owned());
                };
                found.add(character.as_bytes());
            }
            Event::DocType(_) => return Err("it declares a document type".to_owned()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    if level > 0 || !is_over {
        return Err("it is cut off".to_owned());
    }
    let number = |name| {
        found
            .number(name)?
            .ok_or_else(|| format!("it has no element “{name}”"))
    };
    let required = |name| {
        let path = found.text(name)?.map(PathBuf::from);
        path.ok_or_else(|| format!("it has no element “{name}”"))
    };
    let mut directories = Vec::new();
    for (path, mtime) in kind.directories {
        let second = found.number(mtime)?.unwrap_or(0);
        match path {
            Some(path) => directories.push((Some(required(path)?), second)),
            None if second != 0 => directories.push((None, second)),
            None => {}
        }
    }
    Ok(Recorded {
        program: required(kind.program)?,
        program_ctime: number(kind.program_ctime)?,
        directories,
        self_ctime: number("selfctime")?,
        self_version: number("selfvers")?,
    })
}

/// The texts of the elements that count.
#[derive(Default)]
struct Elements {
    found: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the text that comes next belongs to the last one found.
    is_open: bool,
}

impl Elements {
    fn begin(
        &mut self,
        kind: &Kind,
        level: usize,
        name: &[u8],
        is_over: bool,
    ) -> std::result::Result<(), String> {
        if level > MOST_LEVELS {
            return Err(format!(
                "its elements are nested more than {MOST_LEVELS} deep"
            ));
        }
        if level == 1 && (is_over || name != kind.element.as_bytes()) {
            return Err(format!("its one element should be “{}”", kind.element));
        }
        let is_known = self.found.iter().any(|(known, _)| known == name);
        if level == 2 && kind.has(name) && !is_known {
            self.found.push((name.to_owned(), Vec::new()));
            self.is_open = true;
        }
        Ok(())
    }

    fn add(&mut self, text: &[u8]) {
        if let Some((_, known)) = self.found.last_mut().filter(|_| self.is_open) {
            known.extend_from_slice(text);
        }
    }

    fn end(&mut self, level: usize) {
        self.is_open &= level > 2;
    }

    fn text(&self, name: &str) -> std::result::Result<Option<&OsStr>, String> {
        use std::os::unix::ffi::OsStrExt;
        let found = self
            .found
            .iter()
            .find(|(known, _)| known == name.as_bytes());
        match found {
            Some((_, text)) if text.len() > LONGEST_PATH => {
                Err(format!("“{name}” is longer than any path"))
            }
            Some((_, text)) if !text.starts_with(b"/") || text.contains(&0) => {
                Err(format!("“{name}” is no absolute path"))
            }
            found => Ok(found.map(|(_, text)| OsStr::from_bytes(text))),
        }
    }

    fn number(&self, name: &str) -> std::result::Result<Option<i64>, String> {
        let found = self
            .found
            .iter()
            .find(|(known, _)| known == name.as_bytes());
        let Some((_, text)) = found else {
            return Ok(None);
        };
        let number = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok());
        number
            .map(Some)
            .ok_or_else(|| format!("“{name}” is no whole number"))
    }
}
