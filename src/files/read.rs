//! A bounded read: no file, however large, takes all memory.

use std::fs::File;
use std::io::{self, Read};

use rustix::io::Errno;

/// Reads an opened file of at most `most` bytes.
///
/// # Errors
/// The system's own. A longer file gives `EFBIG`, after `most` bytes and one.
pub(crate) fn read_at_most(most: u64, file: impl Into<File>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.into().take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(Errno::FBIG.into()),
        false => Ok(bytes),
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
        let read = |most| read_at_most(most, File::open(&path).unwrap());
        assert_eq!(read(4).unwrap(), b"1234");
        let error = read(3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
