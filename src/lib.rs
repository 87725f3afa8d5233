//! Keeps caches of what a program's plug-ins can do from going stale when packages come and go.
//!
//! # The problem
//!
//! A program that loads plug-ins often asks "what can I do?" once, at a cost, and caches the answer. libvirt does so with
//! QEMU: a probe takes from 300 ms to several seconds. QEMU's devices are modules in packages of their own, so the answer
//! changes whenever such a package comes or goes, while the QEMU program stays as it is. Who serves the old answer then
//! makes guests fail to start.
//!
//! # Why a stamp alone is not enough
//!
//! Package triggers can touch one well-known file, the [`Stamp`], and a cache that was filled under another mtime is
//! stale. That covers package managers, but only once their trigger has run, and rpm has one that runs *before* a package's
//! files go, dpkg and pacman one that runs when all is over. It does not cover `make install`, an image that is swapped, a snapshot
//! rolled back, a bind mount, or a hand. So a check folds in the modules themselves, too. And the modules alone are not
//! enough either: an administrator who knows better needs something to touch, and a consumer that has no time to look at
//! all modules has at least the stamp.
//!
//! # Observe, then probe, then store
//!
//! ```no_run
//! # fn probe() -> String { String::new() }
//! # fn store(_: &str, _: &modstamp::Witness) {}
//! # fn main() -> modstamp::Result<()> {
//! use modstamp::{Profile, Verdict};
//!
//! let profile = Profile::load("qemu")?;
//! let before = profile.observe()?; // a Witness: what there is before the probe
//! let answer = probe();
//! if before.disturbed(&profile.inputs()?).is_none() {
//!     store(&answer, &before); // Display and FromStr, or serde
//! }
//!
//! // Later, and in another process:
//! # let stored = before;
//! match stored.check(&profile)? {
//!     Verdict::Fresh => println!("the answer still holds"),
//!     Verdict::Stale(reasons) => reasons.iter().for_each(|reason| println!("{reason}")),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A change that is made while the probe runs is then different from what was observed, and the next check says so. In the
//! other order it would be recorded as known to an answer that never saw it. A change that is made *and undone* while the
//! probe runs leaves nothing different; [`Witness::disturbed`] sees it in what was there all the while, because even then a
//! stat identity moved. Such an answer is used once and not stored.
//!
//! One observation judges any number of witnesses: see [`Profile::inputs`] and [`Witness::judge`].
//! [`Profile::observe_again`] reads only what changed since an older witness. [`Cache`] does all of it for the
//! output of commands.
//!
//! A libvirt that knows nothing of all this is helped from outside: [`libvirt`].
//!
//! That no order of package triggers, probes, checks, hands, crashes and clocks makes this serve an old answer is not argued
//! here but searched: `tests/proof` goes through every state of a model of it, and its first page says what that
//! leaves out.
//!
//! # What is tracked
//!
//! | input | where it comes from | what is recorded | what differs when it is stale | why |
//! | --- | --- | --- | --- | --- |
//! | stamps, the system's and the user's own | [`Stamp`] | mtime | the mtime, in either direction | package triggers and people say by it what a look cannot see |
//! | variables | the profile | value | the value | they lead the program to other modules |
//! | module directories | the profile's globs and variables | permissions, owner, all names in it | any of it | a program loads what it finds there |
//! | modules, at any depth | all that is in them | type, permissions, owner, size, stat identity, digest of the content | any of it but the stat identity | another module is another answer, and one that may not be read is none |
//! | programs, further files | the profile's globs | the same | the same | another build answers differently |
//! | the command | [`Cache::run`]'s caller | the same | the same | it may be none of the profile's programs |
//!
//! A symbolic link is recorded with what it leads to. A directory that has several names is walked once, by its own rather
//! than by a link's, and each other name is recorded as one of it.
//!
//! # Stat first, content last
//!
//! Equal stat identities (device, inode, size, permissions, owner, mtime, ctime) mean "the same", at the cost of one stat.
//! A check adds up those of a module directory's entries to one number, and where that is the one that was recorded, nothing
//! in it is different. Unequal ones mean "look at the content", and only if that differs too is the verdict stale: a redeploy
//! with new inodes and times, a restored backup or a reboot costs a look, and no probe. Nothing is ever compared by "newer":
//! no clock has a say.
//!
//! An equal stat identity is evidence because the kernel sets the ctime by its own clock at every change, and nobody
//! can put it back. It is none, and the content is looked at, in these cases:
//!
//! - Right after a change (git calls such an entry racy): two changes within one tick of the file system's clock look
//!   like one. [`Profile::observe`] also waits until that tick is over, so that what is changed during the probe is told from
//!   what was changed just before.
//! - For three seconds after a write: it sets the times when it begins, and may still be under way. A package manager's
//!   files are told from that by their mtimes.
//! - On file systems whose ctimes this kernel does not keep: over the network, in user space, on FAT.
//! - On images, whose makers choose all times, after they were mounted anew: that is, on whatever is mounted read-only,
//!   and on overlays.
//!
//! # Life of the files
//!
//! `/var/lib/modstamp/<profile>.stamp` is the stamp, and `.<profile>.lock` beside it makes touches take turns and
//! remembers the latest time that the stamp ever had; `<profile>.witness` is what the modules were at its last touch, by which
//! [`Profile::update`] tells whether they still are; `<profile>.libvirt` is what [`libvirt`] remembers of its last refresh.
//! A user's own are in `~/.local/state/modstamp/`.
//! `~/.cache/modstamp/` has a file for each cached answer, and a lock beside it. Witnesses are kept by whoever caches.
//! Stamps, answers and witnesses may be removed at any time: that costs a probe each.
//!
//! # Where no trigger runs
//!
//! On hosts that are images, after a rollback and after `make install`, nothing touches the stamp. Who checks a whole witness
//! sees the change all the same. For who looks at the stamps alone, and for libvirt, [`Profile::update`] does what the
//! trigger would have done, at boot and whenever a module directory is seen to change: it touches if the contents are not what they were at the
//! last touch. What comes and goes again between two updates it cannot see. `docs/images.md` tells how it is started.
//!
//! # Features
//!
//! - `cli`, the default, is the program `modstamp`. It implies `libvirt`. A program that uses the
//!   library takes `default-features = false`, and compiles no command line.
//! - `libvirt` reads libvirt's own cache, and makes libvirt probe again.
//! - `ffi` has the functions of the C library.
//!
//! # What cannot be seen
//!
//! - What a probe depends on beyond the profile, and so also a module whose bytes stay and whose meaning changes: a
//!   library that it loads, the kernel, the processor, a configuration file that the profile does not name.
//! - A store through a shared memory mapping, until the kernel has written the page back: the ctime moves no earlier.
//! - A single write that takes longer than three seconds, and was observed in its midst.
//! - A change that a program makes with the clock set back to the very tick of an earlier change of the same file.
//! - A file system mounted writable in the place of another, on the same device number and with the same inodes, sizes and
//!   ctimes: only who writes to the disk itself can make one.
//! - What comes and goes again while the probe runs: a program, a further file, a module directory, something mounted over
//!   one; a link on the way to one that leads elsewhere, and back. Only below a module directory that stays is it seen.
//! - A touch of the stamp that leaves the very time that it had when it was observed: by hand after the clock was set back,
//!   or more than some seconds ahead of the clock, where a file system keeps whole seconds and the tool had to go on; or
//!   the same touch again after a power loss took the first one back and set the clock back, too.
//! - Beyond 32 levels of directories below a module directory: there the answer is "not known", which is stale.

mod act {
    pub(crate) mod cache;
    #[cfg(feature = "libvirt")]
    pub mod libvirt;
    pub mod trigger;
    pub(crate) mod update;
}
#[cfg(feature = "ffi")]
mod ffi;
mod files {
    pub(crate) mod root;
    pub(crate) mod trust;
}
mod ground {
    pub(crate) mod environment;
    pub(crate) mod error;
    pub(crate) mod text;
    pub(crate) mod time;
}
mod judge {
    pub(crate) mod reason;
    pub(crate) mod verdict;
    pub(crate) mod witness;
}
mod observe {
    pub(crate) mod entry;
    pub(crate) mod evidence;
    pub(crate) mod inputs;
    pub(crate) mod pattern;
    pub(crate) mod profile;
    mod profile_file;
    pub(crate) mod tick;
    pub(crate) mod walk;
}
#[allow(clippy::module_inception)] // A layer has the name of its main word.
mod stamp {
    pub(crate) mod stamp;
}

pub use act::cache::{Cache, Outcome};
#[cfg(feature = "libvirt")]
pub use act::libvirt;
#[doc(hidden)] // Only the programs use it.
pub use act::trigger;
pub use act::update::{Touched, Updated};
pub use files::root::Root;
pub use ground::error::{Error, Result};
#[doc(hidden)] // Only the programs use it.
pub use ground::text::printable;
pub use ground::time::Mtime;
pub use judge::reason::{Aspect, Input, Reason, Subject};
pub use judge::verdict::Verdict;
pub use judge::witness::Witness;
pub use observe::inputs::Inputs;
pub use observe::profile::Profile;
pub use stamp::stamp::{Durability, Note, Owner, Stamp};
