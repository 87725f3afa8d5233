//! The loader's cache, `/etc/ld.so.cache`: the libraries that ldconfig(8) found.
//!
//! glibc's `sysdeps/generic/dl-cache.h` describes the format. Of the older one, only a file that
//! also holds the new one is read, as the loader itself has done since glibc 2.32.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The cache's path.
pub(crate) const LOADER_CACHE: &str = "/etc/ld.so.cache";

/// The largest cache that is read, in bytes. One of 5,000 libraries has 300,000.
pub(crate) const MOST_BYTES: u64 = 4 << 20;

/// The kernel takes no longer path (PATH_MAX, limits.h).
const LONGEST_PATH: usize = 4096;

/// The first bytes of the new format.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";

/// The bytes of its header, and those of each entry.
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// A byte of the header: the numbers' order, if it is known.
const ORDER: usize = 28;
const BIG: u8 = 3;

/// A library in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cached {
    pub(crate) path: PathBuf,
    /// Whether it is for some processors of its architecture alone.
    pub(crate) is_special: bool,
}

/// The cache's bytes.
pub(crate) struct LoaderCache {
    bytes: Vec<u8>,
    /// The beginning of the new format. Its offsets count from there.
    start: usize,
}

impl LoaderCache {
    /// Takes the bytes of a file. `None` if they are no cache.
    pub(crate) fn of(bytes: Vec<u8>) -> Option<LoaderCache> {
        let start = match bytes.starts_with(MAGIC) {
            true => 0,
            // The older format comes first, and the new one begins at a multiple of eight bytes.
            false => {
                let mut starts = (0..bytes.len()).step_by(8);
                starts.find(|start| bytes[*start..].starts_with(MAGIC))?
            }
        };
        Some(LoaderCache { bytes, start })
    }

    /// The number of its entries.
    pub(crate) fn count(&self) -> usize {
        let room = (self.bytes.len() - self.start) / ENTRY;
        let count = self.number(20).unwrap_or_default();
        room.min(count as usize)
    }

    /// The libraries of that name, in the loader's order, of all architectures.
    pub(crate) fn named(&self, name: &OsStr) -> Vec<Cached> {
        let entries = (0..self.count()).map(|index| HEADER + index * ENTRY);
        let named = entries.filter(|at| self.is_named(*at, name.as_bytes()));
        named.filter_map(|at| self.cached(at)).collect()
    }

    /// Whether the entry at an offset has that name.
    fn is_named(&self, at: usize, name: &[u8]) -> bool {
        let key = self.number(at + 4).and_then(|key| self.after(key));
        let rest = key.and_then(|key| key.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(b"\0"))
    }

    fn cached(&self, at: usize) -> Option<Cached> {
        let value = self.after(self.number(at + 8)?)?;
        let path = value
            .iter()
            .take(LONGEST_PATH)
            .position(|byte| *byte == 0)?;
        Some(Cached {
            path: PathBuf::from(OsStr::from_bytes(&value[..path])),
            is_special: (self.number(at + 16)?, self.number(at + 20)?) != (0, 0),
        })
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self
            .bytes
            .get(self.start.checked_add(at)?..)?
            .first_chunk()?;
        Some(match self.bytes.get(self.start + ORDER) {
            Some(&BIG) => u32::from_be_bytes(*bytes),
            _ => u32::from_le_bytes(*bytes),
        })
    }

    /// All that is behind an offset.
    fn after(&self, at: u32) -> Option<&[u8]> {
        self.bytes.get(self.start.checked_add(at as usize)?..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    /// A cache of these names and paths, as ldconfig(8) writes it.
    fn cache(items: &[(&str, &str, u64)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((items.len() as u32).to_le_bytes());
        bytes.resize(HEADER, 0);
        let mut texts = Vec::new();
        let first = HEADER + items.len() * ENTRY;
        for (name, path, special) in items {
            bytes.extend(0x0303_u32.to_le_bytes());
            for text in [name, path] {
                bytes.extend(((first + texts.len()) as u32).to_le_bytes());
                texts.extend(text.as_bytes());
                texts.push(0);
            }
            bytes.extend(0_u32.to_le_bytes());
            bytes.extend(special.to_le_bytes());
        }
        bytes.extend(texts);
        bytes
    }

    const FAST: u64 = 1 << 62;

    #[test]
    fn a_cache_has_each_library_of_a_name_behind_an_older_format_too() {
        let new = cache(&[
            (
                "liba.so.1",
                "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1",
                FAST,
            ),
            ("liba.so.1", "/usr/lib/liba.so.1", 0),
            ("libb.so.1", "/usr/lib/libb.so.1", 0),
        ]);
        let mut old = b"ld.so-1.7.0\0\0\0\0\0".to_vec();
        old.extend(&new);
        for bytes in [new, old] {
            let cache = LoaderCache::of(bytes).unwrap();
            let found = cache.named(OsStr::new("liba.so.1"));
            let found: Vec<_> = found
                .iter()
                .map(|it| (it.path.to_str().unwrap(), it.is_special))
                .collect();
            let fast = "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so.1";
            assert_eq!(found, [(fast, true), ("/usr/lib/liba.so.1", false)]);
            assert!(cache.named(OsStr::new("libc.so.1")).is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_behind_the_mark_of_a_cache_are_read_without_a_panic(
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let bytes = [MAGIC, &rest].concat();
            LoaderCache::of(bytes).unwrap().named(OsStr::new("liba.so.1"));
        }
    }
}
