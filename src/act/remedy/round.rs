//! A round: applies the remedies of a profile that are due, and keeps the record of them.

use std::path::Path;
use std::time::Duration;

use crate::act::patience::{NoResult, within};
use crate::act::remedy::cure::{Cure, is_command};
use crate::act::remedy::record::{LastRemedy, Record, RemedyResult};
use crate::files::lock::{Lock, open_private};
use crate::files::root::Root;
use crate::ground::environment::{home_directory, image_is_being_built};
use crate::ground::error::Error;
use crate::ground::time::Deadline;
use crate::observe::foreign_cache::{ForeignCache, Remedy};
use crate::observe::inputs::Inputs;
use crate::observe::package_manager::Manager;
use crate::observe::profile::Profile;
use crate::observe::stamps::Stamps;
use crate::stamp::event::Event;
use crate::stamp::stamp::{Durability, Owner, Stamp};

/// The time limit for the removal of files. A hanging file system must hold up no transaction.
const PATIENCE: Duration = Duration::from_secs(2);

/// The time that another process gets for its commands beyond their own limits.
const GRACE: Duration = Duration::from_secs(10);

/// Which caches get their remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are stale.
    Stale,
    /// All of them.
    All,
}

/// Whether commands run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commands {
    /// They run, and are waited for.
    Run,
    /// They are left to a later refresh.
    Leave,
    /// Like `Leave`, but this package manager rebuilds the caches whose `packages-rebuild` names
    /// it.
    LeaveToPackages(Manager),
}

/// The caches of one owner under a profile.
pub(crate) struct Round<'a> {
    profile: &'a Profile,
    pub(crate) stamp: Stamp,
    pub(crate) caches: Vec<ForeignCache>,
}

/// What a round did.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) cures: Vec<Cure>,
    /// The errors that kept the record from being written.
    pub(crate) errors: Vec<Error>,
    pub(crate) warnings: Vec<String>,
}

impl<'a> Round<'a> {
    /// The caches of `owner`. `None` if the profile names none, or if the caller may not make them
    /// good.
    pub(crate) fn of(profile: &'a Profile, owner: Owner) -> Option<Round<'a>> {
        let is_allowed = owner == Owner::User || is_of_root(profile.root());
        let round = Round::seen_by_anybody(profile, owner);
        round.filter(|_| is_allowed)
    }

    /// Like [`Round::of`], for a caller that only looks.
    pub(crate) fn seen_by_anybody(profile: &'a Profile, owner: Owner) -> Option<Round<'a>> {
        let caches = profile.caches.iter();
        let caches: Vec<ForeignCache> = caches.filter_map(|cache| cache.part_of(owner)).collect();
        if caches.is_empty() {
            return None;
        }
        let (root, name) = (profile.root(), profile.name());
        let stamp = match owner {
            Owner::System => Stamp::system(root, name).ok(),
            Owner::User if has_own_home(root) => Stamp::user(root, name).ok().flatten(),
            Owner::User => None,
        };
        Some(Round {
            profile,
            stamp: stamp?,
            caches,
        })
    }

    fn owner(&self) -> Owner {
        self.stamp.owner()
    }

    /// Whether a cache needs its remedy.
    fn is_stale(&self, cache: &ForeignCache, record: &Record, stamps: Stamps) -> bool {
        let last = record.last(cache);
        last.is_none_or(|last| {
            last.result == RemedyResult::Failed || !last.is_for(self.owner(), stamps)
        })
    }

    /// Applies the remedies.
    pub(crate) fn run(
        &self,
        which: Which,
        commands: Commands,
        durability: Durability,
        deadline: Deadline,
    ) -> Rounds {
        let mut done = Rounds::default();
        let stamps = Stamps::of(self.profile);
        let record = Record::read(&self.stamp);
        let is_due = |cache: &&ForeignCache, record: &Record, stamps| {
            which == Which::All || self.is_stale(cache, record, stamps)
        };
        let due = self.caches.iter().filter(|it| is_due(it, &record, stamps));
        let (by_command, by_removal): (Vec<_>, Vec<_>) = due.partition(|cache| is_command(cache));
        let mut new = Vec::new();
        for cache in by_removal {
            let mut cure = Cure::by_removal(cache, self.profile);
            new.extend(self.end(cache, &mut cure, &record, stamps));
            done.cures.push(cure);
        }
        if let Commands::LeaveToPackages(manager) = commands {
            let is_made = |cache: &&&ForeignCache| cache.packages_rebuild.contains(&manager);
            for cache in by_command.iter().filter(is_made) {
                let mut cure = Cure::leave(cache, "the package manager makes it anew");
                new.extend(self.end(cache, &mut cure, &record, stamps));
                done.cures.push(cure);
            }
        }
        self.keep(new, durability, deadline, &mut done);
        if by_command.is_empty() || commands != Commands::Run {
            return done;
        }
        if let Some(why) = why_no_command(self.profile) {
            // An update does not mention it, because the first update on that host runs the
            // commands.
            if which == Which::All {
                let left = by_command.iter().map(|cache| Cure::leave(cache, &why));
                done.cures.extend(left);
            }
            return done;
        }
        let _lock = self.lock(&mut done);
        // During the wait, another process may have run the commands. So read the record again.
        let stamps = Stamps::of(self.profile);
        let record = Record::read(&self.stamp);
        let is_in_use = is_in_use(self.profile);
        for cache in by_command {
            let Remedy::Command(command) = &cache.remedy else {
                continue;
            };
            if !is_due(&cache, &record, stamps) {
                continue;
            }
            let mut cure = Cure::by_command(cache, command, self.profile, self.owner(), is_in_use);
            // The next command may take long, so this one is recorded at once.
            let new = self.end(cache, &mut cure, &record, stamps);
            done.cures.push(cure);
            let deadline = Deadline::of_touch();
            self.keep(new.into_iter().collect(), durability, deadline, &mut done);
        }
        done
    }

    /// Ends a cure, and returns its record. `None` if the same is on record already.
    fn end(
        &self,
        cache: &ForeignCache,
        cure: &mut Cure,
        record: &Record,
        stamps: Stamps,
    ) -> Option<LastRemedy> {
        let (what, output) = (cure.what(), cure.output.join("\n"));
        let new = LastRemedy::now(cache, self.owner(), stamps, cure.result, what, output);
        let last = record.last(cache);
        cure.is_news = last.is_none_or(|last| !last.tells_the_same(&new));
        (cure.is_news || cure.is_change()).then_some(new)
    }

    fn keep(
        &self,
        new: Vec<LastRemedy>,
        durability: Durability,
        deadline: Deadline,
        done: &mut Rounds,
    ) {
        if new.is_empty() {
            return;
        }
        let turn = match self.stamp.take_turn_by(deadline) {
            Ok(turn) => turn,
            Err(error) => return done.errors.push(error),
        };
        if let Err(cause) = Record::keep(&turn, new, &self.caches, durability) {
            let attempt = "keep the record of remedies beside";
            let remedy = "make room there, or make it writable for its owner";
            let error = Error::system(attempt, self.stamp.path(), cause, remedy);
            done.errors.push(error);
        }
        done.warnings.extend(turn.missing_lock());
    }

    /// Waits until no other process runs the commands of these caches. Without a lock the commands
    /// run all the same: two runs do less harm than none.
    fn lock(&self, done: &mut Rounds) -> Option<Lock> {
        let limits = self.caches.iter().map(|cache| match &cache.remedy {
            Remedy::Command(command) => command.time_limit,
            Remedy::Remove | Remedy::Libvirt => Duration::ZERO,
        });
        let patience = limits.sum::<Duration>() + GRACE;
        let turn = match self.stamp.take_turn() {
            Ok(turn) => turn,
            Err(error) => {
                done.errors.push(error);
                return None;
            }
        };
        // No touch may wait for the commands, which take long. So the turn ends before them.
        let name = self.stamp.commands_lock_name();
        let file = open_private(&turn.directory, &name);
        drop(turn);
        let locked = file.and_then(|file| {
            let locked = Lock::by(Deadline::after(patience), file);
            locked.map_err(|(_, errno)| errno)
        });
        match locked {
            Ok(lock) => Some(lock),
            Err(cause) => {
                let path = self.stamp.path().with_file_name(name);
                let remedy = "modstamp went on without it; if the process that lslocks(8) names \
                              hangs, end it";
                let error = Error::system("lock", path, cause, remedy);
                done.warnings.push(error.to_string());
                None
            }
        }
    }
}

impl Rounds {
    /// Applies the remedies after a touch of the stamp of `owner`. Runs no command.
    ///
    /// The record is not synced. Losing it in a power cut costs at most one remedy.
    pub(crate) fn after_touch(
        profile: &Profile,
        owner: Owner,
        commands: Commands,
        deadline: Deadline,
    ) -> Rounds {
        let (profile, update) = (profile.clone(), profile.command("update"));
        if Round::of(&profile, owner).is_none() {
            return Rounds::default();
        }
        let patience = deadline.left().min(PATIENCE);
        let run = move || {
            let round = Round::of(&profile, owner);
            let run = |it: Round| it.run(Which::Stale, commands, Durability::NotSynced, deadline);
            round.map(run).unwrap_or_default()
        };
        within(patience, run).unwrap_or_else(|why| {
            let why = match why {
                NoResult::TooLate => "took too long".to_owned(),
                NoResult::Failed => "failed".to_owned(),
                NoResult::NotBegun(error) => format!("could not begin: {error}"),
            };
            Rounds {
                warnings: vec![format!(
                    "the removal of stale caches {why}; “{update}” does the rest"
                )],
                ..Rounds::default()
            }
        })
    }

    /// Applies the remedies of all caches that the caller may make good: the caller's own, and for
    /// root also the system's.
    pub(crate) fn run(
        profile: &Profile,
        which: Which,
        commands: Commands,
        durability: Durability,
    ) -> Rounds {
        let mut all = Rounds::default();
        for owner in [Owner::System, Owner::User] {
            if let Some(round) = Round::of(profile, owner) {
                let done = round.run(which, commands, durability, Deadline::of_touch());
                all.cures.extend(done.cures);
                all.errors.extend(done.errors);
                all.warnings.extend(done.warnings);
            }
        }
        all
    }

    /// Adds to an event what was done.
    pub(crate) fn tell(&self, event: &mut Event) {
        self.cures.iter().for_each(|cure| cure.tell(event));
        event.fail(&self.errors);
    }

    /// Takes out all errors.
    pub(crate) fn take_errors(&mut self) -> Vec<Error> {
        let own = std::mem::take(&mut self.errors).into_iter();
        let cures = self.cures.iter_mut();
        own.chain(cures.flat_map(|cure| std::mem::take(&mut cure.errors)))
            .collect()
    }
}

impl Profile {
    /// Whether the profile names caches of the system that only root can make good, and the caller
    /// is not root. `which` asks for all of them, or only for stale ones.
    #[doc(hidden)] // Only the programs use it.
    pub fn leaves_to_root(&self, which: Which) -> bool {
        let profile = &self.of_packages();
        if is_of_root(profile.root()) || !is_in_use(profile) {
            return false;
        }
        let round = Round::seen_by_anybody(profile, Owner::System);
        let has_stale = |round: Round| {
            let (record, stamps) = (Record::read(&round.stamp), Stamps::of(profile));
            let mut caches = round.caches.iter();
            caches.any(|cache| round.is_stale(cache, &record, stamps))
        };
        match which {
            Which::All => round.is_some() || profile.refreshes_libvirt(),
            Which::Stale => round.is_some_and(has_stale),
        }
    }
}

/// Whether the caller may make the system's caches good. In another root directory, everybody may.
pub(crate) fn is_of_root(root: &Root) -> bool {
    rustix::process::geteuid().is_root() || !root.is_system()
}

/// Whether the caller has a home directory and owns it. Under sudo(8), root may have another
/// user's. Services have “/”.
fn has_own_home(root: &Root) -> bool {
    let home = home_directory("HOME", "").filter(|home| home != Path::new("/"));
    let stat = home
        .filter(|_| root.is_system())
        .and_then(|home| root.target(&home));
    stat.is_some_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw())
}

/// Why no command runs; `None` if one may.
fn why_no_command(profile: &Profile) -> Option<String> {
    let update = profile.command("update");
    if !profile.root().is_system() {
        let why = format!("a command runs for / alone; the first “{update}” there runs it");
        return Some(why);
    }
    image_is_being_built().then(|| {
        format!(
            "an image is being built (SOURCE_DATE_EPOCH is set); the first “{update}” on a host \
             with that image runs it"
        )
    })
}

/// Whether any module directory or program of the profile is there, or may be.
fn is_in_use(profile: &Profile) -> bool {
    Inputs::of(profile, None).map_or(true, |inputs| {
        inputs.module_directories().next().is_some() || inputs.programs().next().is_some()
    })
}
