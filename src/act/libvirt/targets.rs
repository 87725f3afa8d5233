//! The module directories that a refresh moves.

use std::path::{Path, PathBuf};

use crate::act::libvirt::installation::watched;
use crate::act::libvirt::kind::Kind;
use crate::act::libvirt::occasion::Occasion;
use crate::act::libvirt::record::Record;
use crate::files::root::Root;
use crate::files::way::Steps;
use crate::observe::inputs::Inputs;
use crate::observe::profile::Profile;

/// The module directories that a refresh moves.
pub(crate) struct Targets {
    pub(crate) directories: Vec<PathBuf>,
    /// Whether every libvirt compares the mtime of one of them. If not, the programs are changed
    /// as well.
    pub(crate) are_enough: bool,
}

impl Targets {
    /// The directories that a package manager named, and those that the last refresh moved or had
    /// to leave.
    ///
    /// Moving the latter again makes those answers stale that libvirt cached between the two
    /// refreshes.
    pub(crate) fn named(root: &Root, directories: &[PathBuf], last: Option<&Record>) -> Targets {
        let effect = last.map(|last| &last.effect);
        let moved = effect.into_iter().flat_map(|it| &it.moved);
        let left = effect.into_iter().flat_map(|it| &it.left);
        let before = moved.map(|it| &it.path).chain(left.map(|it| &it.path));
        let existing = before.filter(|path| !is_missing(root, path));
        let mut targets = Targets {
            directories: directories.to_vec(),
            are_enough: true,
        };
        targets.add(existing.cloned());
        targets
    }

    /// Adds directories, unless they are among these.
    pub(crate) fn add(&mut self, more: impl IntoIterator<Item = PathBuf>) {
        for path in more {
            if !self.directories.contains(&path) {
                self.directories.push(path);
            }
        }
    }

    /// The directories that the installed libvirts watch.
    ///
    /// If no driver tells them, libvirt may watch any of the profile's that exist. A driver that
    /// names none, like that of a libvirt before 6.8, watches none.
    pub(crate) fn watched(
        kind: &Kind,
        profile: &Profile,
        inputs: &Inputs,
        drivers: &[PathBuf],
        occasion: Occasion,
    ) -> Targets {
        let existing = inputs.module_directories().map(|(path, _)| path.to_owned());
        let existing = existing.filter(|path| profile.has_directory(path));
        let existing: Vec<PathBuf> = existing.collect();
        if !kind.is_directory_in_driver() {
            return Targets {
                are_enough: !existing.is_empty(),
                directories: existing,
            };
        }
        let drivers = drivers.iter();
        let watched: Vec<Vec<PathBuf>> = drivers.map(|driver| watched(driver, profile)).collect();
        if watched.is_empty() {
            return Targets {
                directories: existing,
                are_enough: occasion != Occasion::Hand,
            };
        }
        let do_all_watch = watched.iter().all(|directories| !directories.is_empty());
        let mut watched = watched.concat();
        watched.sort();
        watched.dedup();
        Targets {
            directories: match watched.is_empty() {
                true => existing,
                false => watched,
            },
            are_enough: do_all_watch,
        }
    }
}

/// Whether nothing is at `path`. A failure is told later, by the move.
fn is_missing(root: &Root, path: &Path) -> bool {
    matches!(root.place(path, Steps::Any), Err(stop) if stop.leads_nowhere())
}
