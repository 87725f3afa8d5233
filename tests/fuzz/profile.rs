//! The text of a profile.

use std::path::{Path, PathBuf};

use modstamp::{Profile, Witness};

use crate::world::World;
use crate::{Reader, Target, Tried, expect_sentence};

pub const TARGET: Target = Target {
    name: "profile",
    begin: |directory| {
        Box::new(Text {
            world: World::new(directory, "world"),
            file: directory.join("tried.toml"),
        })
    },
};

struct Text {
    world: World,
    file: PathBuf,
}

impl Reader for Text {
    fn read(&mut self, input: &[u8]) -> Tried {
        std::fs::write(&self.file, input).unwrap();
        let root = self.world.profile.root();
        let profile = match Profile::load_in(self.file.to_str().unwrap(), root) {
            Ok(profile) => profile,
            Err(error) => {
                let error = error.to_string();
                expect_sentence(&error);
                assert!(error.contains("tried"), "the file is not named: {error}");
                return Tried::Read;
            }
        };
        profile.covers(Path::new("/usr/lib64/qemu/ui-gtk.so"));
        match profile.observe() {
            Ok(witness) => expect_whole(&witness),
            Err(error) => expect_sentence(&error.to_string()),
        }
        Tried::Read
    }
}

/// Checks that a witness prints as a text that is the same witness.
///
/// # Panics
/// If it does not.
pub fn expect_whole(witness: &Witness) {
    let text = witness.to_string();
    let again = Witness::from_bytes(text.as_bytes());
    let again = again.unwrap_or_else(|error| panic!("{error}, though it was printed:\n{text}"));
    assert_eq!(
        again.to_string(),
        text,
        "it is another witness once it is read"
    );
}
