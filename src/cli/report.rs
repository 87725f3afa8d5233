//! The report of a verb that changes something, as JSON.

use modstamp::libvirt::Refreshed;
use modstamp::{Cure, Mtime, Profile, Reason, Stamp};
use serde_json::{Value, json};

use super::status::{text, texts};
use super::{cures, print_json};

/// The version of the JSON. It rises if a key is removed or changes its meaning.
const VERSION: u32 = 1;

/// What a verb did. A verb that fails before that prints no report.
pub struct Report<'a> {
    pub profile: &'a Profile,
    /// The stamp that the verb touches; `None` if it touches none.
    pub stamp: Option<&'a Stamp>,
    /// The mtime that the stamp has now, if it was touched.
    pub touched: Option<Mtime>,
    /// The reasons for the touch, if they are known.
    pub reasons: &'a [Reason],
    /// Why anything was done, for people.
    pub why: Option<&'a str>,
    /// The refresh of libvirt, if there was one.
    pub refreshed: Option<&'a Refreshed>,
    /// What was done for each other cache.
    pub cures: &'a [Cure],
    pub warnings: Vec<String>,
    pub errors: Vec<String>,
}

impl Report<'_> {
    pub fn print(&self) -> anyhow::Result<()> {
        print_json(&self.json())
    }

    fn json(&self) -> Value {
        let refreshed = || self.refreshed.into_iter();
        let moved: Vec<Value> = refreshed()
            .flat_map(|done| &done.moved)
            .map(|(path, second)| json!({ "path": text(path), "mtime": second }))
            .collect();
        let changed = texts(
            refreshed()
                .flat_map(|it| &it.changed)
                .map(|it| it.as_path()),
        );
        let evicted = refreshed().flat_map(|it| &it.evicted);
        let removed = self.cures.iter().flat_map(|cure| &cure.removed);
        let removed = texts(evicted.chain(removed).map(|it| it.as_path()));
        let is_as_it_was = self.touched.is_none()
            && moved.is_empty()
            && changed.is_empty()
            && removed.is_empty()
            && !self.cures.iter().any(Cure::is_change);
        json!({
            "version": VERSION,
            "profile": self.profile.name(),
            "changed": !is_as_it_was,
            "stamp": self.stamp.map(|stamp| text(&stamp.path())),
            "touched": self.touched,
            "reasons": self.reasons,
            "why": self.why,
            "moved": moved,
            "ctimes_moved": changed,
            "removed": removed,
            "foreign_caches": cures::json(self.cures),
            "warnings": self.warnings,
            "errors": self.errors,
        })
    }
}
