//! Two sorted lists, item by item: what is gone, what is new, and what both have.

use std::cmp::Ordering;
use std::path::PathBuf;

/// Two sorted lists' items of one name.
pub(crate) enum Pair<'a, T> {
    Gone(&'a T),
    New(&'a T),
    Both(&'a T, &'a T),
}

/// Pairs the items of two sorted lists by name.
pub(crate) fn pairs<'a, T>(
    then: &'a [T],
    now: &'a [T],
    name: impl for<'t> Fn(&'t T) -> &'t PathBuf,
) -> impl Iterator<Item = Pair<'a, T>> {
    let (mut then, mut now) = (then.iter().peekable(), now.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (then.peek(), now.peek()) {
            (Some(a), Some(b)) => name(a).cmp(name(b)),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        Some(match order {
            Ordering::Less => Pair::Gone(then.next()?),
            Ordering::Greater => Pair::New(now.next()?),
            Ordering::Equal => Pair::Both(then.next()?, now.next()?),
        })
    })
}
