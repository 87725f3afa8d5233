//! The verbs, one file each: what they take, and what they print.

pub mod check;
pub mod libvirt;
pub mod observe;
pub mod run;
pub mod status;
pub mod touch;
pub mod trigger;
pub mod update;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueHint};
use modstamp::{Profile, Root, Witness};

/// The lines that a verdict takes for a person.
const MOST_LINES: usize = 10;

/// A witness is some 100 bytes an input. What is larger than this is not one.
const MOST_BYTES: u64 = 256 << 20;

/// Keeps caches of what a program's plug-ins can do from going stale when packages come and go
///
/// A program that asks its plug-ins what they can do, and caches the answer, wants to know when to ask again. Package
/// managers' triggers, and people, touch one well-known file, the stamp. A witness of the stamp, the module directories and
/// the programs is observed before the probe and stored with the answer; a check of it tells whether the answer still
/// holds, and if not, why.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Exit status: the command's; 2 if the arguments are wrong"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    Touch(touch::Arguments),
    Trigger(trigger::Arguments),
    Update(update::Arguments),
    Observe(observe::Arguments),
    Check(check::Arguments),
    Run(run::Arguments),
    Status(status::Arguments),
    Libvirt(libvirt::Arguments),
}

/// Which profile, and where.
#[derive(clap::Args)]
pub struct Which {
    /// The profile: a name, or the path of a profile's file (a value with a “/” in it)
    #[arg(long, value_name = "NAME|FILE", default_value = "qemu")]
    profile: String,
    #[command(flatten)]
    place: Place,
}

/// Where.
#[derive(clap::Args)]
pub struct Place {
    /// Look at, and touch, the tree below DIR as if it were “/”
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
}

impl Place {
    pub fn root(&self) -> modstamp::Result<Root> {
        match &self.root {
            Some(directory) => Root::open(directory),
            None => Root::system(),
        }
    }
}

impl Which {
    pub fn root(&self) -> modstamp::Result<Root> {
        self.place.root()
    }

    pub fn load(&self) -> modstamp::Result<Profile> {
        self.load_in(&self.root()?)
    }

    pub fn load_in(&self, root: &Root) -> modstamp::Result<Profile> {
        Profile::load_in(&self.profile, root)
    }

    /// The profile's name, also where it is named by its file and that cannot be read.
    pub fn name(&self) -> String {
        let stem = Path::new(&self.profile).file_stem();
        match self.profile.contains('/') {
            true => stem.unwrap_or_default().to_string_lossy().into_owned(),
            false => self.profile.clone(),
        }
    }
}

/// Reads a stored witness; “-” is standard input. What is read may be anything: then the inner result says what is wrong.
pub fn stored_witness(file: &Path) -> anyhow::Result<modstamp::Result<Witness>> {
    let mut text = Vec::with_capacity(64 << 10);
    if file.as_os_str() == "-" {
        let read = io::stdin().take(MOST_BYTES).read_to_end(&mut text);
        read.context("cannot read the witness from standard input")?;
    } else {
        let read =
            fs_err::File::open(file).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
        read.context("cannot read the witness; name a file that “modstamp observe” filled")?;
    }
    Ok(Witness::from_bytes(&text))
}

/// Prints to standard output. A reader that has left early has seen what it wanted.
pub fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context(
            "cannot write to standard output; make room where it goes to, or send it elsewhere",
        ),
    }
}

/// Says on standard error what is worth knowing. Where there is nobody to tell, that is no reason to fail.
pub fn say(kind: &str, text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "modstamp: {kind}{text}");
}

/// Says that an image is being built, for which no first stamp is made.
pub fn say_left_to_first_boot() {
    say(
        "note: ",
        "no stamp was made, because an image is being built (SOURCE_DATE_EPOCH is set); \
         the first “modstamp update” on a host with that image makes one",
    );
}

/// Ends a verb: an error is told, and becomes the exit status `otherwise`.
pub fn end(result: anyhow::Result<ExitCode>, otherwise: u8) -> ExitCode {
    result.unwrap_or_else(|error| {
        say("", format_args!("{error:#}"));
        ExitCode::from(otherwise)
    })
}
