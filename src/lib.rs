//! stub
mod cache;
mod entry;
mod error;
mod evidence;
mod inputs;
mod profile;
mod root;
mod stamp;
pub mod trigger;
mod verdict;
mod walk;
mod witness;

pub use cache::{Cache, Outcome};
pub use error::{Error, Result};
pub use inputs::Inputs;
pub use profile::Profile;
pub use root::Root;
pub use stamp::{Durability, Mtime, Note, Owner, Stamp};
pub use verdict::{Aspect, Input, Reason, Verdict};
pub use witness::Witness;

use std::path::PathBuf;

/// A directory of the caller's own, by the XDG Base Directory Specification: what `variable` names, or `default` in
/// the home directory. `None` without a home. Relative values do not count, as the specification says.
pub fn home_directory(variable: &str, default: &str) -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute(variable).or_else(|| Some(absolute("HOME")?.join(default)))
}
