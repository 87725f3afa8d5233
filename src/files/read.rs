//! A bounded read: no file, however large, takes all memory.

use alloc::vec::Vec;

use rustix::buffer::spare_capacity;
use rustix::fd::AsFd;
use rustix::io::Errno;

use crate::ground::platform::io;

/// The room that is added to a full buffer. Most files fit into one piece.
const PIECE: usize = 16 << 10;

/// Reads an opened file of at most `most` bytes.
///
/// # Errors
/// The system's error. A longer file gives `EFBIG`, soon after `most` bytes.
pub(crate) fn read_at_most(most: u64, file: impl AsFd) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if bytes.len() == bytes.capacity() {
            bytes.reserve(PIECE);
        }
        match rustix::io::read(&file, spare_capacity(&mut bytes)) {
            Ok(_) if bytes.len() as u64 > most => return Err(Errno::FBIG.into()),
            Ok(0) => return Ok(bytes),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_just_the_bound_is_read_and_a_longer_one_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        let read = |most| read_at_most(most, std::fs::File::open(&path).unwrap());
        assert_eq!(read(4).unwrap(), b"1234");
        assert_eq!(read(3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_of_many_pieces_is_read_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        let bytes: Vec<u8> = (0..5 * PIECE + 7).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let read = |most| read_at_most(most as u64, std::fs::File::open(&path).unwrap());
        assert_eq!(read(bytes.len()).unwrap(), bytes);
        assert!(read(bytes.len() - 1).is_err());
    }
}
