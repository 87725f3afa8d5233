//! A witness: what a consumer saw of all the inputs before it probed, stored with the cached answer.
//!
//! It is text, one line an input, so that two of them can be read as a diff:
//!
//! ```text
//! modstamp-witness 1 qemu
//! stamp system 1700000000.123456789
//! stamp user -
//! variable QEMU_MODULE_DIR -
//! directory 40755 0:0 0 c1f7a05e2b9d3846 - /usr/lib64/qemu
//! own 4b1d7e6c9f20a835
//! module 100755 0:0 101128 6cfb0e4f6d9a7b1c 0f3e…(32 digits) hw-display-qxl.so
//! program 100755 0:0 18397984 a2d4c0b39e5f1807 51aa… /usr/bin/qemu-system-x86_64
//! searched 95d4c1aa03b7e6f2 /usr/bin/qemu-system-*
//! end 9
//! ```
//!
//! The columns are: what it is; type and permissions, in octal; owner and group; size in bytes; the stat identity's
//! fingerprint, of a module directory the sum of those of all in it, with `~` before it where an equal one would be no
//! evidence, or `-` where there is none; the content's digest, `-` where there is nothing to read, `?` where nobody read it, `!` and the error's number where it
//! could not be read; and the name, of a module below the directory that was named last. Bytes that are not printable stand as `\x` and two digits.
//! `own` is the fingerprint of that directory itself, which a redeploy moves, too: only [`Witness::disturbed`] looks at it
//! and at what is no evidence. A pattern that programs were searched by stands with the fingerprint of its directory. The
//! last line counts all before it.

use std::fmt;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use crate::ground::error::{Error, Result};
use crate::ground::text::{Escaped, Printable, unescape};
use crate::judge::reason::{Reason, Subject};
use crate::judge::verdict::Verdict;
use crate::observe::entry::{Content, Entry};
use crate::observe::inputs::{Directory, Inputs, Observation, StampState, Stamps, is_same};
use crate::observe::profile::Profile;
use crate::stamp::stamp::Owner;

/// The version of the text that is written. Every earlier one is read too.
const VERSION: u32 = 1;

/// What was seen of a profile's inputs at one time.
///
/// It is made by [`Profile::observe`], stored as text by [`Display`](fmt::Display) and read by [`FromStr`]; with serde
/// it is a string.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Witness {
    pub(crate) observation: Observation,
}

impl Profile {
    /// Observes all inputs, their contents too, into a witness. Call it *before* the probe whose answer is to be
    /// cached, and store the witness with the answer.
    ///
    /// Where something was changed within the current tick of its file system's clock, it waits until that
    /// tick is over: some milliseconds, or up to three seconds where the file system keeps whole seconds or the stamp is
    /// a little ahead of the clock. No change after it looks like one before.
    ///
    /// # Errors
    /// As [`Profile::inputs`].
    pub fn observe(&self) -> Result<Witness> {
        Ok(self.inputs()?.witness())
    }

    /// As [`Profile::observe`], but reads only what, by its stat identity, changed since an `older` witness.
    ///
    /// # Errors
    /// As [`Profile::inputs`].
    pub fn observe_again(&self, older: &Witness) -> Result<Witness> {
        let now = Inputs::of(self, Some(&older.observation))?;
        now.trust(&older.observation);
        Ok(now.witness())
    }
}

impl Witness {
    /// Reads a witness from bytes that may be anything.
    ///
    /// # Errors
    /// As [`Witness::from_str`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Witness> {
        let text = std::str::from_utf8(bytes);
        text.map_err(|_| Error::Witness("it is not text in UTF-8".to_owned()))?
            .parse()
    }

    /// The name of the profile that it is of.
    pub fn profile(&self) -> &str {
        &self.observation.profile
    }

    /// Judges this witness by what the profile's inputs are now. To judge many, take [`Profile::inputs`] once and
    /// call [`Witness::judge`].
    ///
    /// # Errors
    /// As [`Profile::inputs`].
    pub fn check(&self, profile: &Profile) -> Result<Verdict> {
        Ok(self.judge(&Inputs::of(profile, Some(&self.observation))?))
    }

    /// Judges this witness by inputs that were looked at already.
    pub fn judge(&self, now: &Inputs) -> Verdict {
        Verdict::of(self, now)
    }

    /// Judges this witness by the stamps alone, at the cost of a stat each: for who has no time to look at all modules.
    ///
    /// It sees what a trigger, the tool or a hand told by a touch, and nothing else.
    pub fn check_stamps(&self, profile: &Profile) -> Verdict {
        Verdict::of_stamps(self, profile)
    }

    /// Whether, and why, a probe since this witness was taken must not be relied on, by a look at the inputs after it:
    /// the first reason why the witness is stale now, or that something was changed and changed back, which the answer
    /// may have seen and no later check will. `None` where not even a stat identity is different.
    ///
    /// It is for the witness that [`Profile::observe`] gave, or its text. One that was stored for long says that files were
    /// touched which a redeploy or a reboot gave other inodes and times.
    pub fn disturbed(&self, after: &Inputs) -> Option<Reason> {
        if let Some(reason) = self.judge(after).reasons().first() {
            return Some(reason.clone());
        }
        let touched = |(then, now): &(&Entry, &Entry)| then.fingerprint != now.fingerprint;
        let (then, now) = (&self.observation, &after.observation);
        let entry = then.entries().zip(now.entries()).find(touched);
        let touched =
            |(then, now): &(&Directory, &Directory)| then.own_fingerprint != now.own_fingerprint;
        let directory = then.directories.iter().zip(&now.directories).find(touched);
        let entry = entry.or(directory.map(|(then, now)| (&then.entry, &now.entry)));
        Some(Reason::Touched {
            path: entry?.0.name.clone(),
        })
    }

    /// The reasons why it is stale, but for those that would stay whatever is done: what cannot be read now, and could not be
    /// then, for the same cause.
    pub(crate) fn news(&self, now: &Inputs) -> Vec<Reason> {
        let stays = |subject: &Subject| {
            let both = self
                .observation
                .entry(subject)
                .zip(now.observation.entry(subject));
            both.is_some_and(|(then, now)| {
                then.is_unreadable()
                    && then.content.get() == now.content.get()
                    && then.fingerprint == now.fingerprint
            })
        };
        let mut reasons = self.judge(now).reasons().to_vec();
        reasons.retain(|reason| match reason {
            Reason::Unknown { subject, .. } => !stays(subject),
            _ => true,
        });
        reasons
    }

    /// One of the same contents that spares later looks a reading, for one that was found to hold by the inputs of `now`.
    /// `None` where there is nothing to spare, or where something changed while it was read.
    pub(crate) fn completed(&self, profile: &Profile, now: &Inputs) -> Option<Witness> {
        (self.lacks_contents() || self.can_learn_from(now)).then_some(())?;
        now.trust(&self.observation);
        let witness = now.witness();
        let again = Inputs::of(profile, Some(&witness.observation)).ok()?;
        witness.disturbed(&again).is_none().then_some(witness)
    }

    /// Whether something in it was not read (see `Inputs::outline`).
    fn lacks_contents(&self) -> bool {
        let mut entries = self.observation.entries();
        entries.any(|entry| entry.content.get().is_none())
    }

    /// Whether inputs that this witness was found fresh by know better stat identities for the same contents.
    pub(crate) fn can_learn_from(&self, now: &Inputs) -> bool {
        let (then, now) = (&self.observation, &now.observation);
        let better = |(then, now): (&Entry, &Entry)| now.is_evidence && !is_same(then, now);
        let directories = then.directories.iter().zip(&now.directories);
        let mut directories = directories.map(|(then, now)| (&then.entry, &now.entry));
        then.entries().zip(now.entries()).any(better)
            || directories.any(better)
            || now
                .searched
                .iter()
                .any(|searched| !then.searched.contains(searched))
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Lines { f, count: 0 };
        let observation = &self.observation;
        writeln!(lines, "modstamp-witness {VERSION} {}", observation.profile)?;
        for (owner, state) in [
            (Owner::System, observation.stamps.system),
            (Owner::User, observation.stamps.user),
        ] {
            match state {
                StampState::Absent => writeln!(lines, "stamp {owner} -")?,
                StampState::At(mtime) => writeln!(lines, "stamp {owner} {mtime}")?,
                StampState::Unreadable => writeln!(lines, "stamp {owner} !")?,
            }
        }
        for (name, value) in &observation.variables {
            match value {
                None => writeln!(lines, "variable {name} -")?,
                Some(value) => writeln!(lines, "variable {name} ={}", Escaped(value))?,
            }
        }
        for directory in &observation.directories {
            write_entry(&mut lines, "directory", &directory.entry)?;
            if directory.own_fingerprint != 0 {
                writeln!(lines, "own {:016x}", directory.own_fingerprint)?;
            }
            for module in directory.modules.iter() {
                write_entry(&mut lines, "module", module)?;
            }
        }
        for (what, entries) in [
            ("program", &observation.programs),
            ("file", &observation.files),
            ("command", &observation.commands),
        ] {
            for entry in entries {
                write_entry(&mut lines, what, entry)?;
            }
        }
        for (path, fingerprint) in &observation.searched {
            let path = Escaped(path.as_os_str());
            writeln!(lines, "searched {fingerprint:016x} {path}")?;
        }
        let count = lines.count;
        writeln!(lines, "end {count}")
    }
}

/// Counts the lines that go through it.
struct Lines<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    count: usize,
}

impl fmt::Write for Lines<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.count += text.bytes().filter(|byte| *byte == b'\n').count();
        self.f.write_str(text)
    }
}

fn write_entry(f: &mut Lines, what: &str, entry: &Entry) -> fmt::Result {
    let Entry {
        mode,
        uid,
        gid,
        size,
        ..
    } = entry;
    write!(f, "{what} {mode:o} {uid}:{gid} {size} ")?;
    match (entry.is_evidence, entry.fingerprint) {
        (true, fingerprint) => write!(f, "{fingerprint:016x} ")?,
        (false, 0) => f.write_str("- ")?,
        (false, fingerprint) => write!(f, "~{fingerprint:016x} ")?,
    }
    match entry.content.get() {
        Some(Content::Digest(digest)) => {
            digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Some(Content::Nothing) => f.write_char('-')?,
        Some(Content::Unreadable(errno)) => write!(f, "!{errno}")?,
        None => f.write_char('?')?,
    }
    writeln!(f, " {}", Escaped(entry.name.as_os_str()))
}

impl FromStr for Witness {
    type Err = Error;

    /// Reads a witness of this version or an earlier one.
    ///
    /// # Errors
    /// Where it is empty, cut off, of a later version, or not a witness: [`Error::Witness`] says which.
    fn from_str(text: &str) -> Result<Witness> {
        let mut observation = Observation {
            profile: head(text)?.to_owned(),
            stamps: Stamps::default(),
            variables: Vec::new(),
            directories: Vec::new(),
            programs: Vec::new(),
            files: Vec::new(),
            searched: Vec::new(),
            commands: Vec::new(),
        };
        for (number, line) in text.lines().enumerate().skip(1) {
            if let Some(count) = line.strip_prefix("end ") {
                if !text.ends_with('\n') {
                    return Err(Error::Witness("its last line is cut off".to_owned()));
                }
                if count.parse() == Ok(number) && text.lines().count() == number + 1 {
                    return Ok(Witness { observation });
                }
                return Err(Error::Witness(format!(
                    "its last line counts {count} lines before it, and there are {number}"
                )));
            }
            parse_line(line, &mut observation).ok_or_else(|| {
                let start: String = line.chars().take(60).collect();
                let start = Printable(start.as_ref());
                Error::Witness(format!("line {} is “{start}”", number + 1))
            })?;
        }
        Err(Error::Witness(
            "it is cut off: its last line is missing".to_owned(),
        ))
    }
}

/// Reads the first line; returns the profile's name.
fn head(text: &str) -> Result<&str> {
    if text.is_empty() {
        return Err(Error::Witness("it is empty".to_owned()));
    }
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split(' ');
    if words.next() != Some("modstamp-witness") {
        return Err(Error::Witness(
            "it does not begin with “modstamp-witness”".to_owned(),
        ));
    }
    let (Some(version), Some(profile), None) = (words.next(), words.next(), words.next()) else {
        return Err(Error::Witness("its first line is cut off".to_owned()));
    };
    match version.parse::<u32>() {
        Ok(VERSION) => Ok(profile),
        Ok(newer) if newer > VERSION => Err(Error::Witness(format!(
            "it is of version {newer}, and this modstamp reads versions up to {VERSION}"
        ))),
        _ => Err(Error::Witness(format!("“{version}” is not a version"))),
    }
}

fn parse_line(line: &str, observation: &mut Observation) -> Option<()> {
    let (what, rest) = line.split_once(' ')?;
    match what {
        "stamp" => {
            let (owner, state) = rest.split_once(' ')?;
            let owner = match owner {
                "system" => Owner::System,
                "user" => Owner::User,
                _ => return None,
            };
            let state = match state {
                "-" => StampState::Absent,
                "!" => StampState::Unreadable,
                mtime => StampState::At(mtime.parse().ok()?),
            };
            *observation.stamps.of_mut(owner) = state;
        }
        "variable" => {
            let (name, value) = rest.split_once(' ')?;
            let value = match value.strip_prefix('=') {
                Some(value) => Some(unescape(value)?),
                None if value == "-" => None,
                None => return None,
            };
            observation.variables.push((name.to_owned(), value));
        }
        "directory" => observation.directories.push(Directory {
            entry: parse_entry(rest)?,
            own_fingerprint: 0,
            modules: Arc::default(),
        }),
        "own" => {
            let own = u64::from_str_radix(rest, 16).ok()?;
            observation.directories.last_mut()?.own_fingerprint = own;
        }
        "module" => {
            let (directory, module) = (observation.directories.last_mut()?, parse_entry(rest)?);
            directory.entry.is_evidence &= !module.is_unreadable();
            Arc::get_mut(&mut directory.modules)?.push(module);
        }
        "program" => observation.programs.push(parse_entry(rest)?),
        "file" => observation.files.push(parse_entry(rest)?),
        "searched" => {
            let (fingerprint, path) = rest.split_once(' ')?;
            let fingerprint = u64::from_str_radix(fingerprint, 16).ok()?;
            observation
                .searched
                .push((PathBuf::from(unescape(path)?), fingerprint));
        }
        "command" => observation.commands.push(parse_entry(rest)?),
        _ => return None,
    }
    Some(())
}

fn parse_entry(rest: &str) -> Option<Entry> {
    let mut words = rest.splitn(6, ' ');
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let (uid, gid) = words.next()?.split_once(':')?;
    let size = words.next()?.parse().ok()?;
    let (fingerprint, is_evidence) = match words.next()? {
        "-" => (0, false),
        word => match word.strip_prefix('~') {
            Some(digits) => (u64::from_str_radix(digits, 16).ok()?, false),
            None => (u64::from_str_radix(word, 16).ok()?, true),
        },
    };
    let content = match words.next()? {
        "-" => Some(Content::Nothing),
        "?" => None,
        word => Some(match word.strip_prefix('!') {
            Some(errno) => Content::Unreadable(errno.parse().ok()?),
            None => Content::Digest(u128::from_str_radix(word, 16).ok()?.to_be_bytes()),
        }),
    };
    Some(Entry {
        name: PathBuf::from(unescape(words.next()?)?),
        mode,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        size,
        fingerprint,
        is_evidence,
        content: content.map_or_else(OnceLock::new, OnceLock::from),
    })
}

impl From<Witness> for String {
    fn from(witness: Witness) -> String {
        witness.to_string()
    }
}

impl TryFrom<String> for Witness {
    type Error = Error;

    fn try_from(text: String) -> Result<Witness> {
        text.parse()
    }
}
