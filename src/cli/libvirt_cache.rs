//! One of libvirt's cache directories, as “modstamp status” shows it: it sums up the verdicts of
//! “modstamp libvirt status” on its files.

use std::path::PathBuf;

use modstamp::libvirt::{CacheFile, Cached};
use modstamp::{Error, Mtime, Owner, Reason, Sentence, Verdict};
use serde_json::{Value, json};

use super::libvirt::is_unexpected;
use super::status::{state, text, texts};
use super::time::{age, ago, local};

/// A cache directory of one daemon.
pub struct LibvirtCache {
    pub owner: Owner,
    /// As seen from outside the root.
    pub path: PathBuf,
    files: Vec<PathBuf>,
    standing: Standing,
    /// The time of the last refresh, if it left one, and what it did.
    last: Option<(Option<Mtime>, String)>,
}

/// The state of all files together.
enum Standing {
    /// These files are stale, each reason told once. No files: the cache is fresh.
    Known {
        stale: Vec<PathBuf>,
        verdict: Verdict,
    },
    /// Only root can read it.
    ForRoot,
}

impl LibvirtCache {
    /// Sums up each directory that has files, or that is closed to the caller.
    pub fn all(cached: &Cached) -> Vec<LibvirtCache> {
        let mut all: Vec<LibvirtCache> = Vec::new();
        for file in cached.files() {
            let path = file.path().parent().map(PathBuf::from).unwrap_or_default();
            let is_here = |it: &&mut LibvirtCache| it.owner == file.owner() && it.path == path;
            match all.iter_mut().find(is_here) {
                Some(cache) => cache.add(cached, file),
                None => {
                    let mut cache = LibvirtCache::new(cached, file.owner(), path);
                    cache.add(cached, file);
                    all.push(cache);
                }
            }
        }
        let closed = cached.errors().iter();
        for (owner, error) in closed.filter(|error| !is_unexpected(error)) {
            if let Error::System { path, .. } = error {
                let mut cache = LibvirtCache::new(cached, *owner, path.clone());
                cache.standing = Standing::ForRoot;
                all.push(cache);
            }
        }
        all
    }

    fn new(cached: &Cached, owner: Owner, path: PathBuf) -> LibvirtCache {
        LibvirtCache {
            owner,
            path,
            files: Vec::new(),
            standing: Standing::Known {
                stale: Vec::new(),
                verdict: Verdict::Fresh,
            },
            last: cached.last_refresh(owner),
        }
    }

    fn add(&mut self, cached: &Cached, file: &CacheFile) {
        self.files.push(file.path());
        if file.is_for_root() {
            self.standing = Standing::ForRoot;
        }
        let Standing::Known { stale, verdict } = &mut self.standing else {
            return;
        };
        let of_file = cached.verdict(file);
        if of_file.is_fresh() {
            return;
        }
        stale.push(file.path());
        let mut reasons: Vec<Reason> = verdict.reasons().to_vec();
        for reason in of_file.reasons() {
            if !reasons.contains(reason) {
                reasons.push(reason.clone());
            }
        }
        *verdict = Verdict::Stale(reasons);
    }

    /// The standing, and the last refresh, in one line of a table.
    pub fn sentence(&self) -> String {
        let standing = match &self.standing {
            Standing::ForRoot => "run as root, to see whether it is stale".to_owned(),
            Standing::Known { stale, verdict } => match stale.len() {
                some if some == self.files.len() || some == 0 => state(verdict),
                some => format!(
                    "{} ({some} of {} answers)",
                    state(verdict),
                    self.files.len()
                ),
            },
        };
        match &self.last {
            Some((Some(time), what)) => {
                let (local, ago) = (local(time), ago(age(time.seconds())));
                format!("{standing}; {local} ({ago}): {}", Sentence(what))
            }
            Some((None, what)) => format!("{standing}; last: {}", Sentence(what)),
            None => standing,
        }
    }

    /// The same as data. A verdict that only root can tell is null.
    pub fn json(&self) -> Value {
        let (stale, verdict) = match &self.standing {
            Standing::Known { stale, verdict } => (&stale[..], Some(verdict)),
            Standing::ForRoot => (&[][..], None),
        };
        json!({
            "owner": self.owner,
            "path": text(&self.path),
            "files": texts(self.files.iter().map(|path| path.as_path())),
            "stale": texts(stale.iter().map(|path| path.as_path())),
            "verdict": verdict,
            "last": self.last.as_ref().map(|(time, what)| json!({
                "time": time,
                "local": time.as_ref().map(local),
                "age_seconds": time.map(|time| age(time.seconds())),
                "what": what,
            })),
        })
    }
}
