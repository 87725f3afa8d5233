//! The completion of an observation: each content is known from an earlier one, or is read.
//!
//! If there is much to read, several threads read, each one file at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::observe::content::Content;
use crate::observe::directory::{Directory, Modules};
use crate::observe::entry::Entry;
use crate::observe::evidence::Identity;
use crate::observe::helper;
use crate::observe::input::Input;
use crate::observe::observation::Observation;

/// In bytes. If there is more to read, helpers read, too. One thread reads this much in some
/// milliseconds.
const MUCH: u64 = 8 << 20;

/// In bytes. It takes about as long to open a file as to read this many bytes of it.
const OPENING: u64 = 8 << 10;

/// Entries of one kind.
struct List<'o> {
    input: Input,
    /// The module directory, if the entries are modules.
    top: Option<&'o Path>,
    entries: &'o mut [Entry],
    /// The entries of this kind in earlier observations.
    known: Vec<&'o [Entry]>,
}

/// An entry whose content stat does not prove.
struct Job<'o> {
    input: Input,
    top: Option<&'o Path>,
    entry: &'o mut Entry,
}

/// Completes an observation with contents. A content comes from a `known` observation if stat
/// proves that it is still the same. Otherwise `read` returns it for an entry and its path.
///
/// If `is_early`, identities that are no evidence do not count. `is_wanted` tells whether `read`
/// will have to read an entry.
pub(crate) fn complete(
    mut now: Observation,
    known: &[&Observation],
    is_early: bool,
    is_wanted: impl Fn(Input, &Entry) -> bool,
    read: impl Fn(Input, &Entry, PathBuf) -> Content + Sync,
) -> Observation {
    let (mut jobs, mut bytes) = (Vec::new(), 0_u64);
    for list in lists(&mut now, known) {
        for entry in list.entries {
            match entry.identity {
                Identity::Seen(_) if is_early => entry.identity = Identity::Unknown,
                _ => {}
            }
            if entry.content != Content::Unread {
                continue;
            }
            if let Some(content) = proven_content(entry, &list.known) {
                entry.content = content;
                continue;
            }
            if is_wanted(list.input, entry) {
                bytes = OPENING.saturating_add(entry.size).saturating_add(bytes);
            }
            jobs.push(Job {
                input: list.input,
                top: list.top,
                entry,
            });
        }
    }
    let threads = match bytes > MUCH {
        true => helper::threads().min(jobs.len()),
        false => 1,
    };
    helper::share(threads, jobs.into_iter(), |job| {
        let name = &job.entry.name;
        let path = job.top.map_or_else(|| name.clone(), |top| top.join(name));
        job.entry.content = read(job.input, job.entry, path);
    });
    let directories = now.directories.iter_mut();
    let modules = directories.filter_map(|directory| directory.state.modules_mut());
    modules.for_each(Modules::keep_sum_honest);
    now
}

/// Selects a list of an observation.
type Select<'o> = fn(&'o Observation) -> &'o [Entry];

/// The lists of all entries. Lists with large files come first, so that all threads end at about
/// the same time.
fn lists<'o>(now: &'o mut Observation, known: &[&'o Observation]) -> Vec<List<'o>> {
    let libraries = now.libraries.as_mut();
    let libraries = libraries.map_or(&mut [][..], |libraries| &mut libraries.entries);
    let others: [(_, _, Select<'o>); 4] = [
        (Input::Program, &mut now.programs[..], |all| &all.programs),
        (Input::Command, &mut now.commands[..], |all| &all.commands),
        (Input::Library, libraries, Observation::libraries),
        (Input::File, &mut now.files[..], |all| &all.files),
    ];
    let others = others.map(|(input, entries, list)| List {
        input,
        top: None,
        entries,
        known: known.iter().map(|known| list(known)).collect(),
    });
    let mut lists = Vec::from(others);
    for directory in &mut now.directories {
        let Directory { name, state, .. } = directory;
        let Some(modules) = state.modules_mut() else {
            continue;
        };
        let is_complete =
            |entry: &Entry| entry.content != Content::Unread && entry.identity.evidence().is_some();
        if !modules.entries.iter().all(is_complete) {
            let known = known.iter().filter_map(|known| known.modules_at(name));
            lists.push(List {
                input: Input::Module,
                top: Some(name),
                entries: Arc::make_mut(&mut modules.entries).as_mut_slice(),
                known: known.map(|known| known.entries.as_slice()).collect(),
            });
        }
    }
    lists
}

/// The content that a `known` list has of an entry, if stat proves that it is still the same.
fn proven_content(now: &Entry, known: &[&[Entry]]) -> Option<Content> {
    known.iter().find_map(|entries| {
        let index = entries.binary_search_by(|entry| entry.name.cmp(&now.name));
        let entry = &entries[index.ok()?];
        let is_known = entry.content != Content::Unread && entry.is_proven_same(now);
        is_known.then_some(entry.content)
    })
}
