//! The result of a walk through a module directory: its entries, or only their sum.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::Stat;

use crate::observe::entry::Entry;
use crate::observe::evidence::{Identity, hash};

/// The result of a walk through a module directory, or of a part of the walk.
pub(crate) enum Found {
    /// The sum of all entries, which is compared with an older observation's. `None` once an entry
    /// is no evidence. A sum allocates nothing for a module, which makes a check quick.
    Sum(Option<u64>),
    /// Every entry.
    List(Vec<Entry>),
}

impl Found {
    #[inline]
    pub(crate) fn add(&mut self, name: &Path, stat: &Stat, identity: Identity) {
        match self {
            Found::Sum(sum) => *sum = sum.and_then(|sum| plus(sum, name, identity)),
            Found::List(entries) => entries.push(Entry::new(name.to_owned(), stat, identity)),
        }
    }

    pub(crate) fn add_entry(&mut self, entry: Entry) {
        match self {
            Found::Sum(sum) => *sum = sum.and_then(|sum| plus(sum, &entry.name, entry.identity)),
            Found::List(entries) => entries.push(entry),
        }
    }

    /// An empty result of the same kind.
    pub(crate) fn empty(&self) -> Found {
        match self {
            Found::Sum(_) => Found::Sum(Some(0)),
            Found::List(_) => Found::List(Vec::new()),
        }
    }

    /// Adds all entries of another result of the same kind.
    pub(crate) fn append(&mut self, other: Found) {
        match (self, other) {
            (Found::Sum(sum), Found::Sum(other)) => {
                *sum = sum.zip(other).map(|(sum, other)| sum.wrapping_add(other));
            }
            (Found::List(entries), Found::List(other)) if entries.is_empty() => *entries = other,
            (Found::List(entries), Found::List(other)) => entries.extend(other),
            (Found::Sum(sum), Found::List(_)) => *sum = None,
            (Found::List(_), Found::Sum(_)) => {}
        }
    }

    /// Every entry, by name.
    pub(crate) fn sorted(self) -> Vec<Entry> {
        match self {
            Found::Sum(_) => Vec::new(),
            Found::List(mut entries) => {
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                entries
            }
        }
    }

    /// The sum of all entries' fingerprints, each hashed with its name. `nothing` is the sum of an
    /// empty directory. The order in which a file system lists names does not change a sum.
    pub(crate) fn sum(&self, nothing: u64) -> Option<u64> {
        match self {
            Found::Sum(sum) => *sum,
            Found::List(entries) => entries
                .iter()
                .try_fold(nothing, |sum, entry| plus(sum, &entry.name, entry.identity)),
        }
    }
}

/// `None` if the identity is no evidence.
#[inline]
fn plus(sum: u64, name: &Path, identity: Identity) -> Option<u64> {
    let fingerprint = identity.evidence()?;
    Some(sum.wrapping_add(hash(fingerprint, name.as_os_str().as_bytes())))
}
