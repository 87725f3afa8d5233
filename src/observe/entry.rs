//! An entry: one file, link or directory as it was at one moment.

use std::path::PathBuf;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::observe::content::{Content, digest_of_device};
use crate::observe::evidence::Identity;

/// One file, link or directory as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative to its module directory. Absolute, if it is in none.
    pub(crate) name: PathBuf,
    pub(crate) rights: Rights,
    /// In bytes.
    pub(crate) size: u64,
    /// A link's is that of the link and its target.
    pub(crate) identity: Identity,
    pub(crate) content: Content,
}

/// The type, permissions and owner of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// `st_mode`: type and permissions.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Entry {
    /// Something whose content nobody has read yet.
    pub(crate) fn new(name: PathBuf, stat: &Stat, identity: Identity) -> Entry {
        let rights = Rights::of(stat);
        Entry {
            name,
            rights,
            size: stat.st_size as u64,
            identity,
            content: match rights.is_device() {
                true => Content::Digest(digest_of_device(stat.st_rdev)),
                false => Content::unread(rights.file_type()),
            },
        }
    }

    /// Something that exists, and that a look failed on.
    pub(crate) fn unreadable(name: PathBuf, kind: FileType, errno: Errno) -> Entry {
        Entry {
            name,
            rights: Rights::unknown(kind),
            size: 0,
            identity: Identity::Unknown,
            content: Content::unreadable(errno),
        }
    }

    pub(crate) fn file_type(&self) -> FileType {
        self.rights.file_type()
    }

    /// Whether a look failed on it, so that no more is known than the error.
    pub(crate) fn is_unseen(&self) -> bool {
        self.identity == Identity::Unknown && self.is_unreadable()
    }

    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self.content, Content::Unreadable(_))
    }

    /// Whether stat alone proves that `now` is still the same.
    ///
    /// It proves nothing about an unreadable entry: today's caller may be allowed to read it.
    pub(crate) fn is_proven_same(&self, now: &Entry) -> bool {
        !self.is_unreadable() && self.identity.proves(now.identity)
    }
}

impl Rights {
    pub(crate) fn of(stat: &Stat) -> Rights {
        Rights {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    /// The rights of something that a look failed on. Only its type is known.
    pub(crate) fn unknown(kind: FileType) -> Rights {
        Rights {
            mode: kind.as_raw_mode(),
            uid: 0,
            gid: 0,
        }
    }

    pub(crate) fn file_type(self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(crate) fn is_device(self) -> bool {
        let kind = self.file_type();
        kind.is_char_device() || kind.is_block_device()
    }
}
