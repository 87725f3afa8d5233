//! The verbs, one file each: what they take, and what they print.

pub mod check;
pub mod observe;
pub mod run;
pub mod status;
pub mod touch;
pub mod trigger;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use modstamp::{Profile, Root};

/// What every verb takes.
#[derive(clap::Args)]
pub struct Which {
    /// The profile: a name, or the path of a profile's file (a value with a “/” in it)  [default: qemu]
    #[arg(long, value_name = "NAME|FILE")]
    pub profile: Option<String>,
    /// Look at, and touch, the tree below DIR as if it were “/”
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

impl Which {
    pub fn root(&self) -> modstamp::Result<Root> {
        match &self.root {
            Some(directory) => Root::open(directory),
            None => Root::system(),
        }
    }

    pub fn name(&self) -> &str {
        self.profile.as_deref().unwrap_or("qemu")
    }

    /// The profile's name, also where it is named by its file.
    pub fn stem(&self) -> String {
        let stem = std::path::Path::new(self.name()).file_stem();
        match self.name().contains('/') {
            true => stem.unwrap_or_default().to_string_lossy().into_owned(),
            false => self.name().to_owned(),
        }
    }

    pub fn load(&self) -> modstamp::Result<Profile> {
        Profile::load_in(self.name(), &self.root()?)
    }
}

/// Prints to standard output. A reader that has left early has seen what it wanted.
pub fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says on standard error what is worth knowing. Where there is nobody to tell, that is no reason to fail.
pub fn say(kind: &str, text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "modstamp: {kind}{text}");
}

/// Ends a verb: an error is told, and becomes the exit status `otherwise`.
pub fn end(result: anyhow::Result<ExitCode>, otherwise: u8) -> ExitCode {
    result.unwrap_or_else(|error| {
        say("", format_args!("{error:#}"));
        ExitCode::from(otherwise)
    })
}
