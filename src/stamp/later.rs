//! A later time than a known one, on file systems that do not keep nanoseconds.

use crate::ground::time::Mtime;

/// Stores `now`, or the next time after `last` if that is later. Returns the stored time.
///
/// `store` returns the time as the file system rounded it. Some file systems keep whole seconds,
/// and FAT keeps only even ones. `None` if nothing later than `last` can be stored.
///
/// # Errors
/// Those of `store`.
pub(crate) fn later_than<E>(
    last: Mtime,
    now: Mtime,
    mut store: impl FnMut(Mtime) -> Result<Mtime, E>,
) -> Result<Option<Mtime>, E> {
    for wanted in [now.max(last.plus(0, 1)), last.plus(1, 0), last.plus(2, 0)] {
        let stored = store(wanted)?;
        if stored > last {
            return Ok(Some(stored));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> Mtime {
        Mtime::new(1_700_000_000, 0)
    }

    /// Stands for a file system that tests cannot mount everywhere. `stored` is the time that it
    /// makes of another.
    fn next(now: Mtime, stored: impl Fn(Mtime) -> Mtime) -> Option<Mtime> {
        later_than(last(), now, |wanted| Ok::<_, ()>(stored(wanted))).unwrap()
    }

    #[test]
    fn a_touch_moves_the_stamp_where_two_seconds_are_kept() {
        let even = |time: Mtime| Mtime::new(time.seconds() & !1, 0);
        for now in [
            last(),
            last().plus(0, 999),
            last().plus(1, 0),
            last().plus(-10, 0),
        ] {
            assert_eq!(next(now, even), Some(last().plus(2, 0)), "at {now}");
        }
        assert_eq!(next(last().plus(7, 5), even), Some(last().plus(6, 0)));
    }

    #[test]
    fn a_touch_says_so_where_no_later_time_can_be_stored() {
        assert_eq!(next(last().plus(100, 0), |_| last()), None);
    }
}
