//! The stamp: its time and its text.

use std::fs;

use filetime::FileTime;
use modstamp::{Durability, Mtime, Stamp};

use crate::world::World;
use crate::{Reader, Target, Tried, expect_sentence};

pub const TARGET: Target = Target {
    name: "stamp",
    begin: |directory| {
        let world = World::new(directory, "stamped");
        let stamp = Stamp::own(world.profile.root(), "stamped").unwrap();
        Box::new(Touched { world, stamp })
    },
};

struct Touched {
    world: World,
    stamp: Stamp,
}

impl Reader for Touched {
    /// The first twelve bytes are the stamp's time, and the rest its text.
    ///
    /// The next touch moves it forward, or says why it cannot.
    fn read(&mut self, input: &[u8]) -> Tried {
        let (time, text) = input.split_at(input.len().min(12));
        expect_same_time(text);
        let mut bytes = [0; 12];
        bytes[..time.len()].copy_from_slice(time);
        let seconds = i64::from_le_bytes(bytes[..8].try_into().unwrap());
        let nanoseconds = u32::from_le_bytes(bytes[8..].try_into().unwrap()) % 1_000_000_000;
        let lock = self.world.path("var/lib/modstamp/.stamped.lock");
        let _ = fs::remove_file(lock); // It remembers the times of earlier inputs.
        self.world.write(&self.world.stamp(), text);
        let time = FileTime::from_unix_time(seconds, nanoseconds);
        // This call alone takes every time.
        let _ = filetime::set_symlink_file_times(self.world.path(&self.world.stamp()), time, time);
        let before = self.stamp.mtime().unwrap();
        self.stamp.note();
        let text = String::from_utf8_lossy(text);
        match self.stamp.touch(&text, &text, Durability::NotSynced) {
            Ok(after) => {
                assert!(after > before, "{before:?} became {after:?}");
                let note = self.stamp.note().expect("a note that can be read");
                assert_eq!(Some(note.mtime), after);
                for line in [note.by, note.why] {
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                }
            }
            Err(error) => {
                expect_sentence(&error.to_string());
                assert_eq!(self.stamp.mtime().unwrap(), before);
            }
        }
        Tried::Judged
    }
}

/// Checks that a time that can be read prints as a time that is the same.
fn expect_same_time(text: &[u8]) {
    let time = std::str::from_utf8(text).ok();
    if let Some(time) = time.and_then(|text| text.parse::<Mtime>().ok()) {
        assert_eq!(time.to_string().parse().ok(), Some(time));
    }
}
