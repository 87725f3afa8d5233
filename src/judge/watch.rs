//! A watch: checks for a program that stays, which cost next to nothing while nothing changes.
//!
//! A whole check looks at every input. A watch has the kernel tell, by inotify(7), whether any of
//! them may have changed since its last look. If not, the last verdict holds. The watches are set
//! before the look, so that no change falls between them.
//!
//! inotify does not tell of
//!
//! - files in /proc and /sys, and the caller's environment: each check reads those that the profile
//!   names;
//! - mounts: the kernel tells of them by /proc/self/mountinfo (proc(5));
//! - stores to a mapping (mmap(2)), and some kinds of asynchronous writes: so a verdict lasts for
//!   [`LONGEST`] at most;
//! - file systems that others change, such as a network's, and overlays: each check there is a
//!   whole one.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::files::root::Root;
use crate::ground::error::{Error, Result};
use crate::judge::verdict::Verdict;
use crate::judge::witness::Witness;
use crate::observe::fact::{Fact, HostFacts};
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;
use crate::observe::walk::Note;
use crate::observe::watches::Watches;

/// A verdict lasts no longer without a look.
const LONGEST: Duration = Duration::from_secs(60);

/// The most verdicts that are remembered.
const MOST_VERDICTS: usize = 1024;

/// The most looks for one check. Each finds more to watch, until one finds nothing more.
const MOST_LOOKS: usize = 4;

/// The kernel's list of mounts. A poll tells once of each change.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Checks witnesses in a program that stays. [`Profile::watch`] makes one.
///
/// ```no_run
/// # fn main() -> modstamp::Result<()> {
/// let profile = modstamp::Profile::load("qemu")?;
/// let mut watch = profile.watch()?;
/// let witness = profile.observe()?;
/// // … then, at each look-up of the answer:
/// if !watch.check(&witness)?.is_fresh() {
///     // Ask again.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watch {
    profile: Profile,
    /// Is readable once there is something to check.
    wake: OwnedFd,
    ears: Ears,
    /// The begin of the time for which the verdicts hold.
    since: Instant,
    /// The variables and host inputs of that time.
    facts: (Vec<Fact>, HostFacts),
    /// The verdicts since then.
    verdicts: Vec<(Witness, Verdict)>,
}

/// What the kernel tells a watch.
#[derive(Debug)]
enum Ears {
    Open {
        watches: Watches,
        mounts: File,
        /// The same list, for the program's main loop: whoever polls first takes the news.
        _mounts_for_others: File,
    },
    /// Nothing, for this reason. Each check is a whole one.
    Closed(Error),
}

impl Profile {
    /// Begins to watch the profile's inputs, for a program that stays and checks often.
    ///
    /// If they cannot be watched, each check looks at all of them; [`Watch::limit`] tells why.
    ///
    /// # Errors
    /// Like [`Profile::inputs`].
    pub fn watch(&self) -> Result<Watch> {
        self.refuse_empty(self.name())?;
        let wake = epoll::create(epoll::CreateFlags::CLOEXEC);
        let wake = wake.map_err(|errno| {
            let remedy = "close some files, or raise “ulimit -n”";
            Error::system("watch", self.root().outside("/".as_ref()), errno, remedy)
        })?;
        Ok(Watch {
            profile: self.clone(),
            ears: Ears::open(self.root(), &wake),
            wake,
            since: Instant::now(),
            facts: Default::default(),
            verdicts: Vec::new(),
        })
    }
}

impl Watch {
    /// Judges a witness by the inputs of now, like [`Witness::check`].
    ///
    /// If nothing happened since the last check of an equal witness, that takes one poll(2).
    ///
    /// # Errors
    /// Like [`Witness::check`].
    pub fn check(&mut self, witness: &Witness) -> Result<Verdict> {
        if !self.is_quiet() {
            self.begin();
        } else if let Some(verdict) = self.known(witness) {
            return Ok(verdict.clone());
        }
        self.look(witness)
    }

    /// The reason why each check is a whole one; `None` if the inputs are watched.
    ///
    /// It is known after the first check.
    pub fn limit(&self) -> Option<String> {
        match &self.ears {
            Ears::Open { .. } => None,
            Ears::Closed(why) => Some(why.to_string()),
        }
    }

    fn known(&self, witness: &Witness) -> Option<&Verdict> {
        let mut verdicts = self.verdicts.iter();
        let known = verdicts.find(|(known, _)| known.observation == witness.observation);
        known.map(|(_, verdict)| verdict)
    }

    /// Whether the verdicts still hold.
    fn is_quiet(&mut self) -> bool {
        self.ears.are_quiet()
            && self.since.elapsed() < LONGEST
            && self.facts.0 == self.profile.variable_facts()
            && self.facts.1 == self.profile.host_facts(Some(&self.facts.1))
    }

    /// Begins anew, without any verdict.
    fn begin(&mut self) {
        self.verdicts.clear();
        match &mut self.ears {
            Ears::Open { watches, .. } => watches.clear(),
            // What could not be watched just now cannot be watched yet.
            Ears::Closed(_) if self.since.elapsed() < LONGEST => return,
            ears @ Ears::Closed(_) => *ears = Ears::open(self.profile.root(), &self.wake),
        }
        self.since = Instant::now();
    }

    fn look(&mut self, witness: &Witness) -> Result<Verdict> {
        let profile = witness.looked_at_by(&self.profile);
        for _ in 0..MOST_LOOKS {
            let Ears::Open { watches, .. } = &mut self.ears else {
                break;
            };
            let (inputs, notes) = Inputs::with_notes(&profile, Some(&witness.observation))?;
            match watch_all(watches, &profile, notes) {
                // All that this look saw was watched before it began.
                Ok(false) => {
                    let verdict = witness.judge(&inputs);
                    let observation = inputs.observation();
                    let facts = (observation.variables.clone(), observation.host.clone());
                    if facts != self.facts {
                        self.verdicts.clear(); // They were judged by other facts.
                        self.facts = facts;
                    }
                    self.verdicts.truncate(MOST_VERDICTS - 1);
                    self.verdicts.push((witness.clone(), verdict.clone()));
                    return Ok(verdict);
                }
                Ok(true) => {}
                Err(why) => self.ears = Ears::Closed(why),
            }
        }
        witness.check(&self.profile)
    }
}

/// Watches the inputs that a look depended on, and the stamps. Returns whether one of them was not
/// watched before.
fn watch_all(
    watches: &mut Watches,
    profile: &Profile,
    notes: impl IntoIterator<Item = Note>,
) -> Result<bool> {
    let mut is_new = false;
    for stamp in profile.stamps() {
        is_new |= watches.add(&stamp.root, Note::Path(stamp.place().to_owned()))?;
    }
    for note in notes {
        is_new |= watches.add(profile.root(), note)?;
    }
    Ok(is_new)
}

impl Ears {
    fn open(root: &Root, wake: &OwnedFd) -> Ears {
        let open = || {
            let watches = Watches::new()?;
            let (mounts, mounts_for_others) = (File::open(MOUNTS)?, File::open(MOUNTS)?);
            let add =
                |fd: BorrowedFd<'_>, events| epoll::add(wake, fd, EventData::new_u64(0), events);
            add(watches.as_fd(), EventFlags::IN)?;
            add(mounts_for_others.as_fd(), EventFlags::PRI)?;
            Ok(Ears::Open {
                watches,
                mounts,
                _mounts_for_others: mounts_for_others,
            })
        };
        open().unwrap_or_else(|cause: std::io::Error| {
            let remedy = "raise fs.inotify.max_user_instances by sysctl(8), and mount /proc; until \
                          then each check looks at all";
            Ears::Closed(Error::system(
                "watch",
                root.outside("/".as_ref()),
                cause,
                remedy,
            ))
        })
    }

    /// Whether nothing happened since the last call.
    fn are_quiet(&mut self) -> bool {
        let Ears::Open {
            watches, mounts, ..
        } = self
        else {
            return false;
        };
        let mut fds = [
            PollFd::new(&*watches, PollFlags::IN),
            PollFd::new(&*mounts, PollFlags::PRI),
        ];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let polled = rustix::event::poll(&mut fds, Some(&now));
        let [of_files, of_mounts] = fds.map(|fd| fd.revents());
        match polled {
            Ok(0) => true,
            Ok(_) => {
                let is_file = !of_files.is_empty() && watches.take_change();
                !is_file && of_mounts.is_empty()
            }
            Err(_) => false,
        }
    }
}

/// Becomes readable whenever something happened that a check may care about.
///
/// A main loop can wait for it, and then check what it has cached. A check takes what happened, so
/// the descriptor is quiet afterwards. It tells neither of variables nor of /proc and /sys.
impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn a_verdict_holds_no_longer_than_its_time_even_if_the_kernel_told_nothing() {
        let memory = Path::new("/dev/shm"); // An overlay tells too little.
        let scratch = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let module = scratch.path().join("modules/a.so");
        fs::create_dir(module.parent().unwrap()).unwrap();
        fs::write(&module, "before").unwrap();
        let root = Root::open(scratch.path()).unwrap();
        let profile = Profile::new("x").unwrap().in_root(&root);
        let profile = profile.module_directories(["/modules"]).unwrap();
        let witness = profile.observe().unwrap();
        let mut watch = profile.watch().unwrap();
        assert!(watch.check(&witness).unwrap().is_fresh());
        fs::write(&module, "after").unwrap();
        assert!(!watch.ears.are_quiet(), "the kernel told, and nobody heard");
        assert!(watch.check(&witness).unwrap().is_fresh());
        watch.since = Instant::now().checked_sub(LONGEST).unwrap();
        assert!(!watch.check(&witness).unwrap().is_fresh());
    }

    #[test]
    fn a_host_input_that_changes_before_another_witness_is_judged_outdates_every_verdict() {
        let memory = Path::new("/dev/shm");
        let scratch = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let parameter = scratch.path().join("parameter");
        fs::write(&parameter, "before").unwrap();
        let root = Root::system().unwrap();
        let profile = Profile::new("x-of-the-watch").unwrap().in_root(&root);
        let modules = scratch.path().to_str().unwrap();
        let profile = profile.files([format!("{modules}/none")]).unwrap();
        let profile = profile.host([parameter.to_str().unwrap()]).unwrap();
        let first = profile.observe().unwrap();
        let mut watch = profile.watch().unwrap();
        assert!(watch.check(&first).unwrap().is_fresh());
        fs::write(&parameter, "after").unwrap();
        let second = profile.observe().unwrap();
        // As if the change had come just after the second check had found everything quiet.
        assert!(watch.look(&second).unwrap().is_fresh());
        assert!(!watch.check(&first).unwrap().is_fresh());
    }
}
