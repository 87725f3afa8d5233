//! What is inside a file, a link or a directory, as a digest.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::files::directory::MOST_NAMES;

/// The largest file that is read, in bytes.
pub(crate) const LARGEST_FILE: u64 = 4 << 30;

/// The most entries of one module directory that are looked at.
pub(crate) const MOST_ENTRIES: usize = MOST_NAMES;

/// A directory this far below a module directory is not looked at.
pub(crate) const MOST_LEVELS: usize = 32;

/// Stands in a witness for a file that is larger than [`LARGEST_FILE`].
pub(crate) const TOO_LARGE: Errno = Errno::FBIG;

/// Stands in a witness for a directory with more entries than [`MOST_ENTRIES`].
pub(crate) const TOO_MANY: Errno = Errno::TOOBIG;

/// Stands in a witness for a directory deeper than [`MOST_LEVELS`].
pub(crate) const TOO_DEEP: Errno = Errno::LOOP;

/// Stands in a witness for a directory in which the kernel shows its own state, such as `/proc`.
pub(crate) const NOT_STORED: Errno = Errno::XDEV;

/// Stands in a witness for all libraries, if they were looked for in too many places.
pub(crate) const TOO_MANY_PLACES: Errno = Errno::OVERFLOW;

/// The sentence about an error that a look or a read ended with.
pub(crate) fn error_text(errno: i32) -> String {
    match Errno::from_raw_os_error(errno) {
        TOO_LARGE => format!("it is larger than {} GiB", LARGEST_FILE >> 30),
        TOO_MANY => format!("it holds more than {MOST_ENTRIES} files"),
        TOO_MANY_PLACES => "the look for libraries takes too long".to_owned(),
        TOO_DEEP => format!("it is more than {MOST_LEVELS} directories deep"),
        NOT_STORED => {
            "it is of a file system such as /proc, which stores nothing, and is not looked at"
                .to_owned()
        }
        _ => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

/// What is inside something, as far as somebody read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nobody read it.
    Unread,
    /// There is nothing to read in a FIFO or a socket, or in a directory without an ACL.
    Nothing,
    /// The first half of a BLAKE3 digest: of a file's bytes, ACL and capabilities; of a link's text
    /// and its target; of a directory's ACL; of a device's number.
    Digest([u8; 16]),
    /// The number of the error that the system gave.
    Unreadable(i32),
}

impl Content {
    /// The content of a file of that type before somebody read it.
    pub(crate) fn unread(kind: FileType) -> Content {
        match kind {
            FileType::Fifo | FileType::Socket => Content::Nothing,
            _ => Content::Unread,
        }
    }

    pub(crate) fn unreadable(errno: Errno) -> Content {
        Content::Unreadable(errno.raw_os_error())
    }
}

/// The digest of a device's number. It needs no BLAKE3, because it is no longer than its digest.
pub(crate) fn digest_of_device(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_that_a_directory_was_walked_by_have_different_digests() {
        let digest = |name| digest_of_name(Path::new(name));
        assert_eq!(digest("/usr/lib64/qemu"), digest("/usr/lib64/qemu"));
        assert_ne!(digest("/usr/lib64/qemu"), digest("/usr/lib/qemu"));
    }

    #[test]
    fn two_devices_have_different_digests() {
        assert_ne!(digest_of_device(1), digest_of_device(1 << 40));
    }
}
