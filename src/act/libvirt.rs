//! libvirt's own cache, for a libvirt that knows nothing of stamps.
//!
//! # The problem
//!
//! libvirt keeps the answers of each QEMU, and of nbdkit, in a file for each program and in the
//! memory of its daemons. It judges an answer by its own version and by three times, in whole
//! seconds: the program's ctime, the module directory's mtime, and the latest ctime of libvirt's
//! own files. So it misses each of these changes:
//!
//! - a module is removed, and the directory's mtime is put back;
//! - a module is rewritten in place;
//! - the module directory vanishes;
//! - a second change comes within one second.
//!
//! `docs/libvirt.md` has the whole list.
//!
//! # The remedy
//!
//! [`refresh()`] moves the times that libvirt compares, so that every daemon probes again. It keeps
//! a record of the new times. By that record [`Cached`] judges each cache file, and removes the
//! stale ones. [`daemons()`] names the daemons that still hold a removed answer in memory.
//!
//! # The files
//!
//! | file | word |
//! | --- | --- |
//! | `kind` | how libvirt caches the answers of QEMU, and of nbdkit |
//! | `capabilities` | the part of a cache file that tells when libvirt probed |
//! | `cache_file` | the cache files: found, read, removed |
//! | `installation` | the installed libvirts, and the module directories that each watches |
//! | `daemons` | the running daemons |
//! | `moved` | the times that are moved |
//! | `record` | the record of the last refresh |
//! | `last_refresh` | the last refresh, as far as its record can be read |
//! | `judgement` | the verdict on a cache file, by the record |
//! | `cached` | all cache files of a profile, with their verdicts |
//! | `occasion`, `targets`, `refresh` | why, where and when a refresh is made |
//! | `before`, `system_refresh`, `refreshed` | a refresh before it moves a time, under way, and done |
//! | `told` | the facts about a refresh, for the log |
//! | `own_cache` | a user's own cache, if no time can be moved |

mod before;
mod cache_file;
pub(crate) mod cached;
mod capabilities;
mod daemons;
pub(crate) mod installation;
pub(crate) mod judgement;
pub(crate) mod kind;
pub(crate) mod last_refresh;
mod moved;
mod occasion;
pub(crate) mod own_cache;
pub(crate) mod record;
pub(crate) mod refresh;
pub(crate) mod refreshed;
mod system_refresh;
mod targets;
mod told;

pub use cache_file::CacheFile;
#[doc(hidden)] // Only the programs use it.
pub use cached::Next;
pub use cached::{Cached, Evicted, Eviction};
pub use capabilities::{Recorded, RecordedDirectory};
pub use daemons::daemons;
pub use kind::profiles;
pub use refresh::refresh;
pub use refreshed::Refreshed;
