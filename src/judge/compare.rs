//! The comparison of two observations: a pure function that returns the differences as data.
//!
//! Stat first, content last. If stat proves nothing, and a content was not read yet, the difference
//! is [`Difference::ContentNeeded`]. The caller reads that content, and settles it.

use std::path::Path;

use crate::judge::difference::{Difference, Needed, Place, content_reason, kind, rights_reasons};
use crate::judge::facts::fact_differences;
use crate::judge::pairs::{Pair, pairs};
use crate::judge::reason::{Aspect, FactKind, Reason};
use crate::observe::content::Content;
use crate::observe::entry::Entry;
use crate::observe::fact::Scope;
use crate::observe::input::Input;
use crate::observe::item::Item;
use crate::observe::observation::{Named, Observation};
use crate::observe::stamps::{StampState, Stamps};
use crate::stamp::stamp::Owner;

/// The differences between an observation of `then` and one of `now`, of the same profile.
pub(crate) fn differences<'a>(then: &'a Observation, now: &'a Observation) -> Vec<Difference<'a>> {
    let mut found = stamp_differences(then.stamps, now.stamps);
    found.extend(consumer_differences(then, now));
    found.extend(item_differences(then, now));
    if (then.scope, now.scope) == (Scope::Whole, Scope::Whole) {
        for (kind, then, now) in [
            (FactKind::Variable, &then.variables, &now.variables),
            (FactKind::Host, &then.host.facts, &now.host.facts),
        ] {
            found.extend(fact_differences(kind, then, now));
        }
    }
    let mut differences: Vec<Difference> = found.into_iter().map(Difference::Reason).collect();
    let (old, new) = (then.named_directories(now), now.named_directories(then));
    for pair in pairs(&old, &new, |named| &named.directory.name) {
        compare_directories(pair, &mut differences);
    }
    for ((input, old), (_, new)) in then.lists().into_iter().zip(now.lists()) {
        // A profile that no longer asks for libraries lets them change.
        let is_asked =
            input != Input::Library || (then.libraries.is_some() && now.libraries.is_some());
        for pair in pairs(old, new, |entry| &entry.name).filter(|_| is_asked) {
            let place = Place {
                needers: Some([now, then]),
                ..Place::of(input)
            };
            compare_entries(place, pair, &mut differences);
        }
    }
    if then.libraries.is_none() && now.libraries.is_some() {
        differences.push(Difference::Reason(Reason::NotObserved {
            kind: FactKind::Libraries,
            name: "libraries".to_owned(),
        }));
    }
    differences
}

/// The difference that is left if the same files lead to other libraries: for example, if the
/// loader's cache has two of one name in another order.
pub(crate) fn link_difference(then: &Observation, now: &Observation) -> Option<Reason> {
    let (then, now) = (then.libraries.as_ref()?, now.libraries.as_ref()?);
    (then.links != now.links).then_some(Reason::Links)
}

/// The differences between the stamps alone.
pub(crate) fn stamp_differences(then: Stamps, now: Stamps) -> Vec<Reason> {
    let difference = |owner, then: StampState, now: StampState| match (then, now) {
        (_, StampState::Unreadable) => Some(Reason::UnknownStamp {
            owner,
            error: "it cannot be read, or is not a regular file".to_owned(),
        }),
        (StampState::Unreadable, _) => Some(Reason::UnknownStamp {
            owner,
            error: "it could not be read when the witness was taken".to_owned(),
        }),
        (then, now) if then == now => None,
        (then, now) => Some(Reason::Stamp {
            owner,
            old: then.mtime(),
            new: now.mtime(),
        }),
    };
    let system = difference(Owner::System, then.system, now.system);
    let user = difference(Owner::User, then.user, now.user);
    system.into_iter().chain(user).collect()
}

/// The differences in what the consumer said of itself and of its question.
fn consumer_differences(then: &Observation, now: &Observation) -> Vec<Reason> {
    let tag = (then.tag != now.tag).then(|| Reason::Tag {
        old: then.tag.clone(),
        new: now.tag.clone(),
    });
    let program = (then.program != now.program).then(|| Reason::Program {
        old: then.program.clone(),
        new: now.program.clone(),
    });
    tag.into_iter().chain(program).collect()
}

/// What the profile names now, and did not name when the witness was taken. Something may have been
/// there then, and have gone since.
fn item_differences(then: &Observation, now: &Observation) -> Vec<Reason> {
    if then.items.is_empty() || now.items.is_empty() || then.scope != now.scope {
        return Vec::new(); // An earlier version, or nobody, tells what was named.
    }
    let is_exclude = |item: &&Item| item.input == Input::Module;
    let named = now
        .items
        .iter()
        .filter(|it| !is_exclude(it) && !then.items.contains(it));
    let excluded = then
        .items
        .iter()
        .filter(|it| is_exclude(it) && !now.items.contains(it));
    let reason = |item: &Item| Reason::NewlyNamed {
        input: item.input,
        item: item.text.clone(),
    };
    named.chain(excluded).map(reason).collect()
}

fn compare_directories<'a>(pair: Pair<'_, Named<'a>>, found: &mut Vec<Difference<'a>>) {
    let place = Place::of(Input::ModuleDirectory);
    let (then, now) = match pair {
        Pair::Both(then, now) => (then, now),
        Pair::Gone(then) => return found.push(place.removed(&then.directory.name)),
        Pair::New(now) => {
            return found.push(place.added(&now.directory.name, now.directory.content()));
        }
    };
    let subject = || place.subject(&now.directory.name);
    let rights = rights_reasons(subject, then.directory.rights, now.directory.rights);
    found.extend(rights.map(Difference::Reason));
    let content = content_reason(subject(), then.content(), now.content());
    found.extend(content.map(Difference::Reason));
    // Modules count under the name that they were walked by now. If either state was not walked,
    // nothing is known to have come or gone below it.
    if let (Some(then), Some(modules)) = (then.walked.modules(), now.directory.modules()) {
        if !then.are_proven_same(modules) {
            compare_modules(&now.directory.name, &then.entries, &modules.entries, found);
        }
    }
}

/// Compares the entries of a module directory. Below a directory that was unreadable, then or now,
/// nothing is known to have come or gone.
fn compare_modules<'a>(
    top: &'a Path,
    then: &'a [Entry],
    now: &'a [Entry],
    found: &mut Vec<Difference<'a>>,
) {
    let place = Place {
        top: Some(top),
        ..Place::of(Input::Module)
    };
    let mut unreadable: Option<&Path> = None;
    for pair in pairs(then, now, |entry| &entry.name) {
        let (name, is_unreadable) = match pair {
            Pair::Gone(entry) | Pair::New(entry) => (&entry.name, entry.is_unreadable()),
            Pair::Both(then, now) => (&now.name, then.is_unreadable() || now.is_unreadable()),
        };
        if unreadable.is_some_and(|above| name.starts_with(above)) {
            continue;
        }
        compare_entries(place, pair, found);
        if is_unreadable {
            unreadable = Some(name);
        }
    }
}

fn compare_entries<'a>(place: Place<'a>, pair: Pair<'a, Entry>, found: &mut Vec<Difference<'a>>) {
    let (then, now) = match pair {
        Pair::Both(then, now) => (then, now),
        Pair::Gone(then) => return found.push(place.removed(&then.name)),
        Pair::New(now) => return found.push(place.added(&now.name, now.content)),
    };
    if then.is_proven_same(now) {
        return;
    }
    let subject = || place.subject(&now.name);
    if then.is_unseen() || now.is_unseen() {
        // Such an entry has no type, owner and size that could be compared.
        let reason = content_reason(subject(), then.content, now.content);
        return found.extend(reason.map(Difference::Reason));
    }
    let changed = |what, old: String, new: String| {
        Difference::Reason(Reason::Changed {
            subject: subject(),
            what,
            old,
            new,
        })
    };
    if then.file_type() != now.file_type() {
        let [old, new] = [then, now].map(|entry| kind(entry.file_type()).to_owned());
        return found.push(changed(Aspect::Type, old, new));
    }
    found.extend(rights_reasons(subject, then.rights, now.rights).map(Difference::Reason));
    if now.file_type().is_file() && then.size != now.size {
        let [old, new] = [then, now].map(|entry| entry.size.to_string());
        return found.push(changed(Aspect::Size, old, new));
    }
    found.push(match (then.content, now.content) {
        (Content::Unread, _) => Difference::Reason(Reason::NotRead(subject())),
        (Content::Nothing, Content::Nothing) => return,
        (old, _) => Difference::ContentNeeded(Needed {
            subject: subject(),
            entry: now,
            old,
        }),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::FileType;
    use rustix::io::Errno;

    use std::sync::Arc;

    use crate::observe::content::digest_of_name;
    use crate::observe::directory::{Directory, DirectoryState, Modules};
    use crate::observe::entry::Rights;
    use crate::observe::evidence::Identity;

    /// A program as a look saw it, or as one that failed on it.
    fn program(content: Content) -> Observation {
        let mut entry =
            Entry::unreadable("/usr/bin/a".into(), FileType::RegularFile, Errno::ACCESS);
        if content != entry.content {
            entry.rights.mode |= 0o755;
            entry.size = 9;
            entry.identity = Identity::Seen(1);
            entry.content = content;
        }
        Observation {
            programs: vec![entry],
            ..Observation::default()
        }
    }

    #[test]
    fn an_input_that_a_look_failed_on_has_no_other_type_owner_or_size() {
        let seen = program(Content::Digest([1; 16]));
        let unseen = program(Content::unreadable(Errno::ACCESS));
        for (then, now) in [(&seen, &unseen), (&unseen, &seen), (&unseen, &unseen)] {
            let found = differences(then, now);
            assert!(matches!(
                &found[..],
                [Difference::Reason(Reason::Unknown { .. })]
            ));
        }
    }

    /// The old and the new state in the one reason that a change of a program's entry gives.
    fn told(change: impl Fn(&mut Entry)) -> (Aspect, String, String) {
        let then = program(Content::Digest([1; 16]));
        let mut now = program(Content::Digest([2; 16]));
        change(&mut now.programs[0]);
        let found = differences(&then, &now)
            .into_iter()
            .map(|found| match found {
                Difference::Reason(reason) => Some(reason),
                Difference::ContentNeeded(needed) => needed.settle(now.programs[0].content),
            });
        match &found.flatten().collect::<Vec<Reason>>()[..] {
            [Reason::Changed { what, old, new, .. }] => (*what, old.clone(), new.clone()),
            reasons => panic!("{reasons:?}"),
        }
    }

    #[test]
    fn a_reason_tells_the_old_and_the_new_state() {
        let (what, old, new) = told(|_| ());
        assert_eq!(
            (what, old, new),
            (Aspect::Content, "01".repeat(16), "02".repeat(16))
        );
        let (what, old, new) = told(|entry| entry.size = 10);
        assert_eq!(
            (what, old.as_str(), new.as_str()),
            (Aspect::Size, "9", "10")
        );
        for (kind, name) in [
            (FileType::Directory, "directory"),
            (FileType::Symlink, "link"),
            (FileType::Fifo, "FIFO"),
            (FileType::Socket, "socket"),
            (FileType::BlockDevice, "device"),
        ] {
            let (what, old, new) = told(|entry| entry.rights.mode = kind.as_raw_mode());
            assert_eq!(
                (what, old.as_str(), new.as_str()),
                (Aspect::Type, "file", name)
            );
        }
    }

    #[test]
    fn a_new_input_that_can_not_be_read_is_not_known() {
        let now = program(Content::unreadable(Errno::ACCESS));
        let then = Observation::default();
        let found = differences(&then, &now);
        assert!(matches!(
            &found[..],
            [Difference::Reason(Reason::Unknown { .. })]
        ));
    }

    fn directories(states: &[(&str, DirectoryState)]) -> Observation {
        let directory = |(name, state): &(&str, DirectoryState)| Directory {
            name: name.into(),
            rights: Rights::unknown(FileType::Directory),
            state: state.clone(),
        };
        Observation {
            directories: states.iter().map(directory).collect(),
            ..Observation::default()
        }
    }

    fn walked() -> DirectoryState {
        DirectoryState::Walked(Modules {
            sum: None,
            own: None,
            entries: Arc::default(),
        })
    }

    fn alias(name: &str) -> DirectoryState {
        DirectoryState::Alias(digest_of_name(Path::new(name)))
    }

    #[test]
    fn a_witness_without_the_directory_that_an_alias_names_is_never_fresh() {
        let then = directories(&[("/a", alias("/b"))]);
        let now = directories(&[("/a", walked())]);
        assert!(differences(&now, &now).is_empty());
        assert!(!differences(&then, &now).is_empty());
    }

    #[test]
    fn an_alias_of_another_directory_than_before_is_a_difference() {
        let of = |name| directories(&[("/a", walked()), ("/b", walked()), ("/c", alias(name))]);
        assert!(differences(&of("/a"), &of("/a")).is_empty());
        assert!(!differences(&of("/a"), &of("/b")).is_empty());
    }
}
