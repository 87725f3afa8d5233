//! The reader: it digests the contents of files and links.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::root::Root;
use crate::files::way::Steps;
use crate::observe::content::{Content, LARGEST_FILE, TOO_LARGE, digest_of_device, half};
use crate::observe::entry::Entry;

/// The extended attributes that count as content: an ACL, and the capabilities of a program.
const ATTRIBUTES: [&CStr; 2] = [c"system.posix_acl_access", c"security.capability"];

/// Room for an ACL of 31 entries, in bytes.
const USUAL_ATTRIBUTE: usize = 256;

/// The longest value of an attribute that the kernel stores, in bytes (xattr(7)).
const LONGEST_ATTRIBUTE: usize = 64 << 10;

/// Reads contents in one root directory, and remembers those that verdicts asked for.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) root: Root,
    /// The contents that verdicts asked for. Any number of them may share one look.
    read: Arc<Mutex<BTreeMap<PathBuf, Content>>>,
}

impl Reader {
    pub(crate) fn new(root: &Root) -> Reader {
        Reader {
            root: root.clone(),
            read: Arc::default(),
        }
    }

    /// The content of `entry`, which is at `path` in the root. Later calls get it from memory.
    pub(crate) fn content(&self, entry: &Entry, path: PathBuf) -> Content {
        if entry.content != Content::Unread {
            return entry.content;
        }
        if let Some(content) = self.known(&path) {
            return content;
        }
        // No lock is held here, so that several threads can read. The first content counts for all.
        let content = self.read(entry.file_type(), &path);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read.entry(path).or_insert(content)
    }

    /// The content at `path`, if somebody asked for it before.
    pub(crate) fn known(&self, path: &Path) -> Option<Content> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.get(path).copied()
    }

    /// Reads the content at `path`, and does not remember it.
    pub(crate) fn read(&self, kind: FileType, path: &Path) -> Content {
        let opened = || self.root.read(path, Steps::Any).map_err(io::Error::from);
        match kind {
            FileType::RegularFile => content(opened().and_then(file_digest)),
            FileType::Symlink => content(link_digest(&self.root, path)),
            FileType::Directory => match directory_digest(&self.root, path) {
                Ok(None) => Content::Nothing,
                Ok(Some(digest)) => content(Ok(digest)),
                Err(error) => content(Err(error)),
            },
            _ => Content::Nothing,
        }
    }
}

/// The content of a link at `path` to a directory which was walked by another name, `first`.
pub(crate) fn content_of_link_alias(root: &Root, path: &Path, first: &Path) -> Content {
    let with_name = |link: blake3::Hash| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(link.as_bytes());
        hasher.update(first.as_os_str().as_bytes());
        hasher.finalize()
    };
    content(link_digest(root, path).map(with_name))
}

fn content(digest: io::Result<blake3::Hash>) -> Content {
    match digest {
        Ok(digest) => Content::Digest(half(digest)),
        Err(error) => Content::unreadable(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// Digests a link: its own text, and the type, permissions, owner and content of its target.
///
/// The content of a directory is its ACL, and that of a device its number.
fn link_digest(root: &Root, path: &Path) -> io::Result<blake3::Hash> {
    let parent = root.place(path.parent().unwrap_or(path), Steps::Any)?;
    let name = path.file_name().unwrap_or(OsStr::new("."));
    let mut hasher = blake3::Hasher::new();
    let text = rustix::fs::readlinkat(&parent, name, Vec::new())?;
    hasher.update(text.as_bytes());
    hasher.update(&[0]);
    let target = match root.place(path, Steps::Any) {
        Ok(target) => target,
        // It leads nowhere, or in a circle: a program can load nothing by it.
        Err(stop) if stop.leads_nowhere() => return Ok(hasher.finalize()),
        Err(stop) => return Err(stop.into()),
    };
    let stat = rustix::fs::fstat(&target)?;
    for field in [stat.st_mode, stat.st_uid, stat.st_gid] {
        hasher.update(&field.to_le_bytes());
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            hasher.update(file_digest(root.read(path, Steps::Any)?)?.as_bytes());
        }
        FileType::Directory => {
            if let Some(digest) = directory_digest(root, path)? {
                hasher.update(digest.as_bytes());
            }
        }
        FileType::CharacterDevice | FileType::BlockDevice => {
            hasher.update(&digest_of_device(stat.st_rdev));
        }
        _ => {}
    }
    Ok(hasher.finalize())
}

/// Digests the ACL of a directory. `None` if it has none.
fn directory_digest(root: &Root, path: &Path) -> io::Result<Option<blake3::Hash>> {
    let directory = root.read(path, Steps::Any)?;
    with_attributes(&[], &directory)
}

/// Digests the bytes of a file, and its ACL and capabilities if it has any.
fn file_digest(fd: OwnedFd) -> io::Result<blake3::Hash> {
    digest_up_to(LARGEST_FILE, fd)
}

/// Like [`file_digest`], for a file of at most `most` bytes.
fn digest_up_to(most: u64, fd: OwnedFd) -> io::Result<blake3::Hash> {
    let stat = rustix::fs::fstat(&fd)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::other("it is no longer a regular file"));
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0; 32 * 1024];
    // A sparse file of any size is made in no time, and some of the kernel's files have no end.
    while stat.st_size as u64 <= most && hasher.count() <= most {
        match rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut buffer))? {
            0 => {
                let bytes = hasher.finalize();
                return Ok(with_attributes(bytes.as_bytes(), &fd)?.unwrap_or(bytes));
            }
            length => hasher.update(&buffer[..length]),
        };
    }
    Err(TOO_LARGE.into())
}

/// The digest of `content` with the attributes that decide about rights. `None` if there are none.
fn with_attributes(content: &[u8], fd: &OwnedFd) -> io::Result<Option<blake3::Hash>> {
    let mut hasher = None;
    for name in ATTRIBUTES {
        if let Some(value) = attribute(fd, name)? {
            let hasher = hasher.get_or_insert_with(|| {
                // No file has bytes with this digest.
                let mut hasher = blake3::Hasher::new_derive_key("modstamp content and attributes");
                hasher.update(content);
                hasher
            });
            hasher.update(name.to_bytes_with_nul());
            hasher.update(&value.len().to_le_bytes());
            hasher.update(&value);
        }
    }
    Ok(hasher.map(|hasher| hasher.finalize()))
}

/// The value of an extended attribute. `None` if there is none, or if its file system has none.
fn attribute(fd: &OwnedFd, name: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    let read = |mut buffer: Vec<u8>| {
        let length = rustix::fs::fgetxattr(fd, name, &mut buffer[..])?;
        buffer.truncate(length);
        Ok(buffer)
    };
    match read(vec![0; USUAL_ATTRIBUTE]) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(Errno::RANGE) => read(vec![0; LONGEST_ATTRIBUTE]).map(Some),
        value => value.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_kernel_that_has_no_end_is_too_large() {
        // Its size is 0 by stat, and it has eight bytes for each page that there could be.
        let endless = std::fs::File::open("/proc/self/pagemap").unwrap();
        let error = digest_up_to(64 << 10, endless.into()).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(TOO_LARGE));
    }
}
