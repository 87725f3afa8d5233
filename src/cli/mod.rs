//! The verbs of the command line: one file each, with its arguments and its output.

pub mod check;
mod cures;
pub mod doctor;
mod last_touch;
pub mod libvirt;
mod libvirt_cache;
pub mod log;
pub mod observe;
pub mod refresh;
mod report;
pub mod run;
pub mod status;
mod table;
mod time;
pub mod touch;
pub mod trigger;
pub mod update;

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueHint};
use modstamp::{Durability, Profile, Root, Sentence, is_unsafe, printable};
use serde::Serialize;

/// A witness has some 100 bytes for each input. A larger file is no witness.
const MOST_BYTES: u64 = 256 << 20;

/// Tell when a cached answer about plug-ins is out of date
///
/// Some programs ask their plug-ins once what they can do, and cache the answer. When a plug-in is
/// installed, changed or removed, the cached answer may be wrong. It is then called stale.
///
/// For each kind of plug-in there is a profile, such as “qemu”. It names the directories of the
/// plug-ins (the modules), and the programs that load them. It has one small file, the stamp.
/// Package managers touch the stamp when modules change, and so can you.
///
/// A witness is a text that records all of these at one moment. Take it before you ask, and store
/// it with the answer. A later check of the witness tells whether the answer still holds.
///
/// To begin, run “modstamp status”. If something seems wrong, run “modstamp doctor”.
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

/// The exit status of a verb, for [`std::process::exit`]. std's type works only in a Rust `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    pub const SUCCESS: ExitCode = ExitCode(0);
    pub const FAILURE: ExitCode = ExitCode(1);
}

impl From<u8> for ExitCode {
    fn from(status: u8) -> ExitCode {
        ExitCode(status)
    }
}

impl From<ExitCode> for i32 {
    fn from(ExitCode(status): ExitCode) -> i32 {
        status.into()
    }
}

#[derive(Subcommand)]
pub enum Verb {
    Touch(touch::Arguments),
    Trigger(trigger::Arguments),
    Update(update::Arguments),
    Refresh(refresh::Arguments),
    Observe(observe::Arguments),
    Check(check::Arguments),
    Run(run::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    Log(log::Arguments),
    Libvirt(libvirt::Arguments),
}

impl Verb {
    /// Parses the program's arguments.
    ///
    /// clap takes a fifth of a check's time to build the definitions of all verbs. So a verb that
    /// has to be quick is first parsed by its own definition alone. All definitions together parse
    /// the rest, and make help and errors.
    pub fn parse() -> Result<Verb, clap::Error> {
        let name = std::env::args_os().nth(1).unwrap_or_default();
        let quick = match name.to_str() {
            Some("check") => only().map(Verb::Check),
            Some("run") => only().map(Verb::Run),
            Some("trigger") => only().map(Verb::Trigger),
            _ => None,
        };
        let all = || Arguments::try_parse().map(|arguments| arguments.verb);
        quick.map_or_else(all, Ok)
    }
}

/// The arguments of the called verb. `None` if they are wrong, or ask for help.
fn only<A: clap::Args>() -> Option<A> {
    let command = A::augment_args(clap::Command::new("modstamp"));
    let matches = command.try_get_matches_from(std::env::args_os().skip(1));
    A::from_arg_matches(&matches.ok()?).ok()
}

/// The profile if the caller names none.
const DEFAULT: &str = "qemu";

/// The profile, and the root directory that it is looked up in.
#[derive(clap::Args)]
pub struct Which {
    /// The profile: a name, or the path of a profile's file (a value with a “/” in it)
    #[arg(long, value_name = "NAME|FILE", default_value = DEFAULT)]
    profile: String,
    #[command(flatten)]
    place: Place,
}

/// The root directory.
#[derive(clap::Args)]
pub struct Place {
    /// Use DIR in place of “/”, for another system's tree. A symbolic link in the path of DIR must be
    /// root's or yours, and nobody else may be able to replace it
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    root: Option<PathBuf>,
}

/// Whether a touch waits for the disk.
#[derive(clap::Args)]
pub struct Sync {
    /// Do not wait until the stamp is on the disk. A power cut may then undo the touch
    #[arg(long)]
    no_sync: bool,
}

impl Sync {
    pub fn durability(&self) -> Durability {
        match self.no_sync {
            true => Durability::NotSynced,
            false => Durability::Synced,
        }
    }
}

impl Place {
    pub fn root(&self) -> modstamp::Result<Root> {
        match &self.root {
            Some(directory) => Root::open(directory),
            None => Root::system(),
        }
    }

    /// A command of modstamp's for a profile and the same root directory, for people to paste.
    fn verb_for(&self, verb: &str, profile: &str) -> String {
        match profile {
            DEFAULT => self.verb(verb),
            profile => self.verb(&format!("{verb} --profile {}", quoted(profile.as_ref()))),
        }
    }

    /// A command of modstamp's for the same root directory, for people to paste.
    fn verb(&self, verb: &str) -> String {
        let root = self.root.as_deref().filter(|it| *it != Path::new("/"));
        match root {
            Some(directory) => {
                format!("modstamp {verb} --root {}", quoted(directory.as_os_str()))
            }
            None => format!("modstamp {verb}"),
        }
    }
}

impl Which {
    pub fn root(&self) -> modstamp::Result<Root> {
        self.place.root()
    }

    /// A command of modstamp's for the same profile and root directory, for people to paste.
    fn verb(&self, verb: &str) -> String {
        self.place.verb_for(verb, &self.profile)
    }

    pub fn load(&self) -> anyhow::Result<Profile> {
        load(&self.profile, &self.root()?)
    }
}

/// Loads a profile. If there is none of that name, the error tells which one was meant.
pub fn load(name: &str, root: &Root) -> anyhow::Result<Profile> {
    Profile::load_in(name, root).map_err(|error| match meant(name, root) {
        Some(meant) => anyhow!("there is no profile “{name}”; {meant}"),
        None => error.into(),
    })
}

/// A word as a shell takes it, so that people can paste it.
pub fn quoted(word: &OsStr) -> String {
    os_display::Quoted::native_raw(word)
        .force(false)
        .to_string()
}

/// A guess at what a name that no profile has was meant to be.
fn meant(name: &str, root: &Root) -> Option<String> {
    let names = Profile::names(root);
    if name.contains('/') || names.iter().any(|known| known == name) {
        return None;
    }
    if Path::new(name).is_file() {
        let path = quoted(format!("./{name}").as_ref());
        return Some(format!("write “{path}” to name the file"));
    }
    let alike = names
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known));
    let (likeness, nearest) = alike.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > 0.8).then(|| format!("did you mean “{nearest}”?"))
}

/// Reads the bytes of a stored witness, which may be anything. “-” is standard input.
pub fn read_stored(file: &Path) -> anyhow::Result<Vec<u8>> {
    let read = |input: &mut dyn Read| {
        let mut text = Vec::with_capacity(16 << 10);
        input.take(MOST_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    if file.as_os_str() == "-" {
        return read(&mut io::stdin()).map_err(|error| {
            anyhow!("cannot read the witness from standard input: {error}; name its file instead")
        });
    }
    let text = fs_err::File::open(file).and_then(|mut file| read(&mut file));
    text.map_err(|error| {
        let (file, remedy) = (
            printable(file),
            "name a file that “modstamp observe” filled",
        );
        // The sentence of fs_err names the path once more.
        let cause = error.get_ref().and_then(|error| error.source());
        let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
        anyhow!("cannot read the witness {file}: {cause}; {remedy}")
    })
}

/// Prints a value as one line of JSON. A character that a terminal may obey is escaped, as JSON
/// has it.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value)?;
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        // Each of them is in a string, and has four hexadecimal digits at most.
        match is_unsafe(c) {
            true => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => line.push(c),
        }
    }
    print(line + "\n")
}

/// Prints lines to standard output. A reader that leaves early is no error: it has seen enough.
pub fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let text = text.to_string();
    let mut lines = text.split_inclusive('\n');
    write_out(|out| {
        lines.try_for_each(|line| match line.strip_suffix('\n') {
            Some(line) => writeln!(out, "{}", Sentence(line)),
            None => write!(out, "{}", Sentence(line)),
        })
    })
}

/// Like [`print()`], for lines with colours, in which all else is escaped already.
fn print_escaped(lines: &[String]) -> anyhow::Result<()> {
    write_out(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")))
}

fn write_out(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| {
            let remedy = "make room where it goes to, or send it elsewhere";
            anyhow!("cannot write to standard output: {error}; {remedy}")
        }),
    }
}

/// Prints a message to standard error. A closed standard error is no reason to fail.
pub fn say(kind: &str, text: impl std::fmt::Display) {
    let text = text.to_string();
    let _ = writeln!(io::stderr(), "modstamp: {kind}{}", Sentence(&text));
}

/// Says that an image is being built, so that no first stamp is made.
pub fn say_left_to_first_boot() {
    say(
        "note: ",
        "no stamp was made, because an image is being built (SOURCE_DATE_EPOCH is set); \
         the first “modstamp update” on a host with that image makes one",
    );
}

/// Prints the help, or tells of a wrong argument. An argument can have any character.
pub fn refuse(mut error: clap::Error) -> ExitCode {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    let takes_a_command = usage.is_some_and(|usage| usage.contains(" -- <CMD>"));
    let is_explained = error.get(ContextKind::Suggested).is_some();
    // clap has a tip of its own for an argument that begins with “-”.
    if takes_a_command && !is_explained && error.kind() == ErrorKind::UnknownArgument {
        let tip = "write “--” before the command".into();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    let text = error.render().to_string();
    if !error.use_stderr() {
        return end(print(text).map(|()| ExitCode::SUCCESS), 1);
    }
    for line in text.lines() {
        let _ = writeln!(io::stderr(), "{}", Sentence(line));
    }
    ExitCode::from(2)
}

/// Ends a verb: prints an error, which becomes the exit status `otherwise`.
pub fn end(result: anyhow::Result<ExitCode>, otherwise: u8) -> ExitCode {
    result.unwrap_or_else(|error| {
        say("", format_args!("{error:#}"));
        ExitCode::from(otherwise)
    })
}
