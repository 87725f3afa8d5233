//! The log beside a stamp.

use std::fs;
use std::path::PathBuf;

use modstamp::{Action, Durability, Event, Log, Owner, Profile, Stamp};

use crate::world::World;
use crate::{Reader, Target, Tried, is_obeyed};

pub const TARGET: Target = Target {
    name: "log",
    begin: |directory| {
        let profile = World::new(directory, "logged").profile;
        let stamp = Stamp::own(profile.root(), "logged").unwrap();
        let logged = Logged { profile, stamp };
        let seeds = logged.seeds_of_two_touches();
        Box::new(LogFile { logged, seeds })
    },
};

struct LogFile {
    logged: Logged,
    seeds: Vec<Vec<u8>>,
}

/// A world whose stamp has a log.
struct Logged {
    profile: Profile,
    stamp: Stamp,
}

impl Logged {
    fn touch(&self, why: &str) {
        let durability = Durability::NotSynced;
        let touched = self
            .profile
            .touch(&self.stamp, "fuzz", why, &[], durability);
        let touched = touched.unwrap().unwrap();
        assert_eq!(touched.warnings().collect::<Vec<_>>(), [""; 0]);
    }

    /// The log, from its beginning.
    fn log(&self) -> Log {
        let mut logs = Log::all(self.profile.root(), Owner::System).unwrap();
        assert_eq!(logs.len(), 1, "{logs:?}");
        logs.remove(0)
    }

    fn seeds_of_two_touches(&self) -> Vec<Vec<u8>> {
        self.touch("one");
        self.touch("another");
        vec![fs::read(self.path()).unwrap()]
    }

    fn path(&self) -> PathBuf {
        self.stamp.path().with_extension("log")
    }
}

/// Checks that no terminal obeys an event.
fn expect_harmless(event: &Event) {
    let texts = [&event.by, &event.why].into_iter();
    for text in texts.chain(&event.followed) {
        assert!(!text.chars().any(is_obeyed), "{text:?}");
    }
}

impl Reader for LogFile {
    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    /// Whatever the log holds, the next touch adds its event after all others, and a reader sees
    /// each event once.
    fn read(&mut self, input: &[u8]) -> Tried {
        fs::write(self.logged.path(), input).unwrap();
        let mut follower = self.logged.log();
        let before = follower.news().unwrap();
        before.iter().for_each(expect_harmless);
        assert_eq!(follower.news().unwrap(), [], "an event is told again");
        self.logged.touch("a touch");
        let mut all = self.logged.log().news().unwrap();
        assert!(all.starts_with(&before), "{before:?} became {all:?}");
        let news = follower.news().unwrap();
        // Of equal events at one time, a follower knows one.
        let later = all[before.len()..].iter();
        let later = later.skip_while(|event| before.last() == Some(event));
        assert!(news.iter().eq(later), "{news:?} of {all:?}");
        let touch = all.pop().unwrap();
        assert_eq!((touch.action, &*touch.why), (Action::Touch, "a touch"));
        // The touch ended the last line, which may have lacked nothing else.
        assert!(all.len() <= before.len() + 1, "{all:?}");
        all.iter().for_each(expect_harmless);
        Tried::Read
    }
}
