//! The clock's tick: file systems store when a change was made only so finely, and two changes within one tick look
//! like one. Who waits until the tick of what they saw is over can tell every later change from it.

use std::time::Duration;

use rustix::time::ClockId;

use crate::ground::time::Mtime;

/// How far ahead of the clock a time may be that is waited for, in seconds.
const MOST_AHEAD: i64 = 3;

/// The latest of the ticks of all times that were seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    begun: Mtime,
    over: Mtime,
}

impl Tick {
    /// No time was seen yet.
    pub(crate) fn begin() -> Tick {
        let begun = now();
        Tick { begun, over: begun }
    }

    /// When the first time could be seen.
    pub(crate) fn begun(self) -> Mtime {
        self.begun
    }

    /// Counts in a time that a file has. One that is far ahead of the clock is not waited for.
    pub(crate) fn see(&mut self, time: Mtime) {
        let over = end(time);
        if over.seconds() <= self.begun.seconds() + MOST_AHEAD {
            self.over = self.over.max(over);
        }
    }

    /// Both as one.
    pub(crate) fn or_later(self, other: Tick) -> Tick {
        Tick {
            over: self.over.max(other.over),
            ..self
        }
    }

    /// Whether a later change could have left one of the times when the first was seen.
    pub(crate) fn is_racy(self) -> bool {
        self.over > self.begun
    }

    /// Waits until the clock can leave none of the times that were seen: some milliseconds after a change, some seconds
    /// where the file system keeps whole ones, and no time at all where nothing was changed just now.
    pub(crate) fn wait(self) {
        // An end to it also where the clock is set back meanwhile.
        for _ in 0..4000 {
            if now() >= self.over {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What the kernel gives a file that is changed now: the time of the last tick.
fn now() -> Mtime {
    rustix::time::clock_gettime(ClockId::RealtimeCoarse).into()
}

/// The first time of the clock at which a file cannot get `time` any more. Some file systems cut the clock's time to
/// 10 ms (exFAT), to a second (ext2, ext3) or to two (FAT).
pub(crate) fn end(time: Mtime) -> Mtime {
    match time.nanoseconds() {
        0 if time.seconds() % 2 == 0 => time.plus(2, 0),
        0 => time.plus(1, 0),
        n if n % 10_000_000 == 0 => time.plus(0, 10_000_000),
        _ => time.plus(0, 1),
    }
}
