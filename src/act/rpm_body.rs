//! The body of one of rpm's triggers, which has the arguments of its interpreter.
//!
//! rpm passes the interpreter nothing but the path of a file with the body, and counts of packages.
//! So the arguments are in the body:
//!
//! ```text
//! %filetriggerin -p /usr/libexec/modstamp/rpm-trigger -- /usr/lib64/qemu
//! --profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm
//! ```

use std::ffi::OsString;
use std::path::PathBuf;

use crate::ground::text::Printable;
use crate::stamp::stamp::Durability;

/// The arguments that one of rpm's triggers gives in its body.
#[derive(Debug)]
pub struct Body {
    /// The profile's name; "qemu" if the body names none.
    pub profile: String,
    /// Whether a touch has to be on disk at its end.
    pub durability: Durability,
    /// The module directories.
    pub directories: Vec<PathBuf>,
    /// The body's mistakes, one sentence each.
    pub warnings: Vec<String>,
}

impl Body {
    /// Reads the body from the file `script`. A body that cannot be read asks for a touch.
    pub fn read(script: Option<OsString>) -> Body {
        let mut body = Body {
            profile: "qemu".to_owned(),
            durability: Durability::Synced,
            directories: Vec::new(),
            warnings: Vec::new(),
        };
        let text = match script.map(std::fs::read_to_string) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                let warning = format!("cannot read the body of rpm's trigger: {error}");
                body.warnings.push(warning);
                return body;
            }
            None => return body,
        };
        // A comment between this section and the next one belongs to the body, too.
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut words = lines.flat_map(str::split_whitespace);
        while let Some(word) = words.next() {
            match word {
                "--no-sync" => body.durability = Durability::NotSynced,
                "--profile" => body.profile = words.next().unwrap_or(&body.profile).to_owned(),
                _ if word.starts_with('/') => body.directories.push(word.into()),
                _ => body.warnings.push(format!(
                    "the body of rpm's trigger has “{}”; it may have --profile NAME, --no-sync and directories",
                    Printable(word.as_ref())
                )),
            }
        }
        body
    }
}
