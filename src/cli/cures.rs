//! The caches of other programs, and their remedies: lines for people, and JSON.

use std::path::Path;

use modstamp::{
    CacheStatus, Cure, Mtime, Profile, RemedyResult, Sentence, Staleness, Which as Caches,
    printable,
};
use serde_json::{Value, json};

use super::status::{text, texts};
use super::time::{age, ago, local};
use super::update::prints_to_journal;
use super::{Which, quoted, say};

/// One line for each thing that was done.
pub fn lines(cures: &[Cure]) -> impl Iterator<Item = String> {
    cures.iter().flat_map(|cure| {
        let removed = cure.removed.iter().map(|path| removed(path));
        let ran = cure.ran.iter();
        let ran = ran.map(|command| format!("ran {command}\n"));
        let left = cure.left.iter();
        let left = left.map(|why| format!("left {}: {why}\n", cure.cache));
        removed.chain(ran).chain(left)
    })
}

fn removed(path: &Path) -> String {
    format!("removed {}\n", printable(path))
}

/// Tells a person on standard error which caches only root can make good, if there are some.
pub fn tell_of_root(profile: &Profile, caches: Caches, which: &Which) {
    // Root's own units look, too. The journal of a user needs no line about that.
    if prints_to_journal() || !profile.leaves_to_root(caches) {
        return;
    }
    // With --all, no profile is named. A profile's file has a name that no command takes.
    let name = match which.profile.contains('/') {
        true => &which.profile,
        false => profile.name(),
    };
    let name = quoted(name.as_ref());
    let command = format!("sudo modstamp refresh --profile {name}");
    let text = format!("only root can make the system's caches good; run “{command}”");
    say("note: ", text);
}

/// What was done, as JSON.
pub fn json(cures: &[Cure]) -> Vec<Value> {
    let cures = cures.iter();
    let json = |cure: &Cure| {
        json!({
            "cache": cure.cache,
            "remedy": cure.remedy,
            "result": match cure.result {
                RemedyResult::Good if !cure.left.is_empty() && !cure.is_change() => json!("left"),
                result => json!(result),
            },
            "removed": texts(cure.removed.iter().map(|path| path.as_path())),
            "ran": cure.ran,
            "output": cure.output,
            "left": (!cure.left.is_empty()).then(|| cure.left.join("; ")),
        })
    };
    cures.map(json).collect()
}

/// The standing of a cache, as JSON.
pub fn status_json(cache: &CacheStatus) -> Value {
    let files = cache.files.iter().map(|path| text(path));
    json!({
        "owner": cache.owner,
        "cache": cache.cache,
        "files": files.collect::<Vec<_>>(),
        "remedy": cache.remedy,
        "verdict": if cache.stale.is_none() { "fresh" } else { "stale" },
        "why": cache.stale,
        "last": cache.last.as_ref().map(|last| json!({
            "time": last.time,
            "local": local(&last.time),
            "age_seconds": age(last.time.seconds()),
            "result": last.result,
            "what": last.what,
            "output": last.output.lines().collect::<Vec<_>>(),
            "last_good": last.last_good,
        })),
    })
}

/// The standing of a cache in one line of a table.
pub fn standing(cache: &CacheStatus) -> String {
    let verdict = match cache.stale {
        None => "fresh".to_owned(),
        Some(why @ (Staleness::Changed | Staleness::Unknown)) => {
            format!("stale: {why}; “modstamp update” makes it good")
        }
        Some(why) => format!("stale: {why}"),
    };
    let Some(last) = &cache.last else {
        return format!("{verdict}; its remedy is: {}", cache.remedy);
    };
    let when = |time: &Mtime| format!("{} ({})", local(time), ago(age(time.seconds())));
    let (time, what) = (when(&last.time), Sentence(&last.what));
    let mut state = format!("{verdict}; {time}: {what}");
    let said = last.output.lines().last();
    if let Some(said) = said.filter(|_| last.result == RemedyResult::Good) {
        state.push_str(&format!(", which said “{}”", Sentence(said)));
    }
    if let Some(good) = &last.last_good {
        state.push_str(&format!("; it was last made good {}", when(good)));
    }
    state
}
