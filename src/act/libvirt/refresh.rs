//! A refresh: makes every libvirt on the host, whoever's, running or not, probe again at its next look-up, by what libvirt
//! itself compares: the module directory's mtime and the program's ctime.
//!
//! libvirt compares whole seconds, for equality, so the mtime must become a second that it never had. No change so far left
//! one that is later than the clock's, or, where the clock was set back, than that of the last refresh; the next
//! second after both is new.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, Stat, StatVfsMountFlags, fstat};
use rustix::io::Errno;
use rustix::time::ClockId;

use crate::act::libvirt::installation::Installation;
use crate::act::libvirt::record::{Moved, Record};
use crate::act::libvirt::{Cached, Kind};
use crate::files::root::{Root, Steps};
use crate::ground::error::{Error, Result};
use crate::ground::time::Mtime;
use crate::judge::witness::Witness;
use crate::observe::inputs::{Depth, Inputs};
use crate::observe::profile::Profile;
use crate::stamp::later::later_than;
use crate::stamp::stamp::{Durability, Owner, Stamp};

/// What a refresh is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// Somebody asks for it.
    Hand,
    /// The stamp was touched, perhaps by a trigger, which may not take the time to read what stat is evidence for.
    Touch,
    /// Something is not as at the last refresh.
    Update,
}

/// What a refresh did. All paths are as somebody outside the root sees them.
#[derive(Debug, Default)]
pub struct Refreshed {
    /// The module directories that were moved, and the second since 1970 that each was moved to.
    pub moved: Vec<(PathBuf, i64)>,
    /// The programs whose ctime was moved, because no module directory that stands for them could be.
    pub changed: Vec<PathBuf>,
    /// The cache files that were removed from the system daemon's cache, because nothing could be moved.
    pub evicted: Vec<PathBuf>,
    /// Whether all that is stale was reached, and a record of that is kept. Otherwise the next update refreshes again.
    pub is_done: bool,
    /// What a person should know of, one sentence each.
    pub warnings: Vec<String>,
}

/// Makes every libvirt probe again what it cached of `profile`'s programs.
///
/// The module directories that libvirt watches are moved to a second that they never had. Where one is gone or cannot be
/// moved, a chmod of the programs to the mode that they have moves their ctime. Where that may not be either, as on a
/// read-only `/usr`, what is stale is removed from the system daemon's cache.
///
/// # Errors
/// Where the caller may do none of this, or where libvirt caches nothing of the profile's programs.
pub fn refresh(profile: &Profile, durability: Durability) -> Result<Refreshed> {
    let profile = &profile.without_variables();
    let hand = Occasion::Hand;
    // Before anything is moved: what libvirt then probes is not older than this. And before the turn, for who else touches
    // must not wait for it.
    let refreshed = refresh_for(hand, profile, Seen::now(profile, hand)?, &[], durability)?;
    Ok(refreshed.unwrap_or_default())
}

/// The same for who has looked at the inputs already, and touched the stamp since. `directories` are the module directories
/// that changed, from a package manager that says which; where there are none, those that libvirt watches.
pub(crate) fn refresh_too(
    profile: &Profile,
    inputs: Inputs,
    directories: &[PathBuf],
    durability: Durability,
) -> Result<Refreshed> {
    let (touch, record) = (Occasion::Touch, Record::read(&system_stamp(profile)?));
    let seen = Seen::of(inputs, record, touch);
    let refreshed = refresh_for(touch, profile, seen, directories, durability)?;
    Ok(refreshed.unwrap_or_default())
}

/// The same where something is not as at the last refresh, and only then. Two at once do the work once.
pub(crate) fn update(
    profile: &Profile,
    inputs: Inputs,
    durability: Durability,
) -> Result<Option<Refreshed>> {
    let stamp = system_stamp(profile)?;
    let record = match Record::read(&stamp) {
        Some(record) if !record.is_outdated(&inputs) => {
            complete(record, profile, &stamp, &inputs, durability);
            return Ok(None);
        }
        record => record,
    };
    let update = Occasion::Update;
    let seen = Seen::of(inputs, record, update);
    refresh_for(update, profile, seen, &[], durability)
}

/// Keeps a record whose witness is of the same contents in the place of one that makes each look read them again.
fn complete(
    mut record: Record,
    profile: &Profile,
    stamp: &Stamp,
    inputs: &Inputs,
    durability: Durability,
) {
    let latest = Record::latest(stamp);
    let Some(witness) = record.witness.completed(profile, inputs) else {
        return;
    };
    let stamps = record.witness.observation.stamps;
    record.witness = witness;
    record.witness.observation.stamps = stamps;
    let Ok(turn) = stamp.take_turn() else {
        return;
    };
    if latest == Some(record.latest) && Record::latest(stamp) == latest {
        let _ = record.write(&turn, durability);
    }
}

/// Removes what is stale from the caller's own cache where no record of the system's can tell that, and keeps a record of
/// the caller's own, by which it is told the next time.
pub(crate) fn update_own(
    profile: &Profile,
    inputs: Inputs,
    stamp: &Stamp,
    durability: Durability,
) -> Result<Option<Refreshed>> {
    let kind = Kind::of(profile)?;
    let system = Record::read(&system_stamp(profile)?);
    if system.as_ref().is_some_and(Record::tells_all) {
        return Ok(None);
    }
    let own = Record::read(stamp);
    if !is_outdated(own.as_ref(), &inputs) {
        return Ok(None);
    }
    let known: Vec<_> = own
        .iter()
        .chain(&system)
        .map(|known| &known.witness.observation)
        .collect();
    let witness = Witness {
        observation: inputs.read(Depth::All, &known),
    };
    let directories = inputs.module_directories().map(|(path, _)| path.to_owned());
    let left = directories.filter_map(|path| {
        let second = profile.root().target(&path)?.st_mtime;
        Some((path, second))
    });
    let mut record = Record {
        owner: Owner::User,
        latest: 0,
        moved: Vec::new(),
        left: left.collect(),
        changed: Vec::new(),
        evicted: false,
        undone: false,
        witness,
    };
    let mut done = Refreshed::default();
    let cached = Cached::of(kind, profile, system, inputs);
    (done.evicted, record.evicted) = cached.evict_of(Owner::User, &mut done.warnings);
    if !done.evicted.is_empty() {
        done.warnings
            .extend(crate::act::libvirt::daemons(profile.root()));
    }
    record.undone = !record.evicted;
    let kept = record.write(&stamp.take_turn()?, durability);
    done.is_done = kept.is_ok() && !record.undone;
    done.warnings
        .extend(kept.err().map(|errno| not_kept(stamp, errno)));
    Ok(Some(done))
}

fn is_outdated(record: Option<&Record>, now: &Inputs) -> bool {
    record.is_none_or(|record| record.is_outdated(now))
}

fn system_stamp(profile: &Profile) -> Result<Stamp> {
    Stamp::system(profile.root(), profile.name())
}

fn not_kept(stamp: &Stamp, errno: Errno) -> String {
    let remedy = "make room there, or make it writable for its owner, and refresh again";
    let attempt = "keep the record of the refresh beside";
    Error::system(attempt, stamp.path(), errno, remedy).to_string()
}

fn refresh_for(
    occasion: Occasion,
    profile: &Profile,
    mut seen: Seen,
    directories: &[PathBuf],
    durability: Durability,
) -> Result<Option<Refreshed>> {
    let kind = Kind::of(profile)?;
    let root = profile.root();
    let mut done = Refreshed::default();
    let stamp = system_stamp(profile)?;
    let turn = stamp.take_turn();
    let turn = turn.map_err(|error| done.warnings.push(error.to_string()));
    if occasion == Occasion::Update {
        // Another update may have been quicker, and touched the stamp, too.
        let stamps = crate::observe::stamps::Stamps::of(profile);
        seen.inputs = seen.inputs.with_stamps(stamps);
        seen.witness.observation = seen.witness.observation.with_stamps(stamps);
        if !is_outdated(Record::read(&stamp).as_ref(), &seen.inputs) {
            return Ok(None);
        }
    }
    if Record::latest(&stamp) != seen.record.as_ref().map(|record| record.latest) {
        seen = Seen::now(profile, occasion)?; // Somebody else refreshed since.
    }
    let Seen {
        record: old,
        inputs,
        witness,
    } = seen;

    let (directories, mut is_enough) = match directories {
        [] => directories_of_libvirt(kind, profile, &inputs, occasion),
        _ => (and_those_before(root, directories, old.as_ref()), true),
    };
    let latest = Record::latest(&stamp).unwrap_or(0);
    let (opened, latest) = open_all(root, directories, latest);
    let mut record = Record {
        owner: Owner::System,
        latest,
        moved: Vec::new(),
        left: Vec::new(),
        changed: Vec::new(),
        evicted: false,
        undone: false,
        witness,
    };
    // Before it is seen: killed in between, a refresh only skips a second, and never leaves one twice. What it has seen
    // is kept once it is done.
    let remembered = turn.as_ref().ok();
    let remembered = remembered.and_then(|turn| Record::remember(turn, &stamp, latest, durability));
    if remembered.is_none() {
        is_enough = false; // A later one may leave this second again, and then the programs tell.
    }

    let failed;
    (record.moved, record.left, failed) = move_all(root, opened, latest, durability);
    let latest = record.moved.iter().map(|moved| moved.second).max();
    record.latest = record.latest.max(latest.unwrap_or_default());
    let outside = |path: &PathBuf| root.outside(path);
    let moved = record.moved.iter();
    done.moved = moved
        .map(|moved| (outside(&moved.path), moved.second))
        .collect();

    if failed.is_some() || !is_enough {
        // No program is changed for a libvirt that is not there, but where somebody asks for it.
        let is_wanted = occasion == Occasion::Hand || !Installation::all(root).is_empty();
        let programs: Vec<&Path> = inputs.programs().filter(|_| is_wanted).collect();
        let error;
        (record.changed, error) = change_all(root, &programs, durability);
        let changed = record.changed.iter();
        done.changed = changed.map(|(path, _)| outside(path)).collect();
        if !record.changed.is_empty() {
            record.witness = occasion.again(profile, record.witness)?;
        }
        let failed = failed.filter(|(_, error)| error.kind() != io::ErrorKind::NotFound);
        let is_shut_out = error.as_ref().is_some_and(may_not)
            || programs.is_empty() && failed.as_ref().is_some_and(may_not);
        let error_of_programs = error.is_some();
        if let Some((path, cause)) = failed.or(error).filter(|_| is_wanted) {
            let is_privileged = rustix::process::geteuid().is_root() || !root.is_system();
            let remedy = match (is_shut_out, is_privileged) {
                (false, _) => "what else could be moved was",
                (true, true) => "so what is stale was removed from the system's cache instead",
                (true, false) => {
                    "run as root; “modstamp libvirt evict” removes what is stale from your own cache"
                }
            };
            let attempt = "make libvirt ask again by the mtime or ctime of";
            let error = Error::system(attempt, outside(&path), cause, remedy);
            if is_shut_out && !is_privileged {
                return Err(error);
            }
            done.warnings.push(error.to_string());
        }
        record.undone = is_wanted && error_of_programs && !is_shut_out;
        if is_shut_out {
            let cached = Cached::of(kind, profile, old, inputs);
            (done.evicted, record.evicted) = cached.evict_of(Owner::System, &mut done.warnings);
            done.warnings.extend(crate::act::libvirt::daemons(root));
            record.undone = is_wanted && !record.evicted;
        }
    }
    let turn = turn.as_ref().ok();
    let kept = turn.map(|turn| record.write(turn, durability));
    done.is_done = matches!(kept, Some(Ok(()))) && !record.undone;
    if let Some(Err(errno)) = kept {
        done.warnings.push(not_kept(&stamp, errno));
    }
    Ok(Some(done))
}

/// What there is before a refresh.
struct Seen {
    record: Option<Record>,
    inputs: Inputs,
    witness: Witness,
}

impl Seen {
    fn now(profile: &Profile, occasion: Occasion) -> Result<Seen> {
        let record = Record::read(&system_stamp(profile)?);
        let inputs = Inputs::of(
            profile,
            record.as_ref().map(|record| &record.witness.observation),
        )?;
        Ok(Seen::of(inputs, record, occasion))
    }

    fn of(inputs: Inputs, record: Option<Record>, occasion: Occasion) -> Seen {
        let witness = occasion.witness(&inputs, record.as_ref());
        Seen {
            record,
            inputs,
            witness,
        }
    }
}

/// Whether the system does not allow it, now and as long as it is as it is.
fn may_not((_, error): &Failure) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// The directories that changed, and those that the last refresh moved: what was cached since is told by these.
fn and_those_before(root: &Root, directories: &[PathBuf], old: Option<&Record>) -> Vec<PathBuf> {
    let mut all = directories.to_vec();
    let before = old.into_iter().flat_map(|old| &old.moved);
    for path in before.map(|moved| &moved.path) {
        if !all.contains(path) && root.target(path).is_some() {
            all.push(path.clone());
        }
    }
    all
}

impl Occasion {
    fn witness(self, inputs: &Inputs, older: Option<&Record>) -> Witness {
        match self {
            Occasion::Touch => Witness {
                observation: inputs.read(Depth::Doubtful, &[]),
            },
            Occasion::Hand | Occasion::Update => {
                let known: Vec<_> = older
                    .iter()
                    .map(|older| &older.witness.observation)
                    .collect();
                Witness {
                    observation: inputs.read(Depth::All, &known),
                }
            }
        }
    }

    /// A witness that knows the programs by their new ctimes, if nothing else is different from the one before.
    fn again(self, profile: &Profile, before: Witness) -> Result<Witness> {
        let mut now = Inputs::of(profile, Some(&before.observation))?;
        // The programs were changed just now, and are known by stat alone.
        if self == Occasion::Touch && now.wait_if_racy() {
            now = Inputs::of(profile, Some(&before.observation))?;
        }
        let depth = match self {
            Occasion::Touch => Depth::Doubtful,
            Occasion::Hand | Occasion::Update => Depth::All,
        };
        let again = Witness {
            observation: now.read(depth, &[&before.observation]),
        };
        let is_program = |reason: &crate::judge::reason::Reason| match reason {
            crate::judge::reason::Reason::Unknown { subject, .. }
            | crate::judge::reason::Reason::NotRead(subject) => {
                subject.input == crate::observe::input::Input::Program
            }
            _ => false,
        };
        let is_same = before.judge(&now).reasons().iter().all(is_program);
        Ok(if is_same { again } else { before })
    }
}

/// The module directories that libvirt watches, and whether to move them is enough. Where nothing says which it watches, it
/// may be any of those that there are; a driver that names none, as before libvirt 6.8, watches none.
fn directories_of_libvirt(
    kind: &Kind,
    profile: &Profile,
    inputs: &Inputs,
    occasion: Occasion,
) -> (Vec<PathBuf>, bool) {
    let all = inputs.module_directories().map(|(path, _)| path.to_owned());
    let all: Vec<PathBuf> = all.filter(|path| profile.has_directory(path)).collect();
    if !kind.is_directory_in_driver() {
        let is_any = !all.is_empty();
        return (all, is_any);
    }
    let installations = Installation::all(profile.root());
    if installations.is_empty() {
        return (all, occasion != Occasion::Hand);
    }
    let watched: Vec<Vec<PathBuf>> = installations
        .iter()
        .map(|one| one.watched(profile))
        .collect();
    let do_all_watch = watched.iter().all(|directories| !directories.is_empty());
    let mut watched = watched.concat();
    watched.sort();
    watched.dedup();
    match watched.is_empty() {
        true => (all, false),
        false => (watched, do_all_watch),
    }
}

/// Opens a module directory by a way that nobody but root or the caller could have bent.
fn open(root: &Root, path: &Path) -> io::Result<File> {
    let fd = File::from(root.read(path, Steps::Trusted)?);
    match FileType::from_raw_mode(fstat(&fd)?.st_mode).is_dir() {
        true => Ok(fd),
        false => Err(io::Error::other("it is not a directory")),
    }
}

type Seconds = Vec<(PathBuf, i64)>;
type Opened = (PathBuf, io::Result<File>);
type Failure = (PathBuf, io::Error);

/// Opens directories. Returns them, and a second that none of them ever had: the next after the clock's, the `latest` that
/// any was moved to, and those that they have.
fn open_all(root: &Root, directories: Vec<PathBuf>, latest: i64) -> (Vec<Opened>, i64) {
    let open = |path: PathBuf| {
        let directory = open(root, &path);
        (path, directory)
    };
    let opened: Vec<Opened> = directories.into_iter().map(open).collect();
    let have = opened
        .iter()
        .filter_map(|(_, directory)| Some(fstat(directory.as_ref().ok()?).ok()?.st_mtime));
    let latest = have.fold(latest.max(Mtime::now().seconds()), i64::max);
    (opened, latest.saturating_add(1))
}

/// Moves the mtimes of directories to `second`, or the next one that their file systems can store. Returns those that
/// moved, those that could not be, with the seconds that they have, and what failed first.
fn move_all(
    root: &Root,
    opened: Vec<Opened>,
    second: i64,
    durability: Durability,
) -> (Vec<Moved>, Seconds, Option<Failure>) {
    let (mut moved, mut left, mut failed) = (Vec::new(), Vec::new(), None);
    for (path, directory) in opened {
        let error = match directory {
            Ok(directory) => match move_past(&directory, second - 1, durability) {
                Ok(stat) => {
                    moved.push(Moved {
                        path,
                        second: stat.st_mtime,
                        ctime: Mtime::of_ctime(&stat),
                        epoch: crate::observe::evidence::epoch(directory.as_fd()),
                    });
                    continue;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        left.extend(root.target(&path).map(|stat| (path.clone(), stat.st_mtime)));
        failed = failed.or(Some((path, error)));
    }
    (moved, left, failed)
}

/// Where a file system is mounted read-only, nothing even tries to write to it.
fn is_writable(place: impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fstatvfs(place)?.f_flag;
    match flags.contains(StatVfsMountFlags::RDONLY) {
        true => Err(Errno::ROFS),
        false => Ok(()),
    }
}

/// Moves the mtime of a directory to a second after `latest`.
fn move_past(directory: &File, latest: i64, durability: Durability) -> io::Result<Stat> {
    is_writable(directory)?;
    let latest = Mtime::new(latest, 999_999_999);
    let mut stat = fstat(directory)?;
    let store = |wanted: Mtime| {
        wanted.store_in(directory)?;
        stat = fstat(directory)?;
        Ok::<_, io::Error>(Mtime::of(&stat))
    };
    match later_than(latest, latest, store)? {
        Some(_) => {
            if durability == Durability::Synced {
                rustix::fs::fsync(directory)?;
            }
            Ok(stat)
        }
        None => Err(io::Error::other("its file system stores no later time")),
    }
}

/// Moves the ctimes of programs to another second, by a chmod to the mode that each has. Returns them with that second,
/// and what failed first.
fn change_all(
    root: &Root,
    programs: &[&Path],
    durability: Durability,
) -> (Seconds, Option<Failure>) {
    let (mut changed, mut failed) = (Vec::new(), None);
    // A program of several names is changed once: to change it again would belie the second of its first name.
    let mut seconds = HashMap::new();
    for path in programs {
        let mut change = || -> io::Result<Option<i64>> {
            let program = root.read(path, Steps::Trusted)?;
            is_writable(&program)?;
            let old = fstat(&program)?;
            if !FileType::from_raw_mode(old.st_mode).is_file() {
                return Ok(None); // libvirt cannot ask it.
            }
            let second = match seconds.entry((old.st_dev, old.st_ino)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(change_ctime(&program, &old, durability)?),
            };
            Ok(Some(second))
        };
        match change() {
            Ok(second) => changed.extend(second.map(|second| (path.to_path_buf(), second))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // Gone, or a link to nothing.
            Err(error) => failed = failed.or(Some((path.to_path_buf(), error))),
        }
    }
    (changed, failed)
}

fn change_ctime(program: &OwnedFd, old: &Stat, durability: Durability) -> io::Result<i64> {
    // Within the second of its last change it would look unchanged.
    for _ in 0..1100 {
        if rustix::time::clock_gettime(ClockId::RealtimeCoarse).tv_sec != old.st_ctime {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mode = Mode::from_raw_mode(fstat(program)?.st_mode);
    rustix::fs::fchmod(program, mode)?;
    if durability == Durability::Synced {
        rustix::fs::fsync(program)?;
    }
    match fstat(program)?.st_ctime {
        same if same == old.st_ctime => Err(io::Error::other("its ctime does not move")),
        second => Ok(second),
    }
}
