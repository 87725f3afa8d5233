//! The facts about a refresh, for the log of a stamp.

use std::path::PathBuf;
use std::time::Duration;

use crate::act::libvirt::refreshed::Refreshed;
use crate::ground::environment::caller;
use crate::stamp::event::{Action, Event};
use crate::stamp::stamp::Stamp;

impl Refreshed {
    /// Logs a refresh that somebody asked for.
    pub(crate) fn log(&mut self, stamp: &Stamp, took: Duration) {
        let mut event = Event::begin(Action::Refresh, &caller(), "asked for");
        self.tell(&mut event);
        event.warn(self.warnings.iter().map(String::as_str));
        self.warnings.extend(stamp.log(&event.end(took)));
    }

    /// Adds to an event what the refresh did. The caller adds the warnings.
    pub(crate) fn tell(&self, event: &mut Event) {
        if !self.moved.is_empty() || !self.changed.is_empty() {
            event.add("any libvirt probes again");
        }
        let moved: Vec<PathBuf> = self.moved.iter().map(|(path, _)| path.clone()).collect();
        event.add_paths("moved the time of", &moved);
        event.add_paths("moved the ctime of", &self.changed);
        event.add_paths("removed", &self.evicted);
        if !self.is_done {
            event.add("the next update refreshes libvirt again");
        }
    }
}
