//! The texts of the system's errors, for a program without libc.

use rustix::io::Errno;

/// The text of strerror(3) for the errors that a touch can meet.
pub(crate) fn error_text(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "Operation not permitted",
        Errno::NOENT => "No such file or directory",
        Errno::IO => "Input/output error",
        Errno::NXIO => "No such device or address",
        Errno::BADF => "Bad file descriptor",
        Errno::AGAIN => "Resource temporarily unavailable",
        Errno::NOMEM => "Cannot allocate memory",
        Errno::ACCESS => "Permission denied",
        Errno::BUSY => "Device or resource busy",
        Errno::EXIST => "File exists",
        Errno::NODEV => "No such device",
        Errno::NOTDIR => "Not a directory",
        Errno::ISDIR => "Is a directory",
        Errno::INVAL => "Invalid argument",
        Errno::NFILE => "Too many open files in system",
        Errno::MFILE => "Too many open files",
        Errno::FBIG => "File too large",
        Errno::NOSPC => "No space left on device",
        Errno::ROFS => "Read-only file system",
        Errno::MLINK => "Too many links",
        Errno::NAMETOOLONG => "File name too long",
        Errno::NOLCK => "No locks available",
        Errno::NOSYS => "Function not implemented",
        Errno::NOTEMPTY => "Directory not empty",
        Errno::LOOP => "Too many levels of symbolic links",
        Errno::OPNOTSUPP => "Operation not supported",
        Errno::TIMEDOUT => "Connection timed out",
        Errno::STALE => "Stale file handle",
        Errno::DQUOT => "Disk quota exceeded",
        _ => "the system refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_that_of_the_c_library() {
        let unknown = error_text(Errno::XFULL);
        let mut known = 0;
        for number in 1..134 {
            let text = error_text(Errno::from_raw_os_error(number));
            if text != unknown {
                let theirs = std::io::Error::from_raw_os_error(number).to_string();
                assert_eq!(format!("{text} (os error {number})"), theirs);
                known += 1;
            }
        }
        assert_eq!(known, 29);
    }
}
