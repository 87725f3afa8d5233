//! The body of one of rpm's triggers, which has the arguments of its interpreter.
//!
//! rpm passes the interpreter nothing but the path of a file with the body, and counts of packages.
//! So the arguments are in the body:
//!
//! ```text
//! %filetriggerin -p /usr/libexec/modstamp/rpm-trigger -- /usr/lib64/qemu
//! --profile qemu --no-sync /usr/lib64/qemu /usr/lib64/qemu-kvm
//! ```

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use rustix::fs::{Mode, OFlags};

use crate::files::read::read_at_most;
use crate::files::root::Root;
use crate::ground::error::Error;
use crate::ground::platform::{OsStr, OsStrExt, OsString, PathBuf, io};
use crate::ground::text::Printable;
use crate::stamp::stamp::{Durability, Stamp};

/// The longest body, in bytes. A longer one is no body of a trigger.
const MOST_BYTES: u64 = 64 << 10;

/// The arguments that one of rpm's triggers gives in its body.
#[derive(Debug)]
pub struct Body {
    /// `None` if the body cannot tell.
    profile: Option<String>,
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
            profile: Some("qemu".to_owned()),
            durability: Durability::Synced,
            directories: Vec::new(),
            warnings: Vec::new(),
        };
        let Some(script) = script else {
            return body;
        };
        match read(&script) {
            Ok(text) => body.parse(&text),
            Err(cause) => {
                let remedy = "make it readable for root";
                let error = Error::system("read the body of rpm's trigger", script, cause, remedy);
                body.warnings.push(error.to_string());
                body.profile = None;
            }
        }
        if body.profile.is_none() {
            body.directories = vec![PathBuf::from("/")]; // Any path may be a module's.
        }
        body
    }

    fn parse(&mut self, text: &[u8]) {
        // A comment between this section and the next one belongs to the body, too.
        let lines = text.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.starts_with(b"#"));
        let words = lines.flat_map(|line| line.split(u8::is_ascii_whitespace));
        let mut words = words.filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            match word {
                b"--no-sync" => self.durability = Durability::NotSynced,
                b"--profile" => {
                    let name = words.next().map(OsStr::from_bytes);
                    self.profile = name.map(|name| Printable(name).to_string());
                }
                [b'/', ..] => self.directories.push(OsStr::from_bytes(word).into()),
                _ => self.warnings.push(format!(
                    "the body of rpm's trigger has “{}”; it may have --profile NAME, --no-sync and directories",
                    Printable(OsStr::from_bytes(word))
                )),
            }
        }
    }

    /// The profiles whose stamps the trigger touches: the body's own, which is "qemu" if the body
    /// names none.
    ///
    /// If the body cannot tell, these are all profiles that have a stamp. A touch too many costs a
    /// probe, and one too few costs a wrong answer.
    pub fn profiles(&mut self, root: &Root) -> Vec<String> {
        if let Some(profile) = &self.profile {
            return vec![profile.clone()];
        }
        self.warnings.push(
            "the body of rpm's trigger tells no profile, so every stamp in /var/lib/modstamp is \
             touched; “modstamp touch --profile NAME” makes a missing one"
                .to_owned(),
        );
        Stamp::all_of_system(root).unwrap_or_else(|error| {
            self.warnings.push(error.to_string());
            Vec::new()
        })
    }
}

/// Reads a body. Waits for no FIFO's other end.
fn read(script: &OsStr) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(script, flags, Mode::empty())?;
    read_at_most(MOST_BYTES, file)
}
