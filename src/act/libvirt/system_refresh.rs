//! A refresh of the system under way: it moves the times that libvirt itself compares, and keeps a
//! [`Record`] of that. If no time can be moved, it removes stale files from the system's cache
//! instead.

use std::io;
use std::path::{Path, PathBuf};

use crate::act::libvirt::before::Before;
use crate::act::libvirt::cached::Cached;
use crate::act::libvirt::daemons::daemons;
use crate::act::libvirt::installation::Installed;
use crate::act::libvirt::judgement::is_outdated;
use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::last_refresh::{LastRecord, LastSecond};
use crate::act::libvirt::moved::{Failure, Moved, Opened, change_all};
use crate::act::libvirt::occasion::Occasion;
use crate::act::libvirt::record::{Effect, Reached, Record};
use crate::act::libvirt::refreshed::Refreshed;
use crate::act::libvirt::targets::Targets;
use crate::ground::error::{Error, Result};
use crate::ground::text::Printable;
use crate::ground::time::{Deadline, Mtime};
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::stamp::stamp::{Durability, Owner, Stamp};
use crate::stamp::turn::{Turn, Versioned};

/// A refresh of the system under way.
pub(crate) struct SystemRefresh<'a> {
    occasion: Occasion,
    profile: &'a Profile,
    kind: &'static Kind,
    durability: Durability,
    /// The system's.
    stamp: &'a Stamp,
    /// `None` if the stamp's directory cannot be written. Then no record is kept.
    turn: Option<Turn<'a>>,
    /// A place where an unknown libvirt may be.
    unseen: Option<Failure>,
    done: Refreshed,
}

impl<'a> SystemRefresh<'a> {
    /// Takes the turn.
    pub(crate) fn begin(
        occasion: Occasion,
        profile: &'a Profile,
        stamp: &'a Stamp,
        durability: Durability,
        deadline: Deadline,
    ) -> Result<SystemRefresh<'a>> {
        let kind = Kind::of(profile)?;
        let mut done = Refreshed::default();
        let turn = stamp
            .take_turn_by(deadline)
            .map_err(|error| done.warnings.push(error.to_string()));
        Ok(SystemRefresh {
            occasion,
            profile,
            kind,
            durability,
            stamp,
            turn: turn.ok(),
            unseen: None,
            done,
        })
    }

    /// Makes the refresh. `None` if another update made it while this one waited for its turn.
    pub(crate) fn run(
        mut self,
        seen: Versioned<Before>,
        directories: &[PathBuf],
    ) -> Result<Option<Refreshed>> {
        let Some(before) = self.look_again(seen)? else {
            return Ok(None);
        };
        let (last, inputs) = (before.last, before.inputs);
        let root = self.profile.root();
        let targets = self.targets(directories, last.record.known(), &inputs);
        let opened = Opened::open(root, targets.directories, last.seconds());
        let second = opened.second;
        self.warn_of_second(opened.not_followed);
        // If the claim fails, a later refresh may repeat this second. Without the lock, one at the
        // same time may choose it. If the last second is unknown, this refresh may repeat an
        // earlier one. In all these cases the programs' ctimes must move, too.
        let claim = |turn: &Turn| turn.is_locked() && Record::claim_second(turn, second).is_ok();
        let is_known = opened.not_followed.is_none() && last.second != LastSecond::Unknown;
        let is_new = self.turn.as_ref().is_some_and(claim) && is_known;
        let are_enough = is_new && targets.are_enough && self.unseen.is_none();
        let directories = opened.move_all(root, self.durability);
        let moved = directories.moved.iter();
        let moved = moved.map(|moved| (root.outside(&moved.path), moved.second));
        self.done.moved = moved.collect();
        let mut record = Record {
            owner: Owner::System,
            effect: Effect {
                reached: Reached::ByTimes,
                moved: directories.moved,
                left: directories.left,
                changed: Vec::new(),
            },
            witness: before.witness,
        };
        if directories.failed.is_some() || !are_enough {
            self.go_by_programs(&mut record, last.record, inputs, directories.failed)?;
        }
        self.warn_of_unseen(&mut record.effect);
        self.keep(&record, second);
        Ok(Some(self.done))
    }

    /// The module directories to move. `directories` are those that a package manager named.
    ///
    /// If the last refresh may have left one out, those that libvirt watches are among them.
    fn targets(
        &mut self,
        directories: &[PathBuf],
        last: Option<&Record>,
        inputs: &Inputs,
    ) -> Targets {
        let drivers = self.drivers();
        let named = Targets::named(self.profile.root(), directories, last);
        let is_known = |last: &Record| {
            last.tells_all_directories() && self.are_older(&drivers, &last.effect.moved)
        };
        if !directories.is_empty() && last.is_some_and(is_known) {
            return named;
        }
        let (kind, profile) = (self.kind, self.profile);
        let mut targets = Targets::watched(kind, profile, inputs, &drivers, self.occasion);
        if !directories.is_empty() {
            targets.add(named.directories);
        }
        targets
    }

    /// Whether every driver was there when the directories were moved.
    fn are_older(&self, drivers: &[PathBuf], moved: &[Moved]) -> bool {
        let root = self.profile.root();
        let first = moved.iter().map(|moved| moved.ctime).min();
        drivers.iter().all(|driver| {
            let since = root.target(driver).map(|stat| Mtime::of_ctime(&stat));
            since.zip(first).is_some_and(|(since, first)| since < first)
        })
    }

    /// The driver of each installed libvirt. Notes down a place at which nobody could look.
    fn drivers(&mut self) -> Vec<PathBuf> {
        let Installed { drivers, unseen } = Installed::find(self.profile.root());
        self.unseen = self.unseen.take().or(unseen);
        drivers
    }

    /// Tells a person of a place where an unknown libvirt may be.
    ///
    /// The programs' new ctimes reach that libvirt, too. If none moved, the next update tries again.
    fn warn_of_unseen(&mut self, effect: &mut Effect) {
        if let Some(Failure { path, cause }) = self.unseen.take() {
            let path = self.profile.root().outside(&path);
            let remedy = self.later();
            let error = Error::system("look for libvirt's driver in", path, cause, remedy);
            self.done.warnings.push(error.to_string());
            if effect.changed.is_empty() {
                effect.reached = Reached::Partly;
            }
        }
    }

    /// The remedy for what this refresh could not do. An ordinary user's lack of rights never ends.
    fn later(&self) -> &'static str {
        match self.is_privileged() {
            true => self.kind.remedies.later,
            false => self.kind.remedies.as_root,
        }
    }

    fn is_privileged(&self) -> bool {
        rustix::process::geteuid().is_root() || !self.profile.root().is_system()
    }

    /// Looks anew if another refresh came first. `None` if there is nothing left to do.
    fn look_again(&self, seen: Versioned<Before>) -> Result<Option<Before>> {
        let look = || Before::look(self.profile, self.stamp, self.occasion);
        let before = self.stamp.look_again_if_changed(seen, look)?;
        let is_due = self.occasion != Occasion::Update
            || is_outdated(before.last.record.known(), &before.inputs);
        Ok(is_due.then_some(before))
    }

    /// Reaches the libvirts that the directories do not: by the programs, or else by an eviction.
    ///
    /// `failed` is the first module directory that was not moved.
    fn go_by_programs(
        &mut self,
        record: &mut Record,
        last: LastRecord,
        inputs: Inputs,
        failed: Option<Failure>,
    ) -> Result<()> {
        // No program is changed for a libvirt that is not installed, unless a person asks for it.
        let is_wanted =
            self.occasion == Occasion::Hand || !self.drivers().is_empty() || self.unseen.is_some();
        let programs: Vec<&Path> = inputs.programs().filter(|_| is_wanted).collect();
        let program = self.change_programs(&programs, record)?;
        // The programs stand in for a directory that is gone.
        let directory = failed.filter(|it| it.cause.kind() != io::ErrorKind::NotFound);
        let is_shut_out = match (&program, &directory) {
            (Some(program), _) => program.is_lasting(),
            (None, Some(directory)) => programs.is_empty() && directory.is_lasting(),
            (None, None) => false,
        };
        // Without a new ctime, nothing stands in for a directory that was not moved.
        let is_reached = program.is_none()
            && (directory.is_none() || !record.effect.changed.is_empty() || !is_wanted);
        let reached = match (is_shut_out, is_reached) {
            (true, _) => Reached::ByEviction,
            (false, true) => Reached::ByTimes,
            (false, false) => Reached::Partly,
        };
        if let Some(failure) = directory.or(program).filter(|_| is_wanted) {
            self.warn_of(failure, reached)?;
        }
        record.effect.reached = match reached {
            Reached::ByEviction => self.evict(last, inputs, is_wanted),
            reached => reached,
        };
        Ok(())
    }

    /// Moves the ctimes of programs, and has the record know them. Returns the first failure.
    fn change_programs(
        &mut self,
        programs: &[&Path],
        record: &mut Record,
    ) -> Result<Option<Failure>> {
        let root = self.profile.root();
        let (changed, failed) =
            change_all(root, programs, self.occasion.patience(), self.durability);
        let outside = changed.iter().map(|changed| root.outside(&changed.path));
        self.done.changed = outside.collect();
        if !changed.is_empty() {
            let again = self.occasion.witness_again(self.profile, &record.witness)?;
            if let Some(again) = again {
                record.witness = again;
            }
        }
        record.effect.changed = changed;
        Ok(failed)
    }

    /// Tells a person of a last second that cannot be right.
    fn warn_of_second(&mut self, second: Option<i64>) {
        let Some(second) = second else {
            return;
        };
        let path = self.stamp.path().with_extension("libvirt");
        let path = Printable(path.as_os_str());
        self.done.warnings.push(format!(
            "the record {path} has the time {second}, which is far ahead of the clock; \
             it is not followed, and the record gets a new time"
        ));
    }

    /// Tells a person of a time that could not be moved.
    ///
    /// # Errors
    /// If the caller lacks the privilege to do anything at all.
    fn warn_of(&mut self, failure: Failure, reached: Reached) -> Result<()> {
        let root = self.profile.root();
        let is_privileged = self.is_privileged();
        let remedy = match (reached, is_privileged) {
            (Reached::ByTimes, _) => "the other times that could be moved were moved",
            (Reached::Partly, _) => self.later(),
            (Reached::ByEviction, true) => {
                "so stale files were removed from the system's cache instead"
            }
            (Reached::ByEviction, false) => {
                "run as root; “modstamp libvirt evict” removes what is stale from your own cache"
            }
        };
        let attempt = "make libvirt ask again by the mtime or ctime of";
        let path = root.outside(&failure.path);
        let error = Error::system(attempt, path, failure.cause, remedy);
        match reached == Reached::ByEviction && !is_privileged {
            true => Err(error),
            false => {
                self.done.warnings.push(error.to_string());
                Ok(())
            }
        }
    }

    /// Removes stale files from the system's cache, and names the daemons that hold answers in
    /// memory.
    fn evict(&mut self, last: LastRecord, inputs: Inputs, is_wanted: bool) -> Reached {
        let cached = Cached::of(self.kind, self.profile, last, inputs);
        let are_all_gone = self.done.evict(cached, Owner::System);
        self.done.warnings.extend(daemons(self.profile.root()));
        match (are_all_gone, is_wanted) {
            (true, _) => Reached::ByEviction,
            (false, true) => Reached::Partly,
            // No libvirt is installed that another attempt could reach.
            (false, false) => Reached::ByTimes,
        }
    }

    fn keep(&mut self, record: &Record, second: i64) {
        let Some(turn) = &self.turn else {
            return;
        };
        // A file system of even seconds may have made it a later one. A refresh that did not wait
        // for this one may have claimed a later one since.
        let claimed = Record::claimed_second(turn).into_iter();
        let moved = record.effect.moved.iter().map(|moved| moved.second);
        let second = Some(claimed.chain(moved).fold(second, i64::max));
        self.done.keep(record, turn, second, self.durability);
    }
}
