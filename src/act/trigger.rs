//! What package managers start: touches the stamp if a change concerns the profile's module directories.
//!
//! A trigger never fails and never keeps a transaction waiting. Whatever it cannot know (a profile that cannot be read,
//! a path list that does not come) it takes for a change: a touch too many costs a probe, one too few a wrong answer.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::files::root::Root;
use crate::ground::error::Result;
use crate::ground::time::Mtime;
use crate::stamp::stamp::{Durability, Stamp};

/// Nothing sends a path list more slowly than this, from one piece to the next.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longer than any path (PATH_MAX). What is longer is judged by its beginning.
const LONGEST_PATH: usize = 4096;

/// The package manager that started the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Manager {
    /// rpm: sends the paths on standard input, one a line, or closes it at once where it has none to send.
    Rpm,
    /// dpkg: sends no paths. Its postinst gets the directories that fired as an argument.
    Dpkg,
    /// pacman: sends paths as rpm does, without the leading slash (alpm-hooks(5), `NeedsTargets`).
    Pacman,
    /// apk: sends no paths. Its trigger script gets the directories that changed as arguments.
    Apk,
}

/// What the body of one of rpm's triggers asks for.
///
/// rpm passes no arguments to a trigger's interpreter but the path of a file with the scriptlet's body, and counts. So the
/// body is the arguments:
///
/// ```text
/// %filetriggerin -p /usr/libexec/modstamp/rpm-trigger -- /usr/lib64/qemu
/// --profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm
/// ```
#[derive(Debug)]
pub struct Body {
    /// The profile's name; "qemu" where the body has none.
    pub profile: String,
    /// Whether a touch is to be on disk when it is done.
    pub durability: Durability,
    /// The module directories.
    pub directories: Vec<PathBuf>,
    /// What is wrong with it, one sentence each.
    pub warnings: Vec<String>,
}

impl Body {
    /// Reads the body from the file `script`. What cannot be read asks for a touch.
    pub fn read(script: Option<OsString>) -> Body {
        let mut body = Body {
            profile: "qemu".to_owned(),
            durability: Durability::Synced,
            directories: Vec::new(),
            warnings: Vec::new(),
        };
        let text = match script.map(std::fs::read_to_string) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                let warning = format!("cannot read the body of rpm's trigger: {error}");
                body.warnings.push(warning);
                return body;
            }
            None => return body,
        };
        // A comment between the section and the next one is in the body, too.
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut words = lines.flat_map(str::split_whitespace);
        while let Some(word) = words.next() {
            match word {
                "--no-sync" => body.durability = Durability::NotSynced,
                "--profile" => body.profile = words.next().unwrap_or(&body.profile).to_owned(),
                _ if word.starts_with('/') => body.directories.push(word.into()),
                _ => body.warnings.push(format!(
                    "the body of rpm's trigger has “{word}”; it may have --profile NAME, --no-sync and directories"
                )),
            }
        }
        body
    }
}

/// Why a trigger touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// This path, which was sent, lies in a module directory.
    Path(String),
    /// No paths were sent, so every one is meant.
    NoPaths,
    /// Whether a path would have come cannot be known.
    Unknown(String),
}

/// What a trigger did.
#[derive(Debug)]
pub struct Done {
    /// Why it touched, or tried to; `None` where nothing sent lies in a module directory.
    pub cause: Option<Cause>,
    /// The stamp's new mtime; `None` where nothing sent lies in a module directory, or where the touch failed.
    pub touched: Option<Mtime>,
    /// What a person should know of, one sentence each.
    pub warnings: Vec<String>,
}

/// Runs one trigger: reads the paths that `manager` sent, and has `touch` touch the system's stamp of the profile `name` if
/// `covers` says of one that it lies in a module directory. `touch` gets the stamp, who touches it, and why.
///
/// `directories` are the ones that fired, where the manager passes them as arguments; standard input is read only for
/// managers that send paths on it. Never fails: trouble is in [`Done::warnings`].
pub fn run(
    manager: Manager,
    root: &Root,
    name: &str,
    covers: impl Fn(&Path) -> bool,
    directories: &[OsString],
    touch: impl FnOnce(&Stamp, &str, &str) -> Result<Mtime>,
) -> Done {
    let mut warnings = Vec::new();
    let cause = match manager {
        Manager::Rpm => read_paths(covers, rustix::stdio::stdin(), PATIENCE),
        Manager::Pacman => {
            let cause = read_paths(covers, rustix::stdio::stdin(), PATIENCE);
            // Unlike rpm, pacman calls it an error when a reader leaves early.
            while let Ok(Some(1..)) =
                read_within(rustix::stdio::stdin(), &mut [0; 8 * 1024], PATIENCE)
            {}
            cause
        }
        Manager::Dpkg | Manager::Apk => Some(fired(covers, directories)),
    };
    if let Some(Cause::Unknown(why)) = &cause {
        warnings.push(format!("touching the stamp to be safe: {why}"));
    }
    let touched = cause.as_ref().and_then(|cause| {
        let touched = Stamp::system(root, name)
            .and_then(|stamp| touch(&stamp, &manager.to_string(), &cause.to_string()));
        touched
            .map_err(|error| warnings.push(error.to_string()))
            .ok()
    });
    Done {
        cause,
        touched,
        warnings,
    }
}

/// Reads paths, one a line, until `covers` one; `None` where there were some and it covers none. A path without the leading
/// slash is taken from the root.
///
/// Stops at the first that does: rpm puts up with a reader that leaves early (`runExtScript`, lib/rpmscript.c). Waits no
/// longer than `patience` for the next piece.
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
            // Nothing at all was sent: there is no standard input, or it is not readable.
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

/// What the arguments say: dpkg's triggered postinst has the directories that fired in one, separated by spaces, and apk's
/// trigger script one argument for each.
fn fired(covers: impl Fn(&Path) -> bool, directories: &[OsString]) -> Cause {
    match names(directories).find(|path| covers(path)) {
        Some(path) => Cause::Path(path.display().to_string()),
        // What to fire for is said by the package of the trigger: whatever fired is meant to touch.
        None => Cause::NoPaths,
    }
}

/// The single directories in arguments that each may have several, separated by spaces, as dpkg passes them.
pub fn names(directories: &[OsString]) -> impl Iterator<Item = &Path> {
    let names = directories
        .iter()
        .flat_map(|names| names.as_bytes().split(|byte| *byte == b' '));
    names.map(|name| Path::new(OsStr::from_bytes(name)))
}

/// Reads once; `None` where nothing came in time.
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

/// Opens `/dev/null` for each of the three standard descriptors that is closed, so that no file that is opened later
/// gets its number, and a warning is not written into it.
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
