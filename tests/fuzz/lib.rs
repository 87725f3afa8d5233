//! Random bytes for everything that modstamp reads.
//!
//! Each target is one thing that is read. It begins in a scratch directory, makes worlds there, and
//! then tries one input after the other. It panics if a promise is broken.
//!
//! - `replay.rs` tries a corpus and random mutations of it.
//! - `guided.rs` lets libFuzzer choose the inputs by the code that they reach.

pub mod c_interface;
pub mod libvirt;
pub mod log;
pub mod mutate;
pub mod paths;
pub mod profile;
pub mod stamp;
pub mod stored;
pub mod witness;
pub mod world;

use std::path::Path;

/// One thing that modstamp reads.
pub struct Target {
    pub name: &'static str,
    /// Makes the target's worlds in a scratch directory.
    pub begin: fn(&Path) -> Box<dyn Reader>,
}

/// The reading of one thing.
pub trait Reader {
    /// Inputs of this run's own worlds. They hold stat identities, so no corpus can have them.
    fn seeds(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    /// Tries one input. Panics if a promise is broken.
    fn read(&mut self, input: &[u8]) -> Tried;
}

/// How far an input came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// It was read or refused.
    Read,
    /// A changed world was also judged by it.
    Judged,
}

pub const TARGETS: [Target; 11] = [
    profile::TARGET,
    witness::TARGET,
    stored::ANSWER,
    stored::KEPT_WITNESS,
    libvirt::RECORD,
    libvirt::XML,
    stamp::TARGET,
    log::TARGET,
    paths::PATHS,
    paths::BODY,
    c_interface::TARGET,
];

/// The target of that name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        panic!(
            "there is no target “{name}”; name one of {}",
            names.join(", ")
        )
    })
}

/// Checks that a text for people is one line that no terminal takes for a command.
///
/// # Panics
/// If it is not.
#[track_caller]
pub fn expect_sentence(text: &str) {
    assert!(!text.trim().is_empty(), "an error says nothing");
    let obeyed = text.chars().find(|c| is_obeyed(*c));
    assert_eq!(obeyed, None, "a terminal obeys a character in {text:?}");
}

/// Whether a terminal may obey a character: a control character, a separator of lines, or one with
/// the property `Bidi_Control` (Unicode Standard Annex 9).
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        )
        || matches!(c, '\u{2066}'..='\u{2069}')
}
