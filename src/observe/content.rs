//! What is inside a file, a link or a directory, as a digest.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

/// What is inside something, as far as somebody read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nobody read it.
    Unread,
    /// There is nothing to read in a directory, a FIFO, a socket or a device.
    Nothing,
    /// The first half of a BLAKE3 digest: of a file's bytes, or of a link's text and its target.
    Digest([u8; 16]),
    /// The number of the error that the system gave.
    Unreadable(i32),
}

impl Content {
    /// The content of a file of that type before somebody read it.
    pub(crate) fn unread(kind: FileType) -> Content {
        match kind {
            FileType::RegularFile | FileType::Symlink => Content::Unread,
            _ => Content::Nothing,
        }
    }

    pub(crate) fn unreadable(errno: Errno) -> Content {
        Content::Unreadable(errno.raw_os_error())
    }
}

/// The digest of a name by which a directory was walked.
pub(crate) fn digest_of_name(name: &Path) -> [u8; 16] {
    half(blake3::hash(name.as_os_str().as_bytes()))
}

pub(crate) fn half(digest: blake3::Hash) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest.as_bytes()[..16]);
    half
}
