//! Std's names for paths, errors and the process, and their counterparts in a program without std.
//!
//! `cfg(modstamp_no_std)` builds such a program from the same sources: rpm's trigger.

#[cfg(not(modstamp_no_std))]
pub(crate) use with_std::*;
#[cfg(modstamp_no_std)]
pub(crate) use without_std::*;

/// A path as a string of the system.
pub(crate) fn os_str(path: &Path) -> &OsStr {
    path.as_ref()
}

#[cfg(not(modstamp_no_std))]
mod with_std {
    pub(crate) use std::ffi::{OsStr, OsString};
    pub(crate) use std::io;
    pub(crate) use std::os::unix::ffi::{OsStrExt, OsStringExt};
    pub(crate) use std::path::{Path, PathBuf};

    use rustix::fd::BorrowedFd;
    use rustix::io::Errno;

    /// The error's number, if the error is one of the system's.
    pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
        Errno::from_io_error(error)
    }

    /// The first argument of the program.
    pub(crate) fn first_argument() -> Option<OsString> {
        std::env::args_os().nth(1)
    }

    /// The value of an environment variable.
    pub(crate) fn variable(name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    pub(crate) fn stdin() -> BorrowedFd<'static> {
        rustix::stdio::stdin()
    }

    pub(crate) fn stderr() -> BorrowedFd<'static> {
        rustix::stdio::stderr()
    }

    /// Has writes fail instead of sending the signals SIGPIPE and SIGXFSZ.
    #[allow(unsafe_code)] // The standard library cannot ignore a signal.
    pub(crate) fn ignore_signals_of_writes() {
        unsafe extern "C" {
            fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        }
        const SIGPIPE: i32 = 13;
        const SIGXFSZ: i32 = 25;
        extern "C" fn do_nothing(_: i32) {}
        for number in [SIGPIPE, SIGXFSZ] {
            // SAFETY: signal(2) takes any number, and a handler that does nothing may run at any
            // time.
            unsafe { signal(number, do_nothing) };
        }
    }
}

/// A path is bytes here. The crate typed-path has std's rules for paths.
#[cfg(modstamp_no_std)]
mod without_std {
    use alloc::vec::Vec;

    use rustix::io::Errno;

    pub(crate) use crate::ground::start::{
        first_argument, ignore_signals_of_writes, stderr, stdin, variable,
    };

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

        use crate::ground::error_text::error_text;

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
                        write!(f, "{} (os error {number})", error_text(*errno))
                    }
                    Error::Other(problem) => f.write_str(problem),
                }
            }
        }
    }
}
