//! The clock's tick: a file system stores the time of a change only so finely.
//!
//! Two changes within one tick look like one. After the tick is over, every later change gets
//! another time.

use std::time::Duration;

use rustix::time::ClockId;

use crate::ground::time::Mtime;

/// In seconds. A wait for a time further ahead of the clock would take too long.
const MOST_AHEAD: i64 = 3;

/// In milliseconds. The clock's own tick, and that of file systems such as exFAT, is shorter.
const SHORT: u32 = 20;

/// The start of a look, and the end of the latest tick among the times that it saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    begun: Mtime,
    over: Mtime,
}

impl Tick {
    /// The tick of a look that begins now.
    pub(crate) fn begin() -> Tick {
        let begun = now();
        Tick { begun, over: begun }
    }

    /// When the look began.
    pub(crate) fn begun(self) -> Mtime {
        self.begun
    }

    /// Counts in a file's time. A time far ahead of the clock does not count.
    pub(crate) fn see(&mut self, time: Mtime) {
        let over = end(time);
        if over.seconds() <= self.begun.seconds() + MOST_AHEAD {
            self.over = self.over.max(over);
        }
    }

    /// This tick, but it ends no earlier than `other`.
    pub(crate) fn or_later(self, other: Tick) -> Tick {
        Tick {
            over: self.over.max(other.over),
            ..self
        }
    }

    /// Whether a change after the look can still get a time that the look saw.
    pub(crate) fn is_racy(self) -> bool {
        self.over > self.begun
    }

    /// Like [`Tick::wait`], but only if that takes some milliseconds. Returns whether it waited.
    pub(crate) fn wait_if_short(self) -> bool {
        let is_short = self.is_racy() && self.over <= self.begun.plus(0, SHORT * 1_000_000);
        if is_short {
            self.wait();
        }
        is_short
    }

    /// Waits until no change can leave one of the times that the look saw.
    ///
    /// That takes some milliseconds after a change, or some seconds if the file system keeps whole
    /// seconds. It takes no time if nothing was changed just now.
    pub(crate) fn wait(self) {
        // The number of rounds ends it even if the clock is set back meanwhile.
        for _ in 0..4000 {
            if now() >= self.over {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The coarse clock, by which the kernel stamps a file that changes now.
fn now() -> Mtime {
    rustix::time::clock_gettime(ClockId::RealtimeCoarse).into()
}

/// The clock's first time at which no file can get `time` any more.
///
/// Some file systems cut the clock's time to 10 ms (exFAT), a second (ext2, ext3) or two (FAT).
pub(crate) fn end(time: Mtime) -> Mtime {
    match time.nanoseconds() {
        0 if time.seconds() % 2 == 0 => time.plus(2, 0),
        0 => time.plus(1, 0),
        n if n % 10_000_000 == 0 => time.plus(0, 10_000_000),
        _ => time.plus(0, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_over_when_no_file_system_can_cut_a_later_clock_to_it() {
        for (time, over) in [
            ((2, 0), (4, 0)),
            ((4, 0), (6, 0)),
            ((3, 0), (4, 0)),
            ((3, 20_000_000), (3, 30_000_000)),
            ((3, 990_000_000), (4, 0)),
            ((3, 20_000_001), (3, 20_000_002)),
            ((3, 1_000_000), (3, 1_000_001)),
        ] {
            let mtime = |(seconds, nanoseconds)| Mtime::new(seconds, nanoseconds);
            assert_eq!(end(mtime(time)), mtime(over), "{time:?}");
        }
    }

    #[test]
    fn a_time_counts_up_to_some_seconds_ahead_of_the_clock() {
        let begun = Mtime::new(1_000_001, 5);
        for (seen, is_counted) in [(-1, false), (0, true), (2, true), (3, true), (4, false)] {
            let mut tick = Tick { begun, over: begun };
            let seen = begun.plus(seen, 1);
            tick.see(seen);
            assert_eq!(tick.is_racy(), is_counted, "{seen}");
        }
    }

    #[test]
    fn a_quick_look_waits_for_a_short_tick_alone() {
        let begun = now();
        let wait = |seconds, milliseconds| {
            let over = begun.plus(seconds, milliseconds * 1_000_000);
            let tick = Tick { begun, over };
            let has_waited = tick.wait_if_short();
            (has_waited, now() >= over)
        };
        assert!(!wait(0, 0).0);
        assert_eq!(wait(1_000_000, 0), (false, false));
        assert_eq!(wait(0, SHORT), (true, true));
        assert!(!wait(0, SHORT + 1).0);
    }
}
