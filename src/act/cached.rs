//! A cached answer: one function that keeps a probe's answer in one file of the caller's.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use rustix::io::Errno;

use crate::act::inquiry::{Ask, Inquiry, Standing};
use crate::act::not_kept::NotKept;
use crate::act::shelf::{Holds, Shelf};
use crate::act::stored::{Part, Parts};
use crate::files::root::Root;
use crate::ground::error::Error;
use crate::ground::text::Escaped;
use crate::judge::verdict::Verdict;
use crate::observe::profile::Profile;

/// An answer from [`cached`], and where it came from.
#[derive(Debug)]
pub struct Answer {
    /// The bytes that the probe returned, now or earlier.
    pub bytes: Vec<u8>,
    /// The verdict on the stored answer, with the reasons. If it is fresh, `bytes` is that answer.
    /// `None` if there was no answer, or if it could not be judged.
    pub verdict: Option<Verdict>,
    /// Why the probe's answer was not kept; `None` if it was, or if the stored one was fresh.
    pub not_kept: Option<NotKept>,
}

/// Returns the answer in `file` while it is fresh. Otherwise runs `probe`, keeps its answer and a
/// witness there, and returns the answer with the reasons.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::process::Command;
///
/// let profile = modstamp::Profile::load("qemu")?;
/// let answer = modstamp::cached(&profile, "/var/cache/app/devices", || {
///     let output = Command::new("qemu-system-x86_64").args(["-device", "help"]).output()?;
///     match output.status.success() {
///         true => Ok(output.stdout),
///         false => Err(std::io::Error::other("QEMU failed")),
///     }
/// })?;
/// println!("{}", String::from_utf8_lossy(&answer.bytes));
/// # Ok(())
/// # }
/// ```
///
/// - An answer is kept only if nothing changed while the probe ran.
/// - Concurrent callers, threads as well as processes, share one probe. A lock beside `file` makes
///   them wait. So a probe must not call this for the same file.
/// - An answer is believed only if nobody but the caller and root could have written `file`.
/// - A file that holds something else than an answer is left alone.
/// - One file belongs to one probe. An answer that was moved to another file is asked for again.
/// - If the profile names caches of other programs, they are made good before the probe, like by
///   [`Cache::run`](crate::Cache::run).
/// - A relative `file` is taken from the working directory. A missing directory is made, for the
///   caller alone.
///
/// If the answer cannot be kept, the caller still gets it, and [`Answer::not_kept`] says why.
///
/// # Errors
/// The probe's own. A stored answer then stays as it is.
pub fn cached<B: Into<Vec<u8>>, E>(
    profile: &Profile,
    file: impl AsRef<Path>,
    probe: impl FnOnce() -> Result<B, E>,
) -> Result<Answer, E> {
    let whole = profile;
    let profile = &*profile.with_caches_as_files();
    let (shelf, name) = match place(file.as_ref()) {
        Ok(place) => place,
        Err(error) => return unkept(probe, NotKept::NotWritten(error)),
    };
    // A relative root means another directory once the working directory changes.
    let root = profile.root().outside(Path::new("/"));
    let root = match std::path::absolute(&root) {
        Ok(root) => root,
        Err(cause) => {
            let remedy = "change to a directory that exists and that you may enter";
            let error = Error::system("find the root directory", root, cause, remedy);
            return unkept(probe, NotKept::NotObserved(error));
        }
    };
    // Nobody can put the answer of another file in this one's place, whatever names lead here.
    let directory = shelf.path_of(OsStr::new(""));
    let path = directory.canonicalize().unwrap_or(directory).join(&name);
    let inquiry = Inquiry {
        profile,
        whole,
        command: None,
        ask: Ask::IfNeeded,
        question: format!(
            "{} {}",
            Escaped(root.as_os_str()),
            Escaped(path.as_os_str())
        ),
        shelf: &shelf,
        name,
    };
    let (verdict, due) = match inquiry.look_up() {
        Standing::Due(verdict, due) => (verdict, due),
        Standing::Fresh(stored) => match stored.bytes() {
            Ok(bytes) => return Ok(Answer::fresh(bytes)),
            Err(error) => return unkept(probe, shelf.not_read(&inquiry.name, error)),
        },
    };
    let bytes = probe()?.into();
    let kept = due.keep(&Parts {
        stdout: Part::Bytes(&bytes),
        stderr: Part::Bytes(&[]),
    });
    Ok(Answer {
        bytes,
        verdict,
        not_kept: kept.err(),
    })
}

impl Answer {
    fn fresh(bytes: Vec<u8>) -> Answer {
        Answer {
            bytes,
            verdict: Some(Verdict::Fresh),
            not_kept: None,
        }
    }
}

/// Probes without a look at what is stored.
fn unkept<B: Into<Vec<u8>>, E>(
    probe: impl FnOnce() -> Result<B, E>,
    why: NotKept,
) -> Result<Answer, E> {
    Ok(Answer {
        bytes: probe()?.into(),
        verdict: None,
        not_kept: Some(why),
    })
}

/// The directory of the caller's file, and its name there.
fn place(file: &Path) -> Result<(Shelf, OsString), Error> {
    let file = std::path::absolute(file).map_err(|error| {
        let remedy = "name the file by its absolute path";
        Error::system("find the answer", file, error, remedy)
    })?;
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        let attempt = "keep the answer in";
        return Err(Error::system(attempt, file, Errno::ISDIR, "name a file"));
    };
    let shelf = Shelf::open(&Root::system()?, directory, Holds::AnyFiles)?;
    Ok((shelf, name.to_owned()))
}
