//! The comparison of facts: named texts, such as the value of a variable.

use crate::judge::reason::{FactKind, Reason};
use crate::observe::content::error_text;
use crate::observe::fact::{Fact, Value};

/// The differences between facts of `then` and of `now`.
pub(crate) fn fact_differences(kind: FactKind, then: &[Fact], now: &[Fact]) -> Vec<Reason> {
    let value = |facts: &[Fact], name: &str| {
        let fact = facts.iter().find(|fact| fact.name == name);
        fact.map(|fact| fact.value.clone())
    };
    let of_now = now.iter().filter_map(|fact| {
        let Some(old) = value(then, &fact.name) else {
            let name = fact.name.clone();
            return Some(Reason::NotObserved { kind, name });
        };
        fact_reason(kind, &fact.name, old, fact.value.clone())
    });
    // The profile named these when the witness was taken.
    let gone = then.iter().filter(|fact| value(now, &fact.name).is_none());
    let gone =
        gone.filter_map(|fact| fact_reason(kind, &fact.name, fact.value.clone(), Value::Absent));
    of_now.chain(gone).collect()
}

fn fact_reason(kind: FactKind, name: &str, old: Value, new: Value) -> Option<Reason> {
    let error = match (&old, &new) {
        (_, Value::Unreadable(errno)) => Some(error_text(*errno)),
        (Value::Unreadable(errno), _) => Some(format!(
            "{}, when the witness was taken",
            error_text(*errno)
        )),
        (old, new) if old == new => return None,
        _ => None,
    };
    let name = name.to_owned();
    let text = |value: Value| match value {
        Value::Text(text) => Some(text.to_string_lossy().into_owned()),
        Value::Absent | Value::Unreadable(_) => None,
    };
    Some(match (error, kind) {
        (Some(error), _) => Reason::UnknownFact { kind, name, error },
        (None, FactKind::Variable) => Reason::Variable {
            name,
            old: text(old),
            new: text(new),
        },
        (None, FactKind::Host) => Reason::Host {
            name,
            old: text(old),
            new: text(new),
        },
        (None, FactKind::Libraries) => Reason::NotObserved { kind, name },
    })
}
