//! The triggers of package managers: each touches the stamp if a change concerns module
//! directories.
//!
//! A trigger never fails. One deadline ends all its waiting: for its paths, for a look at the
//! modules and for its turns. It treats everything unknown as a change, such as a path list that
//! never arrives. A needless touch costs a probe. A missing touch costs a wrong answer.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};

pub use crate::act::rpm_body::Body;
use crate::files::root::Root;
use crate::files::way::Steps;
use crate::files::write::write_all;
use crate::ground::error::Result;
use crate::ground::platform::{self, OsStr, OsStrExt, OsString, Path, stderr, stdin};
use crate::ground::text::Sentence;
pub use crate::ground::time::Deadline;
use crate::ground::time::Mtime;
pub use crate::observe::package_manager::Manager;
use crate::stamp::event::{Action, Event};
use crate::stamp::stamp::{Durability, Stamp};

/// No path is longer (PATH_MAX). A longer line is judged by its beginning.
const LONGEST_PATH: usize = 4096;

/// The reason for a trigger's touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// This path was sent, and lies in a module directory.
    Path(String),
    /// No paths were sent. The manager named this module directory.
    Directory(String),
    /// No paths and no module directory were sent, so every path counts as changed.
    NoPaths,
    /// The paths could not be read to their end, for this reason.
    Unknown(String),
}

/// A touch that is due.
#[derive(Debug)]
pub struct Due<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The system's stamp.
    pub stamp: Stamp,
    /// The package manager whose trigger it is. `None` for a person or a program.
    pub manager: Option<Manager>,
    /// The author of the touch.
    pub by: &'a str,
    /// The reason for it.
    pub why: &'a str,
    /// The end of all waiting.
    pub deadline: Deadline,
}

impl<'a> Due<'a> {
    /// A touch by a person or a program. The time for its waiting begins now.
    pub fn now(profile: &'a str, stamp: Stamp, by: &'a str, why: &'a str) -> Due<'a> {
        Due {
            profile,
            stamp,
            manager: None,
            by,
            why,
            deadline: Deadline::of_touch(),
        }
    }
}

impl Due<'_> {
    /// The kind of touch, for the log.
    pub(crate) fn action(&self) -> Action {
        match self.manager {
            Some(_) => Action::Trigger,
            None => Action::Touch,
        }
    }

    /// Touches the stamp alone, for a profile that cannot be loaded. Adds its warnings.
    ///
    /// # Errors
    /// Like [`Stamp::touch`].
    pub fn touch_stamp(
        &self,
        durability: Durability,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Mtime>> {
        let event = Event::begin(self.action(), self.by, self.why);
        let stamp = &self.stamp;
        stamp.touch_for(event, durability, self.deadline, warnings)
    }
}

/// Touches the system's stamp of each of `profiles` if a changed path lies in a module directory.
///
/// `covers` tells whether a path lies in one. `touch` adds its warnings, and returns `None` if
/// there was nothing to touch. `directories` are the manager's arguments. The trigger reads
/// standard input only for a manager that sends paths there. A trigger never fails: it returns
/// warnings for people, one sentence each.
pub fn run(
    manager: Manager,
    root: &Root,
    profiles: &[String],
    covers: impl Fn(&Path) -> bool,
    directories: &[OsString],
    mut touch: impl FnMut(&Due, &mut Vec<String>) -> Result<Option<Mtime>>,
) -> Vec<String> {
    let deadline = Deadline::of_touch();
    let cause = match manager {
        Manager::Rpm => read_paths(covers, stdin(), deadline),
        Manager::Pacman => {
            let cause = read_paths(covers, stdin(), deadline);
            // pacman, unlike rpm, takes a reader that leaves early for an error.
            while let Ok(Some(1..)) = read_by(deadline, stdin(), &mut [0; 8 * 1024]) {}
            cause
        }
        Manager::Dpkg | Manager::Apk => Some(fired(covers, directories)),
    };
    let Some(cause) = cause else {
        return Vec::new();
    };
    let (by, why) = (manager.to_string(), cause.to_string());
    let mut warnings = Vec::new();
    for profile in profiles {
        let touched = Stamp::system(root, profile).and_then(|stamp| {
            let due = Due {
                profile,
                stamp,
                manager: Some(manager),
                by: &by,
                why: &why,
                deadline,
            };
            touch(&due, &mut warnings)
        });
        if let (Cause::Unknown(why), Ok(Some(_)) | Err(_)) = (&cause, &touched) {
            warnings.push(format!("touching the stamp to be safe: {why}"));
        }
        warnings.extend(touched.err().map(|error| error.to_string()));
    }
    warnings
}

/// Reads paths, one a line, until `covers` accepts one. `None` if it accepts none of those that
/// came.
///
/// A path without the leading slash begins at the root. The rest of the list is not read, because
/// rpm accepts a reader that leaves early (`runExtScript`, lib/rpmscript.c). A list that is not
/// finished at the `deadline` is unknown, whether it is slow or has no end.
pub fn read_paths(
    covers: impl Fn(&Path) -> bool,
    input: impl AsFd,
    deadline: Deadline,
) -> Option<Cause> {
    let mut line = Vec::new();
    let mut any = false;
    let mut buffer = [0; 8 * 1024];
    loop {
        let length = match read_by(deadline, &input, &mut buffer) {
            Ok(Some(length)) => length,
            Ok(None) => {
                let why = "the list of changed paths did not end in time";
                return Some(Cause::Unknown(why.to_owned()));
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
        Some(path) => Cause::Directory(path.display().to_string()),
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
fn read_by(
    deadline: Deadline,
    input: impl AsFd,
    buffer: &mut [u8],
) -> rustix::io::Result<Option<usize>> {
    loop {
        let left = deadline.left();
        if left.is_zero() {
            return Ok(None);
        }
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
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
            result => return result.map(Some),
        }
    }
}

/// Whether the administrator may have a file of the profile, in `/etc` or `/run`.
///
/// If the look fails, the file may still exist, so the answer is yes.
pub fn has_administrators_file(root: &Root, profile: &str) -> bool {
    ["/etc", "/run"].iter().any(|top| {
        let path = format!("{top}/modstamp/profiles.d/{profile}.toml");
        match root.place(Path::new(&path), Steps::Any) {
            Ok(_) => true,
            Err(stop) => !stop.is_missing(),
        }
    })
}

/// Has writes fail instead of ending the program: into a pipe that nobody reads (SIGPIPE), and
/// beyond the limit of file sizes (SIGXFSZ, setrlimit(2)). Programs that this one starts inherit
/// that.
pub fn ignore_signals_of_writes() {
    platform::ignore_signals_of_writes();
}

/// Opens `/dev/null` for each standard descriptor that is closed.
///
/// Otherwise a file that is opened later gets that number, and a warning is written into it.
pub fn fill_standard_descriptors() {
    use rustix::fs::{Mode, OFlags};
    let probe: rustix::io::Result<OwnedFd> =
        rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    if probe.is_ok_and(|fd| fd.as_raw_fd() > 2) {
        return;
    }
    while let Ok(fd) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let fd: OwnedFd = fd;
        if fd.as_raw_fd() > 2 {
            return;
        }
        core::mem::forget(fd);
    }
}

/// The first argument of the program.
pub fn first_argument() -> Option<OsString> {
    platform::first_argument()
}

/// Shows a warning on standard error. Nobody can be told if that fails.
pub fn warn(warning: &str) {
    let line = format!("modstamp: warning: {}\n", Sentence(warning));
    let _ = write_all(stderr(), line.as_bytes());
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Path(path) => write!(f, "{path} came, went or was replaced"),
            Cause::Directory(path) => {
                write!(f, "something in {path} came, went or was replaced")
            }
            Cause::NoPaths => {
                f.write_str("files in a module directory came, went or were replaced")
            }
            Cause::Unknown(why) => f.write_str(why),
        }
    }
}
