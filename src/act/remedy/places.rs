//! The directories that a file of a cache may be in, for a command that makes it.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, accessat, fstat};
use rustix::io::Errno;

use crate::act::remedy::find::Found;
use crate::files::mount::Mount;
use crate::files::root::Root;
use crate::files::way::{Steps, Stop};
use crate::ground::error::Error;
use crate::ground::text::Printable;
use crate::observe::pattern::Glob;

/// The trees that the sandbox of modstamp's units leaves as they are mounted (`ReadWritePaths=`,
/// systemd.exec(5)). Elsewhere a directory may be read-only for the unit alone.
const AS_MOUNTED: [&str; 3] = ["/usr", "/opt", "/var"];

/// The directories that exist.
#[derive(Default)]
pub(crate) struct Places {
    /// Those that a command may run in.
    pub(crate) ready: BTreeSet<PathBuf>,
    /// Why others are left as they are: a sentence for each.
    pub(crate) left: Vec<String>,
    /// Those that somebody else could have filled: a command trusts what is in its own.
    pub(crate) errors: Vec<Error>,
}

impl Places {
    /// Searches the directories of the files that `globs` match, whether or not one is there.
    pub(crate) fn search(root: &Root, globs: &[Glob]) -> Places {
        let parents: Vec<Glob> = globs.iter().filter_map(|glob| glob.above(1)).collect();
        let found = Found::search(root, &parents);
        let mut places = Places {
            left: found.about_theirs().into_iter().collect(),
            errors: found.errors,
            ..Places::default()
        };
        for path in found.files.into_iter().map(|file| file.path) {
            places.add(root, path);
        }
        places
    }

    fn add(&mut self, root: &Root, path: PathBuf) {
        let place = match root.place(&path, Steps::Trusted) {
            Ok(place) => place,
            Err(Stop::Untrusted { culprit, problem }) => {
                return self.errors.push(Error::Untrusted {
                    attempt: "run a remedy in",
                    path: root.outside(&path),
                    culprit,
                    problem,
                });
            }
            Err(_) => return, // It leads nowhere.
        };
        let is_directory = |kind: u32| FileType::from_raw_mode(kind).is_dir();
        if !fstat(&place).is_ok_and(|stat| is_directory(stat.st_mode)) || path.to_str().is_none() {
            return;
        }
        if is_read_only(&place, &path) {
            self.left.push(read_only(&root.outside(&path)));
        } else {
            self.ready.insert(path);
        }
    }

    /// Whether there are some, and a command can make files in none of them.
    pub(crate) fn are_left(&self) -> bool {
        self.ready.is_empty() && self.errors.is_empty() && !self.left.is_empty()
    }
}

/// Whether nobody can write to an opened directory, because its file system is read-only, as in an
/// image.
pub(crate) fn is_read_only(place: impl AsFd, path: &Path) -> bool {
    let place = place.as_fd();
    accessat(place, c".", Access::WRITE_OK, AtFlags::empty()) == Err(Errno::ROFS)
        && (AS_MOUNTED.iter().any(|top| path.starts_with(top))
            || Mount::of(place).is_some_and(|mount| mount.is_read_only_everywhere()))
}

/// The sentence about a cache in a read-only directory.
pub(crate) fn read_only(directory: &Path) -> String {
    let directory = Printable(directory.as_os_str());
    format!("its directory {directory} is read-only; the builder of the image makes it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_leave_the_trees_of_an_image_as_they_are_mounted() {
        for unit in [
            include_str!("../../../packaging/systemd/system/modstamp-update@.service.in"),
            include_str!("../../../packaging/systemd/system/modstamp-refresh@.service.in"),
        ] {
            let mut lines = unit.lines();
            let writable = lines.find_map(|line| line.strip_prefix("ReadWritePaths="));
            let writable: Vec<&str> = writable.unwrap().split(' ').collect();
            for tree in AS_MOUNTED {
                assert!(writable.contains(&&*format!("-{tree}")), "{writable:?}");
            }
        }
    }
}
