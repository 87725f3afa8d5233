//! One file, link or directory as it was seen: its stat identity and, once somebody looked, its content.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::files::root::{Root, Steps, Stop};

/// What was seen at one path.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Relative to its module directory; absolute for what is not in one.
    pub(crate) name: PathBuf,
    /// `st_mode`: type and permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// In bytes.
    pub(crate) size: u64,
    /// The stat identity in 64 bits. For a link, its target's too.
    pub(crate) fingerprint: u64,
    /// Whether an equal fingerprint shows that the content is equal.
    pub(crate) is_evidence: bool,
    pub(crate) content: OnceLock<Content>,
}

/// What stat(2) says of it, without a look at what is inside.
pub(crate) struct Seen {
    pub(crate) stat: Stat,
    /// As [`Entry::fingerprint`].
    pub(crate) fingerprint: u64,
    /// As [`Entry::is_evidence`].
    pub(crate) is_evidence: bool,
    /// Where it is known already.
    pub(crate) content: Option<Content>,
}

/// What is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing that could be read: directories, FIFOs, sockets, devices.
    Nothing,
    /// The first half of the BLAKE3 digest of a file's bytes; of a link's text and what it leads to.
    Digest([u8; 16]),
    /// The error that the system gave.
    Unreadable(i32),
}

impl Seen {
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// It is a directory that was walked by its name `first`, or leads to one.
    pub(crate) fn make_alias(&mut self, first: &Path, root: &Root, path: &Path) {
        self.fingerprint =
            crate::observe::evidence::hash(self.fingerprint, first.as_os_str().as_bytes());
        self.content = Some(match self.file_type() {
            FileType::Symlink => link_digest(root, path).map_or_else(unreadable, |link| {
                let mut hasher = blake3::Hasher::new();
                hasher.update(link.as_bytes());
                hasher.update(first.as_os_str().as_bytes());
                content(hasher.finalize())
            }),
            _ => Content::alias(first),
        });
    }

    /// What is inside cannot be known.
    pub(crate) fn make_unreadable(&mut self, errno: Errno) {
        self.is_evidence = false;
        self.content = Some(Content::unreadable(errno));
    }

    pub(crate) fn entry(self, name: PathBuf) -> Entry {
        Entry {
            name,
            mode: self.stat.st_mode,
            uid: self.stat.st_uid,
            gid: self.stat.st_gid,
            size: self.stat.st_size as u64,
            fingerprint: self.fingerprint,
            is_evidence: self.is_evidence,
            content: self.content.map_or_else(OnceLock::new, OnceLock::from),
        }
    }
}

impl Content {
    pub(crate) fn unreadable(errno: Errno) -> Content {
        Content::Unreadable(errno.raw_os_error())
    }

    /// That of a directory which was walked by its name `first`.
    pub(crate) fn alias(first: &Path) -> Content {
        content(blake3::hash(first.as_os_str().as_bytes()))
    }
}

impl Entry {
    /// What cannot be looked at, and so is never the same as anything.
    pub(crate) fn unreadable(name: PathBuf, kind: FileType, errno: Errno) -> Entry {
        Entry {
            name,
            mode: kind.as_raw_mode(),
            uid: 0,
            gid: 0,
            size: 0,
            fingerprint: 0,
            is_evidence: false,
            content: OnceLock::from(Content::Unreadable(errno.raw_os_error())),
        }
    }

    /// Whether somebody tried to read it and could not.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self.content.get(), Some(Content::Unreadable(_)))
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// The content, read now if nobody did before. `path` is where the entry is in `root`.
    pub(crate) fn content(&self, root: &Root, path: impl FnOnce() -> PathBuf) -> Content {
        *self.content.get_or_init(|| match self.file_type() {
            FileType::RegularFile => match root.read(&path(), Steps::Any) {
                Ok(fd) => digest(fd).map_or_else(unreadable, content),
                Err(stop) => unreadable(stop.into()),
            },
            FileType::Symlink => link_digest(root, &path()).map_or_else(unreadable, content),
            _ => Content::Nothing,
        })
    }
}

/// What a link leads to: its own text, and the type, permissions, owner and content of its target.
fn link_digest(root: &Root, path: &Path) -> io::Result<blake3::Hash> {
    let parent = root.place(path.parent().unwrap_or(path), Steps::Any)?;
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let mut hasher = blake3::Hasher::new();
    let text = rustix::fs::readlinkat(&parent, name, Vec::new())?;
    hasher.update(text.as_bytes());
    hasher.update(&[0]);
    let target = match root.place(path, Steps::Any) {
        Ok(target) => target,
        // It leads nowhere, or in a circle: nothing can be loaded by it.
        Err(Stop::System(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)) => {
            return Ok(hasher.finalize());
        }
        Err(stop) => return Err(stop.into()),
    };
    let stat = rustix::fs::fstat(&target)?;
    for field in [stat.st_mode, stat.st_uid, stat.st_gid] {
        hasher.update(&field.to_le_bytes());
    }
    if FileType::from_raw_mode(stat.st_mode).is_file() {
        hasher.update(digest(root.read(path, Steps::Any)?)?.as_bytes());
    }
    Ok(hasher.finalize())
}

fn digest(fd: OwnedFd) -> io::Result<blake3::Hash> {
    if !FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode).is_file() {
        return Err(io::Error::other("it is no longer a regular file"));
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0; 32 * 1024];
    loop {
        match rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut buffer))? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&buffer[..length]),
        };
    }
}

fn content(hash: blake3::Hash) -> Content {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    Content::Digest(half)
}

fn unreadable(error: io::Error) -> Content {
    Content::Unreadable(
        error
            .raw_os_error()
            .unwrap_or(rustix::io::Errno::IO.raw_os_error()),
    )
}
