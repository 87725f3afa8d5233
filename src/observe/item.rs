//! An item: a path or a pattern that one of a profile's lists holds.
//!
//! A witness has the items of its profile. So a later look can tell an input that is new from one
//! that nobody looked for when the witness was taken.

use crate::observe::input::Input;
use crate::observe::pattern::Source;
use crate::observe::profile::Profile;

/// An item of a profile's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// The inputs that it is for. `Module` is for what is excluded, `Library` for a manifest.
    pub(crate) input: Input,
    pub(crate) text: String,
}

/// The word of each list in a witness.
const WORDS: [(Input, &str); 5] = [
    (Input::ModuleDirectory, "directory"),
    (Input::Program, "program"),
    (Input::File, "file"),
    (Input::Library, "manifest"),
    (Input::Module, "exclude"),
];

impl Profile {
    /// The items of all lists that tell where to look.
    pub(crate) fn items(&self) -> Vec<Item> {
        let item = |input, text| Item { input, text };
        let of = |input, list: &[Source]| -> Vec<Item> {
            list.iter().map(|it| item(input, it.to_string())).collect()
        };
        let manifests = self.manifests.iter().flat_map(|manifest| {
            let place = manifest.place.keys.join(".");
            let files = manifest.files.iter();
            files.map(move |file| item(Input::Library, format!("{file} ({place})")))
        });
        let exclude = self.exclude.iter();
        let exclude = exclude.map(|it| item(Input::Module, it.to_string()));
        let mut items = of(Input::ModuleDirectory, &self.directories);
        items.extend(of(Input::Program, &self.programs));
        items.extend(of(Input::File, &self.files));
        items.extend(manifests.chain(exclude));
        items
    }
}

impl Item {
    /// Its list, as a word of a witness.
    pub(crate) fn word(&self) -> &'static str {
        let mut words = WORDS.iter();
        words
            .find(|(input, _)| *input == self.input)
            .map_or("", |(_, word)| word)
    }

    /// The item of a line in a witness; `None` if there is no such list.
    pub(crate) fn of_word(word: &str, text: String) -> Option<Item> {
        let mut words = WORDS.iter();
        let (input, _) = words.find(|(_, other)| *other == word)?;
        Some(Item {
            input: *input,
            text,
        })
    }
}
