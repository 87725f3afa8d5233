//! The report of a verb that changes something, as JSON.

use modstamp::libvirt::Refreshed;
use modstamp::{Cure, Mtime, Profile, Reason, Stamp};
use serde_json::{Value, json};

use super::status::{text, texts};
use super::{ExitCode, Which, cures, load, print, print_json, say};

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

/// What a verb did for one profile: its report, the lines for people, and whether all went well.
pub struct Done {
    pub json: Value,
    pub text: String,
    pub is_well: bool,
}

/// Applies a verb to one profile, or to all of which something is installed. Prints what it did.
pub fn each(
    which: &Which,
    all: bool,
    as_json: bool,
    apply: impl Fn(&Profile) -> anyhow::Result<Done>,
) -> anyhow::Result<ExitCode> {
    if !all {
        let done = apply(&which.load()?)?;
        match as_json {
            true => print_json(&done.json)?,
            false => print(done.text)?,
        }
        return Ok(status(done.is_well));
    }
    let root = which.root()?;
    let (mut reports, mut is_well) = (Vec::new(), true);
    for name in Profile::names(&root) {
        let apply = |profile: Profile| match is_installed(&profile)? {
            true => apply(&profile).map(Some),
            false => Ok(None),
        };
        match load(&name, &root).and_then(apply) {
            Ok(None) => {}
            Ok(Some(done)) => {
                is_well &= done.is_well;
                reports.push(done.json);
                let lines = done.text.split_inclusive('\n').filter(|_| !as_json);
                print(
                    lines
                        .map(|line| format!("{name}: {line}"))
                        .collect::<String>(),
                )?;
            }
            // One bad profile must not hide the others.
            Err(error) => {
                is_well = false;
                say("", format_args!("{name}: {error:#}"));
            }
        }
    }
    if as_json {
        print_json(&reports)?;
    }
    Ok(status(is_well))
}

fn status(is_well: bool) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn is_installed(profile: &Profile) -> anyhow::Result<bool> {
    let inputs = profile.inputs()?;
    let has_modules = inputs.module_directories().next().is_some();
    Ok(has_modules || inputs.programs().next().is_some() || inputs.files().next().is_some())
}

impl Report<'_> {
    pub fn print(&self) -> anyhow::Result<()> {
        print_json(&self.json())
    }

    pub fn json(&self) -> Value {
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
