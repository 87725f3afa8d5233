//! The libraries of a look: those of an older one if stat proves that they are the same.

use std::path::Path;

use crate::files::root::Root;
use crate::observe::directory::DirectoryState;
use crate::observe::entry::Entry;
use crate::observe::evidence::hash;
use crate::observe::libraries::Libraries;
use crate::observe::loader::identity;
use crate::observe::needs::{Question, plus};
use crate::observe::observation::Observation;
use crate::observe::walk::Walk;

/// Moves if the same files lead to other libraries than an earlier version found.
const VERSION: u64 = 2;

impl Question {
    /// The libraries that the modules, programs and manifests of a look need.
    ///
    /// They are those of the older observation if stat proves that another look finds the same.
    pub(crate) fn libraries(&self, walk: &mut Walk<'_>, now: &Observation) -> Libraries {
        let question = self.hash(walk.root, now);
        if let Some(known) = self.known(question, walk, now) {
            return known;
        }
        let mut libraries = self.look(walk, now);
        let seal = libraries.seal(question).to_le_bytes();
        for looked in &mut libraries.looked {
            looked.identity = looked.identity.with(&seal);
        }
        libraries
    }

    /// A number for all that the look begins with, but for the files' own identities.
    ///
    /// A link on the way to a program can lead to another name of the same file. The file's own
    /// identity does not show that, and `$ORIGIN` is another directory then.
    fn hash(&self, root: &Root, now: &Observation) -> u64 {
        let mut sum = hash(VERSION, &[u8::from(self.counts_all)]);
        for file in &self.manifests {
            sum = plus(sum, file.path.as_os_str());
            sum = hash(sum, format!("{:?}", file.place).as_bytes());
        }
        let program = now.program.as_deref().map(Path::as_os_str);
        for text in [self.search_path.as_deref(), program] {
            sum = text.map_or(hash(sum, &[0]), |text| plus(sum, text));
        }
        let programs = now.programs.iter();
        programs.fold(sum, |sum, program| {
            plus(sum, root.own_path(&program.name).as_os_str())
        })
    }

    /// A manifest in a directory is the same if the directory is.
    fn are_same_manifests(&self, then: &Observation, now: &Observation) -> bool {
        self.manifests.iter().all(|manifest| {
            let of = |all: &[Entry]| {
                let index = all.binary_search_by(|entry| entry.name.cmp(&manifest.path));
                index.ok()
            };
            match (of(&then.files), of(&now.files)) {
                (Some(old), Some(new)) => then.files[old].is_proven_same(&now.files[new]),
                (None, None) => true,
                _ => false,
            }
        })
    }

    /// The libraries of the older observation. `question` is the hash of this question.
    fn known(&self, question: u64, walk: &mut Walk<'_>, now: &Observation) -> Option<Libraries> {
        let older = walk.older?;
        let known = older.libraries.as_ref()?;
        let is_same = are_proven_same(&older.programs, &now.programs)
            && are_same_directories(older, now)
            && self.are_same_manifests(older, now);
        is_same.then_some(())?;
        let seal = known.seal(question);
        for looked in &known.looked {
            let now = identity(walk, &looked.path).with(&seal.to_le_bytes());
            looked.identity.proves(now).then_some(())?;
        }
        let entries = known.entries.iter().map(|then| {
            let now = walk.entry(&then.name)?;
            then.is_proven_same(&now).then_some(now)
        });
        Some(Libraries {
            entries: entries.collect::<Option<Vec<Entry>>>()?,
            ..known.clone()
        })
    }
}

/// The same lists of programs, proven by stat.
fn are_proven_same(then: &[Entry], now: &[Entry]) -> bool {
    let mut pairs = then.iter().zip(now);
    then.len() == now.len()
        && pairs.all(|(then, now)| then.name == now.name && then.is_proven_same(now))
}

fn are_same_directories(then: &Observation, now: &Observation) -> bool {
    let mut pairs = then.directories.iter().zip(&now.directories);
    then.directories.len() == now.directories.len()
        && pairs.all(|(then, now)| {
            then.name == now.name
                && match (&then.state, &now.state) {
                    (DirectoryState::Walked(then), DirectoryState::Walked(now)) => {
                        then.are_proven_same(now)
                    }
                    (DirectoryState::Alias(then), DirectoryState::Alias(now)) => then == now,
                    _ => false,
                }
        })
}

impl Libraries {
    /// A number for all names that the look found. It is part of each `Looked`, so that a text
    /// which lost a line proves nothing.
    pub(crate) fn seal(&self, question: u64) -> u64 {
        let found = self.entries.iter().map(|entry| &entry.name);
        let names = found.chain(&self.missing).chain(&self.no_json);
        let names = names.map(|name| name.as_os_str());
        names.fold(hash(question, &self.links.to_le_bytes()), plus)
    }
}
