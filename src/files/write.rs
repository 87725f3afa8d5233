//! A write of all bytes.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// Writes all of `bytes` to an opened file, by as many writes as it takes.
///
/// # Errors
/// The system's error. A file that takes no byte gives `EIO`.
pub(crate) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
