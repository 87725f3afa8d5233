//! The stamp: one small file per profile whose mtime says "something changed".
//!
//! What counts is the mtime and nothing else, so that a plain `touch FILE` by hand is as good as ours. Ours
//! promises more: each touch leaves an mtime that the stamp never had before. A touch writes a new file beside the
//! stamp, gives it its time and renames it over the old one, so that a reader sees the old stamp or the new one and
//! no state in between, such as the clock's own time while a forced later one is not set yet.
//!
//! Touches that run at once take turns by a lock on a file of their own, `.<profile>.lock`, which only its owner can
//! open: a lock on the stamp, which everybody can open, could be held by everybody (flock(2)). That file's mtime
//! is the latest that the stamp ever had: a stamp that was removed goes on from there.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::files::root::{Lock, Root, Steps, open_private, stat_at, write_all};
use crate::files::trust::why_not_believed;
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;

/// Where the system's stamps are. Not below another program's cache: per-user daemons must be able to read it.
pub(crate) const SYSTEM_DIRECTORY: &str = "/var/lib/modstamp";

/// How long a touch waits for its turn. Only root, or the user whose own stamp it is, can make it wait at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whose stamp it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// `/var/lib/modstamp/<profile>.stamp`, root's, which counts for everybody.
    System,
    /// `$XDG_STATE_HOME/modstamp/<profile>.stamp`, which counts for that user beside the system's.
    User,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Owner::System => "system",
            Owner::User => "user",
        })
    }
}

/// When a touch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// When [`Stamp::touch`] returns: a power cut afterwards does not undo it.
    Synced,
    /// When the system writes it in its own time, or a later synced touch does.
    NotSynced,
}

/// Who touched a stamp, when and why: text for people, kept in the stamp, which nothing else depends on.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Note {
    /// The mtime that this touch left. Where the stamp's is another one, somebody else touched it since.
    pub mtime: Mtime,
    /// What the clock said, in UTC. The mtime can be later: it never goes back when the clock does.
    pub when: String,
    /// Who, for example "rpm" or "user 0".
    pub by: String,
    /// Why, in a few words.
    pub why: String,
}

/// One profile's stamp, the system's or a user's own.
#[derive(Debug, Clone)]
pub struct Stamp {
    root: Root,
    directory: PathBuf,
    /// In that directory.
    file: PathBuf,
    profile: String,
    owner: Owner,
}

impl Stamp {
    /// The system's stamp of a profile, `/var/lib/modstamp/<profile>.stamp` in `root`.
    ///
    /// # Errors
    /// Where `profile` cannot be a profile's name.
    pub fn system(root: &Root, profile: &str) -> Result<Stamp> {
        check_name(profile)?;
        let directory = PathBuf::from(SYSTEM_DIRECTORY);
        Ok(Stamp::new(root, directory, profile, Owner::System))
    }

    /// The caller's own stamp of a profile, `$XDG_STATE_HOME/modstamp/<profile>.stamp` in `root`; the variable
    /// defaults to `$HOME/.local/state` (XDG Base Directory Specification). `None` where neither is set.
    ///
    /// # Errors
    /// As [`Stamp::system`].
    pub fn user(root: &Root, profile: &str) -> Result<Option<Stamp>> {
        check_name(profile)?;
        let state = crate::ground::environment::home_directory("XDG_STATE_HOME", ".local/state");
        let directory = state.map(|state| state.join("modstamp"));
        Ok(directory.map(|directory| Stamp::new(root, directory, profile, Owner::User)))
    }

    fn new(root: &Root, directory: PathBuf, profile: &str, owner: Owner) -> Stamp {
        Stamp {
            root: root.clone(),
            file: directory.join(format!("{profile}.stamp")),
            directory,
            profile: profile.to_owned(),
            owner,
        }
    }

    /// The stamp that a touch by the caller moves: the system's for root and for any root directory but `/`,
    /// the user's own for everybody else.
    ///
    /// # Errors
    /// As [`Stamp::system`].
    pub fn own(root: &Root, profile: &str) -> Result<Stamp> {
        let system = Stamp::system(root, profile)?;
        if rustix::process::geteuid().is_root() || !root.is_system() {
            return Ok(system);
        }
        Ok(Stamp::user(root, profile)?.unwrap_or(system))
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Where it is, as somebody outside the root sees it.
    pub fn path(&self) -> PathBuf {
        self.root.outside(&self.file)
    }

    /// The name of what is kept beside the stamp, in its directory.
    pub(crate) fn name_beside(&self, extension: &str) -> String {
        format!("{}.{extension}", self.profile)
    }

    /// Opens what is kept beside the stamp, to read it; `None` where it is not there, cannot be reached, or where somebody else
    /// could have written it.
    pub(crate) fn open_beside(&self, extension: &str) -> Option<OwnedFd> {
        let path = self.directory.join(self.name_beside(extension));
        let kept = self.root.read(&path, Steps::Trusted).ok()?;
        let stat = rustix::fs::fstat(&kept).ok()?;
        why_not_believed(&stat).is_none().then_some(kept)
    }

    /// What moves with each touch, and with whatever else is kept beside the stamp.
    pub(crate) fn mark(&self, extension: &str) -> (Option<Mtime>, Option<(u64, Mtime)>) {
        let stat = |fd: OwnedFd| rustix::fs::fstat(fd).ok();
        let kept = self.open_beside(extension).and_then(stat);
        let kept = kept.map(|stat| (stat.st_ino, Mtime::of_ctime(&stat)));
        (self.mtime().ok().flatten(), kept)
    }

    /// Removes what is kept beside the stamp.
    pub(crate) fn forget(&self, turn: &Turn, extension: &str) {
        let _ = remove(&turn.directory, &self.name_beside(extension));
    }

    /// The stamp's mtime; `None` where there is no stamp.
    ///
    /// # Errors
    /// Where the stamp cannot be reached, or is not a regular file. A symbolic link is not followed.
    pub fn mtime(&self) -> Result<Option<Mtime>> {
        let attempt = "read the stamp";
        let remedy = "make its directory readable for every user";
        match self.root.stat(&self.file) {
            Ok(None) => Ok(None),
            Ok(Some(stat)) => self.regular(&stat).map(|()| Some(Mtime::of(&stat))),
            Err(stop) => Err(stop.into_error(attempt, self.path(), remedy)),
        }
    }

    /// Who touched the stamp last, when and why, where it says so in words that can be read.
    ///
    /// A plain `touch` leaves the text of the touch before it: [`Note::mtime`] then differs from the stamp's.
    pub fn note(&self) -> Option<Note> {
        let fd = self.root.read(&self.file, Steps::Any).ok()?;
        self.regular(&rustix::fs::fstat(&fd).ok()?).ok()?;
        let mut buffer = vec![0; 4096];
        let length = rustix::io::read(&fd, &mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.strip_prefix(": ")?.to_owned())
        };
        Some(Note {
            mtime: field("mtime")?.parse().ok()?,
            when: field("when")?,
            by: field("by")?,
            why: field("why")?,
        })
    }

    /// Moves the stamp: its mtime becomes one that it never had, later than every one before.
    ///
    /// `by` and `why` are for people. Makes the stamp and its directory where they are missing. Returns the new mtime.
    /// What is kept beside it of the modules at an earlier touch is gone then: [`Profile::touch`](crate::observe::profile::Profile::touch) keeps
    /// what they are at this one.
    ///
    /// # Errors
    /// Where the stamp's directory cannot be made or written, where a step of its path could be bent by somebody
    /// else, or where the stamp is not a regular file. The old stamp is then as it was. On a full file system a
    /// stamp that exists is still moved: only its text stays the old one.
    pub fn touch(&self, by: &str, why: &str, durability: Durability) -> Result<Mtime> {
        let turn = self.take_turn()?;
        let mtime = self.touch_in(&turn, by, why, durability)?;
        self.sync(turn, durability)?;
        Ok(mtime)
    }

    /// [`Stamp::touch`] by who has the turn already, and syncs the directories later.
    pub(crate) fn touch_in(
        &self,
        turn: &Turn,
        by: &str,
        why: &str,
        durability: Durability,
    ) -> Result<Mtime> {
        let directory = &turn.directory;
        // What is kept there is what the modules were at another touch than the last one, once this is made.
        self.forget(turn, crate::act::update::EXTENSION);
        let old = stat_at(directory, self.name()).map_err(|errno| self.failed(errno))?;
        if let Some(old) = &old {
            self.regular(old)?;
        }
        let mut last = old.as_ref().map(Mtime::of).max(turn.latest());

        let text = format!("by: {}\nwhy: {}\n", one_line(by), one_line(why));
        let mtime = loop {
            let Replaced { mtime, old } = match self.replace(&text, last, durability, turn) {
                Err(error) if old.is_some() && is_full(&error) => {
                    break self.move_in_place(last, durability, turn)?;
                }
                replaced => replaced?,
            };
            // Somebody touched it by hand since it was looked at: this must be later than what they left, too.
            match old.filter(|old| *old >= mtime) {
                Some(old) => last = Some(old),
                None => break mtime,
            }
        };
        if let Some(built) = build_time() {
            // Of an image that is being built nothing is to differ from build to build, and this has stat identities.
            self.forget(turn, crate::act::libvirt::EXTENSION);
            if let Ok(directory) = directory.try_clone() {
                let _ = built.store_in(&File::from(directory));
            }
        }
        Ok(mtime)
    }

    /// A turn to change what is in the stamp's directory, which is made where it is missing.
    pub(crate) fn take_turn(&self) -> Result<Turn> {
        let mode = match self.owner {
            Owner::System => Mode::from_raw_mode(0o755),
            Owner::User => Mode::from_raw_mode(0o700), // as the XDG Base Directory Specification asks
        };
        let made = self.root.make_directory(&self.directory, mode);
        let (directory, made) = made
            .map_err(|stop| stop.into_error("touch the stamp", self.path(), self.owner_remedy()))?;
        Ok(Turn {
            lock: take_lock(&directory, &self.profile),
            directory,
            made,
        })
    }

    /// Ends a turn; what it left is then on disk, if it is to be.
    pub(crate) fn sync(&self, turn: Turn, durability: Durability) -> Result<()> {
        drop(turn.lock);
        match durability {
            Durability::Synced => self.sync_directories(&turn.directory, turn.made),
            Durability::NotSynced => Ok(()),
        }
    }

    fn replace(
        &self,
        text: &str,
        last: Option<Mtime>,
        durability: Durability,
        turn: &Turn,
    ) -> Result<Replaced> {
        let directory = &turn.directory;
        let new = turn.new_name(&self.profile);
        let mode = Mode::from_raw_mode(0o644);
        let file = create(directory, &new, mode).map_err(|errno| self.failed(errno))?;
        let fill = |mtime: Mtime| {
            let when = build_time().unwrap_or_else(Mtime::now).utc();
            let text = format!(
                "What counts is the modification time of this file; the text is for people.\n\
                 mtime: {mtime}\nwhen: {when}\n{text}"
            );
            write_all(&file, text.as_bytes())?;
            rustix::fs::fchmod(&file, mode)?; // whatever the umask is
            mtime.store_in(&file).map_err(errno)?;
            if durability == Durability::Synced {
                rustix::fs::fsync(&file)?;
            }
            // Before it is seen: killed in between, a touch only skips a time, and never leaves one twice.
            turn.remember(mtime);
            let old = take_place(directory, &new, &self.name())?;
            Ok(Replaced { mtime, old })
        };
        let move_past = |wanted| self.set_mtime(&file, wanted);
        let result = self
            .move_past(last, move_past)
            .and_then(|mtime| fill(mtime).map_err(|errno| self.failed(errno)));
        if result.is_err() {
            // What is left over does no harm; the next touch removes it too.
            let _ = remove(directory, &new);
        }
        result
    }

    fn move_in_place(
        &self,
        last: Option<Mtime>,
        durability: Durability,
        turn: &Turn,
    ) -> Result<Mtime> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&turn.directory, self.name(), flags, Mode::empty())
            .map_err(|errno| self.failed(errno))?;
        let file = File::from(file);
        self.regular(&rustix::fs::fstat(&file).map_err(|errno| self.failed(errno))?)?;
        let mtime = self.move_past(last, |wanted| {
            turn.remember(wanted);
            self.set_mtime(&file, wanted)
        })?;
        if durability == Durability::Synced {
            rustix::fs::fsync(&file).map_err(|errno| self.failed(errno))?;
        }
        Ok(mtime)
    }

    /// Stores an mtime later than `last`; returns what the file system made of it.
    fn move_past(
        &self,
        last: Option<Mtime>,
        store: impl FnMut(Mtime) -> Result<Mtime>,
    ) -> Result<Mtime> {
        later_than(last, build_time().unwrap_or_else(Mtime::now), store)?.map_err(|last| {
            Error::NoLaterTime {
                path: self.path(),
                last,
            }
        })
    }

    fn set_mtime(&self, file: &File, wanted: Mtime) -> Result<Mtime> {
        let set = || {
            wanted.store_in(file).map_err(errno)?;
            rustix::fs::fstat(file)
        };
        Ok(Mtime::of(&set().map_err(|errno| self.failed(errno))?))
    }

    fn sync_directories(&self, directory: &OwnedFd, made: usize) -> Result<()> {
        rustix::fs::fsync(directory).map_err(|errno| self.failed(errno))?;
        // The names of the directories that were made are in their parents. The last one may have been made by a touch
        // that left syncing to this one.
        for parent in self.directory.ancestors().skip(1).take(made.max(1)) {
            if let Ok(parent) = self.root.read(parent, Steps::Any) {
                rustix::fs::fsync(&parent).map_err(|errno| self.failed(errno))?;
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        self.name_beside("stamp")
    }

    fn regular(&self, stat: &Stat) -> Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return Ok(()),
            FileType::Symlink => "symbolic link",
            FileType::Directory => "directory",
            FileType::Fifo => "FIFO",
            FileType::Socket => "socket",
            _ => "device",
        };
        Err(Error::NotAStamp {
            path: self.path(),
            kind,
        })
    }

    fn failed(&self, errno: Errno) -> Error {
        let remedy = match errno {
            Errno::NOSPC | Errno::DQUOT => "make room on its file system and touch again",
            Errno::ROFS => {
                "touch again once its file system can be written; checks look at the modules themselves"
            }
            _ => self.owner_remedy(),
        };
        Error::system("touch the stamp", self.path(), errno, remedy)
    }

    fn owner_remedy(&self) -> &'static str {
        match self.owner {
            Owner::System => "run as root, on a directory that root can write",
            Owner::User => "make its directory one that you can write",
        }
    }
}

/// What a touch left.
struct Replaced {
    mtime: Mtime,
    /// The mtime of the stamp that it took the place of, where that can be told.
    old: Option<Mtime>,
}

/// Makes a new file, in whose name nobody else makes one while it is our turn.
pub(crate) fn create(directory: &OwnedFd, name: &str, mode: Mode) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || rustix::fs::openat(directory, name, flags, mode);
    match create() {
        // Left by one that was killed.
        Err(Errno::EXIST) => remove(directory, name).and_then(|()| create()),
        result => result,
    }
    .map(File::from)
}

/// The number of a system's error.
pub(crate) fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Removes a file, or an empty directory, as a mount of a file that is not there leaves one.
fn remove(directory: &OwnedFd, name: &str) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, unlinkat};
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => unlinkat(directory, name, AtFlags::REMOVEDIR),
        result => result,
    }
}

/// Puts a file with that text in the place of the one that is kept beside a stamp. It is our turn to.
pub(crate) fn keep(
    directory: &OwnedFd,
    name: &str,
    text: &str,
    durability: Durability,
) -> rustix::io::Result<()> {
    keep_with(directory, name, text, durability, |_| Ok(()))
}

/// Like [`keep`], but gives the new file to `prepare`, to set its mtime, before it can be seen.
pub(crate) fn keep_with(
    directory: &OwnedFd,
    name: &str,
    text: &str,
    durability: Durability,
    prepare: impl FnOnce(&File) -> std::io::Result<()>,
) -> rustix::io::Result<()> {
    let new = format!(".{name}.new");
    let mode = Mode::from_raw_mode(0o644);
    let file = create(directory, &new, mode)?;
    let write = || {
        write_all(&file, text.as_bytes())?;
        rustix::fs::fchmod(&file, mode)?; // whatever the umask is
        prepare(&file).map_err(errno)?;
        if durability == Durability::Synced {
            rustix::fs::fsync(&file)?;
        }
        take_place(directory, &new, name)?;
        if durability == Durability::Synced {
            rustix::fs::fsync(directory)?;
        }
        Ok(())
    };
    write().inspect_err(|_| {
        let _ = remove(directory, &new);
    })
}

/// Puts the file `new` in the place of `old`, in one step; returns the mtime of the one that was there.
///
/// By exchange where there is an old one: ext4 answers a rename over a file by writing out the new one's data at once
/// (`auto_da_alloc`, ext4(5)), which takes several times as long as all the rest of a touch.
pub(crate) fn take_place(
    directory: &OwnedFd,
    new: &str,
    old: &str,
) -> rustix::io::Result<Option<Mtime>> {
    use rustix::fs::{RenameFlags, renameat, renameat_with};
    match renameat_with(directory, new, directory, old, RenameFlags::EXCHANGE) {
        Ok(()) => {
            // It has moved, whatever becomes of the old one; the next touch removes that too.
            let stat = stat_at(directory, new).ok().flatten();
            let _ = remove(directory, new);
            Ok(stat.as_ref().map(Mtime::of))
        }
        // There is no old one, or the file system cannot exchange.
        Err(_) => renameat(directory, new, directory, old).map(|()| None),
    }
}

/// Stores `now`, or the next time after `last` where that is later; some file systems keep whole seconds, FAT two.
///
/// `store` returns what the file system made of the time. The inner error is `last`, where nothing later can be stored.
pub(crate) fn later_than<E>(
    last: Option<Mtime>,
    now: Mtime,
    mut store: impl FnMut(Mtime) -> std::result::Result<Mtime, E>,
) -> std::result::Result<std::result::Result<Mtime, Mtime>, E> {
    let Some(last) = last else {
        return store(now).map(Ok);
    };
    let mut wanted = now.max(last.plus(0, 1));
    for seconds in [1, 2, 4] {
        let stored = store(wanted)?;
        if stored > last {
            return Ok(Ok(stored));
        }
        wanted = last.plus(seconds, 0);
    }
    Ok(Err(last))
}

/// Whether a profile may have this name: it becomes part of file names.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(is_good) {
        return Err(Error::NoProfile(format!(
            "“{}” cannot be a profile's name; use letters, digits, “-”, “_”, “.” and “+”, as in “qemu”",
            name.escape_debug()
        )));
    }
    Ok(())
}

/// When the image that is being built is to look built: `SOURCE_DATE_EPOCH`, in seconds since 1970
/// (reproducible-builds.org's specification of it). `None` where none is, as on every host that runs.
pub(crate) fn build_time() -> Option<Mtime> {
    let seconds = crate::ground::environment::variable("SOURCE_DATE_EPOCH")?;
    let seconds: u32 = seconds.to_str()?.parse().ok()?;
    Some(Mtime::new(seconds.into(), 0))
}

/// A turn to change what is in a stamp's directory: held until it is dropped.
pub(crate) struct Turn {
    pub(crate) directory: OwnedFd,
    /// How many directories on the way to it were missing.
    made: usize,
    /// `None` where it was not got within [`PATIENCE`], which does no more harm than that two touches at once may leave the
    /// same time.
    lock: Option<Lock>,
}

fn take_lock(directory: &OwnedFd, profile: &str) -> Option<Lock> {
    let name = format!(".{profile}.lock");
    let file = open_private(directory, &name).ok()?;
    let start = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(Lock(file)),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < PATIENCE => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
    }
}

impl Turn {
    /// The name under which the new stamp is written before it takes the old one's place. Without a turn, another thread may
    /// be touching.
    fn new_name(&self, profile: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), &COUNT);
        match self.lock {
            Some(_) => format!(".{profile}.stamp.new"),
            None => format!(
                ".{profile}.stamp.new.{process}.{}",
                count.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }

    /// The latest mtime that the stamp ever had; `None` before its first.
    fn latest(&self) -> Option<Mtime> {
        let stat = rustix::fs::fstat(&self.lock.as_ref()?.0).ok()?;
        // A size of one byte says that the time was set by `remember`, not by the lock's own creation.
        (stat.st_size > 0).then(|| Mtime::of(&stat))
    }

    fn remember(&self, mtime: Mtime) {
        if let Some(Lock(file)) = &self.lock {
            if self.latest().is_none() {
                let _ = rustix::fs::ftruncate(file, 1);
            }
            let _ = mtime.store_in(file);
        }
    }
}

fn is_full(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), Some(StorageFull | QuotaExceeded))
}

/// Text as one line of printable characters, at most 500 of them.
fn one_line(text: &str) -> String {
    text.chars()
        .take(500)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> Mtime {
        Mtime::new(1_700_000_000, 0)
    }

    /// A file system that cannot be mounted everywhere, as a function: what it makes of a time.
    fn next(now: Mtime, stored: impl Fn(Mtime) -> Mtime) -> std::result::Result<Mtime, Mtime> {
        later_than(Some(last()), now, |wanted| Ok::<_, ()>(stored(wanted))).unwrap()
    }

    #[test]
    fn a_touch_moves_the_stamp_where_two_seconds_are_kept() {
        let even = |time: Mtime| Mtime::new(time.seconds() & !1, 0);
        for now in [
            last(),
            last().plus(0, 999),
            last().plus(1, 0),
            last().plus(-10, 0),
        ] {
            assert_eq!(next(now, even), Ok(last().plus(2, 0)), "at {now}");
        }
        assert_eq!(next(last().plus(7, 5), even), Ok(last().plus(6, 0)));
    }

    #[test]
    fn a_touch_says_so_where_no_later_time_can_be_stored() {
        assert_eq!(next(last().plus(100, 0), |_| last()), Err(last()));
    }
}
