//! Std's names for paths, errors and the process, and their counterparts in a program without std.
//!
//! `cfg(modstamp_no_std)` builds such a program from the same sources. It is rpm's trigger.

#[cfg(not(modstamp_no_std))]
pub(crate) use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

#[cfg(modstamp_no_std)]
pub(crate) use without_std::*;

/// A path as a string of the system.
pub(crate) fn os_str(path: &Path) -> &OsStr {
    path.as_ref()
}

/// The value of an environment variable.
#[cfg(not(modstamp_no_std))]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The first argument of the program.
#[cfg(not(modstamp_no_std))]
pub(crate) fn first_argument() -> Option<OsString> {
    std::env::args_os().nth(1)
}

/// The system's error, if an error is one.
#[cfg(not(modstamp_no_std))]
pub(crate) fn errno(error: &io::Error) -> Option<rustix::io::Errno> {
    rustix::io::Errno::from_io_error(error)
}

#[cfg(not(modstamp_no_std))]
pub(crate) use rustix::stdio::{stderr, stdin};

/// Has writes fail instead of sending the signals SIGPIPE and SIGXFSZ.
#[cfg(not(modstamp_no_std))]
#[allow(unsafe_code)] // The standard library cannot ignore a signal.
pub(crate) fn ignore_signals_of_writes() {
    unsafe extern "C" {
        fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    }
    const SIGPIPE: i32 = 13;
    const SIGXFSZ: i32 = 25;
    extern "C" fn do_nothing(_: i32) {}
    for number in [SIGPIPE, SIGXFSZ] {
        // SAFETY: signal(2) takes any number, and a handler that does nothing may run at any time.
        unsafe { signal(number, do_nothing) };
    }
}

/// A path is bytes, and the crate typed-path has std's rules for them.
#[cfg(modstamp_no_std)]
mod without_std {
    use alloc::vec::Vec;

    pub(crate) use crate::ground::start::{
        first_argument, ignore_signals_of_writes, stderr, stdin, variable,
    };
    use rustix::io::Errno;

    pub(crate) type OsStr = [u8];
    pub(crate) type OsString = Vec<u8>;
    pub(crate) type Path = typed_path::UnixPath;
    pub(crate) type PathBuf = typed_path::UnixPathBuf;

    pub(crate) trait OsStrExt {
        fn from_bytes(bytes: &[u8]) -> &Self;
        fn as_bytes(&self) -> &[u8];
    }

    impl OsStrExt for OsStr {
        fn from_bytes(bytes: &[u8]) -> &OsStr {
            bytes
        }

        fn as_bytes(&self) -> &[u8] {
            self
        }
    }

    pub(crate) trait OsStringExt {
        fn from_vec(bytes: Vec<u8>) -> Self;
    }

    impl OsStringExt for OsString {
        fn from_vec(bytes: Vec<u8>) -> OsString {
            bytes
        }
    }

    pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
        match error {
            io::Error::System(errno) => Some(*errno),
            io::Error::Other(_) => None,
        }
    }

    /// The part of `std::io` that the library uses in such a program.
    pub(crate) mod io {
        use alloc::string::String;
        use core::fmt;

        use rustix::io::Errno;

        pub(crate) type Result<T> = core::result::Result<T, Error>;

        #[derive(Debug)]
        pub enum Error {
            System(Errno),
            Other(String),
        }

        impl Error {
            pub(crate) fn other(problem: impl Into<String>) -> Error {
                Error::Other(problem.into())
            }
        }

        impl From<Errno> for Error {
            fn from(errno: Errno) -> Error {
                Error::System(errno)
            }
        }

        impl fmt::Display for Error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Error::System(errno) => {
                        let number = errno.raw_os_error();
                        write!(f, "{} (os error {number})", text(*errno))
                    }
                    Error::Other(problem) => f.write_str(problem),
                }
            }
        }

        /// The text of strerror(3) for the errors that a touch can meet.
        fn text(errno: Errno) -> &'static str {
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
    }
}
