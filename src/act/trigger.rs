//! The triggers of package managers: each touches the stamp if a change concerns module
//! directories.
//!
//! A trigger never fails, and never keeps a transaction waiting. It treats everything unknown as a
//! change, such as a path list that never arrives. A needless touch costs a probe. A missing touch
//! costs a wrong answer.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

pub use crate::act::rpm_body::Body;
use crate::files::root::Root;
use crate::ground::error::Result;
use crate::ground::time::Mtime;
use crate::stamp::stamp::Stamp;

/// The longest wait for the next piece of a path list.
const PATIENCE: Duration = Duration::from_secs(10);

/// No path is longer (PATH_MAX). A longer line is judged by its beginning.
const LONGEST_PATH: usize = 4096;

/// The package manager that started the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[non_exhaustive]
pub enum Manager {
    /// Sends the paths on standard input, one a line
    Rpm,
    /// Sends no paths, but the directories that fired, as one argument
    Dpkg,
    /// Sends the paths as rpm does, but without the leading slash
    Pacman,
    /// Sends no paths, but the directories that changed, as arguments
    Apk,
}

/// The reason for a trigger's touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// This path was sent, and lies in a module directory.
    Path(String),
    /// No paths were sent, so every path counts as changed.
    NoPaths,
    /// The paths could not be read to their end, for this reason.
    Unknown(String),
}

/// Runs one trigger: reads the changed paths, and touches the system's stamp of the profile `name`
/// if one of them lies in a module directory.
///
/// `covers` tells whether a path does. `touch` gets the stamp, the author and the reason. It
/// returns the new mtime, or `None` if there was nothing to touch. `directories` are the manager's
/// arguments. Standard input is read only for managers that send paths on it. Never fails: returns
/// warnings for people, one sentence each.
pub fn run(
    manager: Manager,
    root: &Root,
    name: &str,
    covers: impl Fn(&Path) -> bool,
    directories: &[OsString],
    touch: impl FnOnce(&Stamp, &str, &str) -> Result<Option<Mtime>>,
) -> Vec<String> {
    let cause = match manager {
        Manager::Rpm => read_paths(covers, rustix::stdio::stdin(), PATIENCE),
        Manager::Pacman => {
            let cause = read_paths(covers, rustix::stdio::stdin(), PATIENCE);
            // pacman, unlike rpm, takes a reader that leaves early for an error.
            while let Ok(Some(1..)) =
                read_within(rustix::stdio::stdin(), &mut [0; 8 * 1024], PATIENCE)
            {}
            cause
        }
        Manager::Dpkg | Manager::Apk => Some(fired(covers, directories)),
    };
    let Some(cause) = cause else {
        return Vec::new();
    };
    let touched = Stamp::system(root, name)
        .and_then(|stamp| touch(&stamp, &manager.to_string(), &cause.to_string()));
    let mut warnings = Vec::new();
    if let (Cause::Unknown(why), Ok(Some(_)) | Err(_)) = (&cause, &touched) {
        warnings.push(format!("touching the stamp to be safe: {why}"));
    }
    warnings.extend(touched.err().map(|error| error.to_string()));
    warnings
}

/// Reads paths, one a line, until `covers` accepts one. `None` if it accepts none of those that
/// came.
///
/// A path without the leading slash begins at the root. The rest of the list is not read, because
/// rpm accepts a reader that leaves early (`runExtScript`, lib/rpmscript.c). Waits at most
/// `patience` for the next piece.
pub fn read_paths(
    covers: impl Fn(&Path) -> bool,
    input: impl AsFd,
    patience: Duration,
) -> Option<Cause> {
    let mut line = Vec::new();
    let mut any = false;
    let mut buffer = [0; 8 * 1024];
    loop {
        let length = match read_within(&input, &mut buffer, patience) {
            Ok(Some(length)) => length,
            Ok(None) => {
                let seconds = patience.as_secs();
                return Some(Cause::Unknown(format!(
                    "no paths came for {seconds} seconds"
                )));
            }
            // There is no standard input, or it cannot be read.
            Err(_) if !any => return Some(Cause::NoPaths),
            Err(errno) => {
                return Some(Cause::Unknown(format!("the paths cannot be read: {errno}")));
            }
        };
        let mut pieces = buffer[..length].split(|byte| *byte == b'\n');
        let mut piece = pieces.next();
        while let Some(bytes) = piece {
            let room = LONGEST_PATH.saturating_sub(line.len());
            line.extend_from_slice(&bytes[..bytes.len().min(room)]);
            piece = pieces.next();
            if (piece.is_some() || length == 0) && !line.is_empty() {
                any = true;
                let path = Path::new("/").join(OsStr::from_bytes(&line));
                if covers(&path) {
                    return Some(Cause::Path(path.display().to_string()));
                }
                line.clear();
            }
        }
        if length == 0 {
            return (!any).then_some(Cause::NoPaths);
        }
    }
}

/// Finds the cause by the arguments alone.
///
/// dpkg's triggered postinst gets the directories that fired as one argument, separated by spaces.
/// apk's trigger script gets an argument for each.
fn fired(covers: impl Fn(&Path) -> bool, directories: &[OsString]) -> Cause {
    match names(directories).find(|path| covers(path)) {
        Some(path) => Cause::Path(path.display().to_string()),
        // The trigger's package chose what fires it, so every firing counts.
        None => Cause::NoPaths,
    }
}

/// The directories in the arguments. An argument may have several, separated by spaces (dpkg).
pub fn names(directories: &[OsString]) -> impl Iterator<Item = &Path> {
    let names = directories
        .iter()
        .flat_map(|names| names.as_bytes().split(|byte| *byte == b' '));
    names.map(|name| Path::new(OsStr::from_bytes(name)))
}

/// Reads once. `None` if nothing came in time.
fn read_within(
    input: impl AsFd,
    buffer: &mut [u8],
    patience: Duration,
) -> rustix::io::Result<Option<usize>> {
    let start = Instant::now();
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&input, PollFlags::IN)];
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) | Err(_) => {}
        }
        match rustix::io::read(&input, &mut *buffer) {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) if !left.is_zero() => continue,
            result => return result.map(Some),
        }
    }
}

/// Opens `/dev/null` for each standard descriptor that is closed.
///
/// Otherwise a file that is opened later gets that number, and a warning is written into it.
pub fn fill_standard_descriptors() {
    use rustix::fs::{Mode, OFlags};
    while let Ok(fd) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let fd: OwnedFd = fd;
        if fd.as_raw_fd() > 2 {
            return;
        }
        std::mem::forget(fd);
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Manager::Rpm => "rpm",
            Manager::Dpkg => "dpkg",
            Manager::Pacman => "pacman",
            Manager::Apk => "apk",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Path(path) => write!(f, "{path} came, went or was replaced"),
            Cause::NoPaths => {
                f.write_str("files in a module directory came, went or were replaced")
            }
            Cause::Unknown(why) => f.write_str(why),
        }
    }
}
