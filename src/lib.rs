//! Keeps caches of what a program's plug-ins can do from going stale when packages come and go.
//!
//! # The problem
//!
//! A program that loads plug-ins often asks "what can I do?" once, at a cost, and caches the
//! answer. libvirt does so with QEMU: a probe takes from 300 ms to several seconds. QEMU's devices
//! are modules in packages of their own. The answer changes whenever such a package comes or goes,
//! while the QEMU program stays the same. A daemon that serves the old answer makes guests fail to
//! start.
//!
//! # The common case
//!
//! ```no_run
//! # fn probe() -> std::io::Result<String> { Ok(String::new()) }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let profile = modstamp::Profile::load("qemu")?;
//! let answer = modstamp::cached(&profile, "/var/cache/mine/qemu.answer", || probe())?;
//! println!("{}", String::from_utf8_lossy(&answer.bytes));
//! # Ok(())
//! # }
//! ```
//!
//! [`cached`] returns the stored answer while it is fresh. Otherwise it probes, and stores the new
//! answer. [`Cache`] is its like for the output of commands.
//!
//! # Why a stamp alone is not enough
//!
//! Package triggers can touch one well-known file, the [`Stamp`]. An answer that was cached under
//! another mtime is then stale. That covers package managers, but only once their trigger has run.
//! rpm's removal trigger runs *before* a package's files go. dpkg and pacman run theirs at the end.
//! None runs for `make install`, a swapped image, a rolled-back snapshot, a bind mount or a manual
//! change. So a check looks at the modules themselves, too.
//!
//! The modules alone are not enough either. An administrator needs something to touch. A consumer
//! that has no time to look at all modules has at least the stamp.
//!
//! # Observe, then probe, then store
//!
//! A program that keeps its answers itself keeps a [`Witness`] with each:
//!
//! ```no_run
//! # fn probe() -> String { String::new() }
//! # fn store(_: &str, _: &modstamp::Witness) {}
//! # fn main() -> modstamp::Result<()> {
//! use modstamp::{Profile, Verdict};
//!
//! let profile = Profile::load("qemu")?;
//! let before = profile.observe()?; // a Witness of all inputs, before the probe
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
//! A change during the probe differs from what was observed before it, so the next check says
//! stale. In the other order, the witness would include a change that the answer never saw.
//!
//! A change that is made *and undone* during the probe leaves no difference for a later check. It
//! moves a stat identity, though, and [`Witness::disturbed`] sees that. Such an answer is used once
//! and not stored.
//!
//! One look judges any number of witnesses: see [`Profile::inputs`] and [`Witness::judge`].
//! [`Profile::observe_again`] reads only what changed since an older witness.
//!
//! The module `libvirt` makes a libvirt without modstamp support probe again.
//!
//! Whatever the order of triggers, probes, checks, manual changes, crashes and clock steps, no old
//! answer is served. The exceptions are listed below. `tests/proof` searches every state of a model
//! of it, and its first page says what the model leaves out.
//!
//! # What is tracked
//!
//! | input | where it comes from | what is recorded | what makes it stale | why |
//! | --- | --- | --- | --- | --- |
//! | stamps, the system's and the user's own | [`Stamp`] | mtime | another mtime, earlier or later | triggers and people tell by it what a look cannot see |
//! | variables | the profile; `LD_LIBRARY_PATH`, if it asks for libraries | value | another value | they lead the program to other modules |
//! | the profile's paths and patterns | the profile | each of them | one that is new, or no longer excluded | something may have been there, and be gone |
//! | module directories | the profile's patterns and variables | permissions, owner, all names | any difference | a program loads what it finds there |
//! | modules, at any depth | all that is in them | type, permissions, owner, size, stat identity, digest of the content, ACL and capabilities | any difference but in the stat identity | another module is another answer, and an unreadable one is none |
//! | programs, further files | the profile's patterns | as modules | as modules | another build answers differently |
//! | shared libraries, if the profile asks for them | what modules and programs need, and manifests name, by ld.so(8) | as modules, and each name that leads to none | as modules, and another library of the same name | another library is another answer, or a module that does not load |
//! | the command | [`Cache::run`]'s caller | as modules | as modules | the profile might not name it |
//!
//! A symbolic link is recorded together with its target. A directory with several names is walked
//! once, by its own name rather than by a link's. Each other name is recorded as an alias. The name
//! that it is walked by makes no difference to a verdict.
//!
//! The digest of a content includes the ACL (`system.posix_acl_access`) and the capabilities
//! (`security.capability`) of a file or a link's target, if it has any. A directory's content is its
//! ACL, and a device's is its number.
//!
//! Shared libraries are found as the dynamic loader finds them, but each need for itself, and for
//! every processor of its architecture. As long as stat proves that all modules, programs,
//! libraries and searched directories are the same, a look takes the list of an older one. It then
//! costs a stat for each library.
//!
//! Every look ends. It leaves out a file of more than 4 GiB, and a module directory that holds more
//! than 500,000 files. It enters no directory more than 32 levels below a module directory, and none
//! in which the kernel shows its own state, such as `/proc`. The verdict on each of these is "not
//! known", which is stale.
//!
//! Helper threads speed up a large look. One helps in a directory of more than 4,096 files. Up to
//! three help if more than 8 MiB must be read. They end before the look does. Neither a verdict nor
//! the order of its reasons depends on them.
//!
//! # Stat first, content last
//!
//! Equal stat identities (device, inode, size, permissions, owner, mtime, ctime) mean "the same",
//! at the cost of one stat. A check adds up the identities of all entries of a module directory. If
//! the sum is the recorded one, nothing in the directory is different.
//!
//! Unequal identities mean "look at the content". Only if that differs, too, is the verdict stale.
//! So a redeploy with new inodes and times, a restored backup or a reboot costs a look, and no
//! probe. Nothing is ever compared by "newer": no clock has a say.
//!
//! An equal stat identity is evidence because the kernel sets the ctime by its own clock at every
//! change, and nobody can put it back. In these cases it is no evidence, and the content decides:
//!
//! - Right after a change (git calls such an entry racy). Two changes within one tick of the file
//!   system's clock look like one. [`Profile::observe`] also waits until that tick is over, so that
//!   a change during the probe looks different from one just before it. A touch waits some
//!   milliseconds for that. If the tick is longer, it keeps no identity of a file that changed just
//!   then, and such a file counts as touched since.
//! - For three seconds after a write. A write sets the times when it begins, and may still be under
//!   way. A package manager's files are recognized by their mtimes, which it sets itself.
//! - On file systems whose ctimes this kernel does not keep: over the network, in user space, on
//!   FAT.
//! - On an image that was mounted anew, because its maker chose all times. An image here is
//!   whatever is mounted read-only, and an overlay.
//!
//! # Life of the files
//!
//! | file | what it is |
//! | --- | --- |
//! | `/var/lib/modstamp/<profile>.stamp` | the stamp |
//! | `.<profile>.lock` beside it | makes touches take turns, and remembers the latest time that the stamp ever had |
//! | `<profile>.witness` | what the modules were at the last touch, for [`Profile::update`] |
//! | `<profile>.libvirt` | the record of the last refresh of libvirt |
//! | `<profile>.log` | the last events, for `modstamp log` |
//! | `~/.local/state/modstamp/` | the same files for a user's own stamp |
//! | `~/.cache/modstamp/` | a file for each answer that `modstamp run` cached, and a lock beside it; 256 MiB at most, and the oldest go first |
//!
//! A consumer keeps its witnesses itself. Stamps, answers and witnesses may be removed at any time.
//! That costs a probe each.
//!
//! # Where no trigger runs
//!
//! On hosts that are images, after a rollback and after `make install`, nothing touches the stamp.
//! A check of a whole witness sees the change all the same. A consumer that checks the stamps alone
//! does not, and neither does libvirt. [`Profile::update`] helps both: at boot, and whenever a module
//! directory changes, it touches the stamp if the contents are not those of the last touch. It
//! touches no stamp for a change that comes and goes again between two updates, but it makes libvirt
//! probe again even then. `docs/images.md` tells how an update is started.
//!
//! # Features
//!
//! - `cli`, the default, is the program `modstamp`. It implies `libraries` and `libvirt`. A program
//!   that uses the library takes `default-features = false`, and compiles no command line.
//! - `libraries` finds shared libraries. Without it, a profile that asks for them is refused, so no
//!   feature changes a verdict.
//! - `libvirt` reads libvirt's own cache, and makes libvirt probe again.
//! - `ffi` has the functions of the C library. It implies `libraries`.
//!
//! # What cannot be seen
//!
//! - Whatever a probe depends on beyond the profile: a configuration file or something of the host
//!   that the profile does not name, a library if the profile does not ask for libraries.
//! - A library that a program loads by a name in its code (dlopen(3)), and all that
//!   `/etc/ld.so.preload` and `LD_PRELOAD` add. A relative directory in a run path, and an empty item
//!   of `LD_LIBRARY_PATH`: they stand for directories below the working directory.
//! - A store through a shared memory mapping into a page that the same mapping has stored into
//!   before, and that the kernel has not written back since. The ctime moves at the first such store
//!   alone. Linux writes a page back some 30 seconds after that (`vm.dirty_expire_centisecs`), or at
//!   msync(2) and the like. The next store then moves the ctime again, and a check sees all of them.
//!   On tmpfs no page is ever written back. An observation writes no page back itself: fdatasync(2)
//!   takes 10 to 20 times as long as a read.
//! - In one boot, another `/proc/cpuinfo` or boot id that a container's runtime mounts there.
//! - A single write that takes longer than three seconds, and was observed in its midst.
//! - A change that a program makes with the clock set back to the very tick of an earlier change of
//!   the same file.
//! - A file system mounted writable in the place of another, on the same device number and with the
//!   same inodes, sizes and ctimes. Only somebody who writes to the disk itself can make one.
//! - Something that appears and vanishes during the probe: a program, a library, a further file, a
//!   module directory, or a mount over one. So is a link on the way to one, redirected and restored.
//!   Inside a module directory that itself stays, such a change is seen.
//! - A touch of the stamp that leaves the very time that was observed. That takes a manual touch
//!   after the clock was set back. It also happens if a power loss undoes a touch and the clock,
//!   and the touch is repeated. It is almost as easy if the file system keeps whole seconds and the
//!   stamp is seconds ahead of the clock.
//! - Rights that are neither permissions, owner, ACL nor capabilities: security labels such as
//!   SELinux's, other extended attributes, and the flags of chattr(1). A label that differs from
//!   host to host would make a witness useless for another one.
//! - An ACL on a module directory itself, on a directory that leads to one, or on a FIFO, a socket
//!   or a device; and the default ACL of any directory, which only later files get.
//!
//! # Layers
//!
//! A file uses those of its own layer and of lower ones. `make check` holds that order.
//!
//! | layer | what it is | what it may do |
//! | --- | --- | --- |
//! | front | the command line, the C interface, rpm's program | print, exit |
//! | act | the touch and what follows it, update, libvirt, cached answers, triggers | write |
//! | judge | two observations to a verdict with reasons; a witness's text | decide; it reads through observe alone |
//! | observe | a profile to an observation: search, walk, evidence, contents | read |
//! | stamp | the stamp, and what is kept beside it | write in one directory |
//! | files | a root directory, paths walked by descriptor, replacement of files, locks | open, lock and replace files |
//! | ground | errors, text and its escaping, time, environment; the start of rpm's program | ask for the time and the environment |
//!
//! rpm's program contains ground, files, stamp and a few files of act and observe. `make` builds
//! these files a second time, without std, by `--cfg modstamp_no_std`. So they use the crates core
//! and alloc, and take the rest from `src/ground/platform.rs`.

#![cfg_attr(modstamp_no_std, no_std)]
#![cfg_attr(modstamp_no_std, allow(dead_code))] // rpm's trigger uses a part of each file.

extern crate alloc;

#[cfg(modstamp_no_std)]
mod act {
    pub(crate) mod rpm_body;
    pub mod trigger;
}
#[cfg(not(modstamp_no_std))]
mod act {
    pub(crate) mod bound;
    pub(crate) mod cache;
    pub(crate) mod cached;
    pub(crate) mod command;
    #[cfg(feature = "cli")]
    pub mod doctor;
    pub(crate) mod follow;
    pub(crate) mod inquiry;
    pub(crate) mod kept_witness;
    #[cfg(feature = "libvirt")]
    pub mod libvirt;
    #[cfg(feature = "cli")]
    pub(crate) mod look;
    pub(crate) mod not_kept;
    pub(crate) mod patience;
    pub(crate) mod refresh;
    pub mod remedy;
    pub(crate) mod rpm_body;
    pub(crate) mod shelf;
    pub(crate) mod stored;
    pub(crate) mod stream;
    pub(crate) mod touch;
    pub mod trigger;
    pub(crate) mod update;
}
#[cfg(feature = "ffi")]
mod ffi;
mod files {
    pub(crate) mod directory;
    pub(crate) mod lock;
    #[cfg(not(modstamp_no_std))]
    pub(crate) mod mount;
    pub(crate) mod read;
    pub(crate) mod replace;
    pub(crate) mod root;
    #[cfg(not(modstamp_no_std))]
    pub(crate) mod shared;
    #[cfg(not(modstamp_no_std))]
    pub(crate) mod tree;
    pub(crate) mod trust;
    pub(crate) mod way;
    pub(crate) mod write;
}
mod ground {
    pub(crate) mod environment;
    pub(crate) mod error;
    #[cfg(any(modstamp_no_std, test))]
    pub(crate) mod error_text;
    pub(crate) mod platform;
    #[cfg(modstamp_no_std)]
    pub(crate) mod start;
    pub(crate) mod text;
    pub(crate) mod time;
}
#[cfg(not(modstamp_no_std))]
mod judge {
    pub(crate) mod compare;
    pub(crate) mod difference;
    pub(crate) mod facts;
    mod pairs;
    pub(crate) mod reason;
    pub(crate) mod verdict;
    pub(crate) mod watch;
    pub(crate) mod witness;
    mod witness_text;
}
#[cfg(modstamp_no_std)]
mod observe {
    pub(crate) mod package_manager;
}
#[cfg(not(modstamp_no_std))]
mod observe {
    pub(crate) mod added;
    mod boot;
    mod completion;
    pub(crate) mod content;
    pub(crate) mod directory;
    #[cfg(feature = "libraries")]
    mod elf;
    pub(crate) mod entry;
    pub(crate) mod evidence;
    pub(crate) mod exclude;
    mod exclusions;
    pub(crate) mod fact;
    pub(crate) mod foreign_cache;
    mod found;
    mod helper;
    pub(crate) mod input;
    pub(crate) mod inputs;
    pub(crate) mod item;
    #[cfg(feature = "libraries")]
    mod known_libraries;
    pub(crate) mod libraries;
    #[cfg(feature = "libraries")]
    mod library_path;
    pub(crate) mod linked;
    mod listing;
    #[cfg(feature = "libraries")]
    mod loader;
    #[cfg(feature = "libraries")]
    mod loader_cache;
    pub(crate) mod manifest;
    #[cfg(feature = "libraries")]
    mod manifest_file;
    mod module_walk;
    pub(crate) mod modules;
    #[cfg(feature = "libraries")]
    mod needs;
    pub(crate) mod observation;
    pub(crate) mod package_manager;
    pub(crate) mod pattern;
    pub(crate) mod profile;
    pub(crate) mod profile_file;
    mod profile_text;
    pub(crate) mod reader;
    pub(crate) mod search;
    pub(crate) mod stamps;
    pub(crate) mod tick;
    mod unseen;
    pub(crate) mod walk;
    pub(crate) mod watches;
}
#[allow(clippy::module_inception)] // The layer has the name of its main word.
mod stamp {
    pub(crate) mod event;
    pub(crate) mod later;
    pub(crate) mod log;
    pub(crate) mod stamp;
    pub(crate) mod touch;
    pub(crate) mod turn;
}

#[cfg(feature = "cli")]
#[doc(hidden)] // Only the programs use it.
pub use act::doctor;
#[cfg(feature = "libvirt")]
pub use act::libvirt;
#[cfg(feature = "cli")]
#[doc(hidden)] // Only the programs use it.
pub use act::look::Look;
#[doc(hidden)] // Only the programs use it.
pub use act::trigger;
#[cfg(not(modstamp_no_std))]
#[doc(hidden)] // Only the programs use them.
pub use act::{
    cache::AskedWith,
    command::program_of,
    inquiry::Ask,
    refresh::RefreshedCaches,
    remedy::{
        cure::Cure,
        record::{LastRemedy, RemedyResult},
        round::{Commands, Which},
        standing::{CacheStatus, Staleness},
    },
};
#[cfg(not(modstamp_no_std))]
pub use act::{
    cache::{Cache, CachedCommand, Outcome},
    cached::{Answer, cached},
    not_kept::NotKept,
    stream::Stream,
    touch::Touched,
    update::Updated,
};
pub use files::root::Root;
#[doc(hidden)] // Only the programs use it.
pub use ground::environment::caller;
pub use ground::error::{Error, Result};
#[doc(hidden)] // Only the programs use them.
pub use ground::text::{Sentence, is_unsafe, printable, unescape};
#[doc(hidden)] // Only the programs use it.
pub use ground::time::Precision;
pub use ground::time::{Mtime, NotATime};
#[cfg(not(modstamp_no_std))]
pub use judge::{
    reason::{Aspect, FactKind, Reason, Subject},
    verdict::Verdict,
    watch::Watch,
    witness::Witness,
};
#[cfg(not(modstamp_no_std))]
#[doc(hidden)] // Only the programs use them.
pub use observe::added::{Added, AddedState};
#[cfg(not(modstamp_no_std))]
pub use observe::{input::Input, inputs::Inputs, profile::Profile};
#[doc(hidden)] // Only the programs use them.
pub use stamp::event::{Action, Event};
#[doc(hidden)] // Only the programs use it.
pub use stamp::log::Log;
pub use stamp::stamp::{Durability, Note, Owner, Stamp};
