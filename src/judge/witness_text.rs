//! The text of a witness: one line an input, so that two of them can be read as a diff.
//!
//! ```text
//! modstamp-witness 2 qemu
//! named directory /usr/lib64/qemu
//! named program /usr/bin/qemu-system-*
//! stamp system 1700000000.123456789
//! stamp user -
//! variable QEMU_MODULE_DIR -
//! host kernel =6.12.9\x20#1\x20SMP
//! host cpu =AMD\x20EPYC,\x20digest\x20c1f7a05e2b9d3846
//! processor 5a3d0f7b1c9e8246
//! directory 40755 0:0 0 c1f7a05e2b9d3846 - /usr/lib64/qemu
//! own 4b1d7e6c9f20a835
//! module 100755 0:0 101128 6cfb0e4f6d9a7b1c 0f3e…(32 digits) hw-display-qxl.so
//! program 100755 0:0 18397984 a2d4c0b39e5f1807 51aa… /usr/bin/qemu-system-x86_64
//! searched 95d4c1aa03b7e6f2 /usr/bin/qemu-system-*
//! libraries 0d9be2174c3f86a5
//! library 100644 0:0 1234 7f3a90b1c2d4e5f6 99ab… /usr/lib64/libspice-server.so.1
//! needed-by /usr/lib64/qemu/hw-display-qxl.so
//! missing libcacard.so.0
//! needed-by /usr/lib64/qemu/hw-usb-smartcard.so
//! no-json /usr/share/vulkan/icd.d/torn.json
//! looked 83c0d1e2f3a4b596 /etc/ld.so.cache
//! end 21
//! ```
//!
//! The columns of an input:
//!
//! 1. What it is.
//! 2. Type and permissions, in octal.
//! 3. Owner and group.
//! 4. Size in bytes.
//! 5. The fingerprint of its stat identity; for a module directory, the sum of its entries'
//!    fingerprints. A leading `~` means that an equal one proves nothing. `-` says that there is
//!    none.
//! 6. The digest of its content, and of its ACL and capabilities if it has any. `-` says that there
//!    is nothing to read, and `?` that nobody read it. `!` and a number is the error of a failed
//!    look or read.
//! 7. Its name; a module's is relative to the last directory. Bytes that are not printable are `\x`
//!    and two digits.
//!
//! A witness of one program has a line `of` with its path. A consumer's text is in a line `tag`. A
//! witness without variables and host inputs has a line `scope packages`. `named` is an item of the
//! profile, with the list that holds it. Version 2 added these four lines. It also added `host`,
//! `processor`, and `libraries` with the lines after it. While `processor` is the same, so is the
//! `cpu` of `host`, and nobody has to look at that.
//!
//! `own` is the fingerprint of the directory itself, for [`Witness::disturbed`] alone: a redeploy
//! moves it, too. `searched` has a pattern, and a fingerprint of the directory that it was searched
//! in and of the names that it matched. The last line counts all lines before it.
//!
//! `libraries` says that libraries were looked for, and has a hash of which need leads to which of
//! them. `missing` is a needed name that leads to none. `needed-by` is one file that needs the
//! library in the line before. `no-json` is a manifest that is no JSON.
//! `looked` is another path that the look depends on. While its fingerprint is the same, no other
//! look is needed.
//!
//! [`Witness::disturbed`]: crate::judge::witness::Witness::disturbed

use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ground::error::{Error, Result};
use crate::ground::text::{Escaped, Printable, unescape};
use crate::observe::content::Content;
use crate::observe::directory::{Directory, DirectoryState, Modules};
use crate::observe::entry::{Entry, Rights};
use crate::observe::evidence::Identity;
use crate::observe::fact::{Fact, Scope, Value};
use crate::observe::item::Item;
use crate::observe::libraries::{Libraries, Looked};
use crate::observe::observation::{Observation, Searched};
use crate::observe::stamps::StampState;
use crate::stamp::stamp::Owner;

/// The version of the text that is written. Every earlier one is read, too.
const VERSION: u32 = 2;

pub(crate) fn write(f: &mut fmt::Formatter<'_>, observation: &Observation) -> fmt::Result {
    let mut lines = Lines { f, count: 0 };
    writeln!(lines, "modstamp-witness {VERSION} {}", observation.profile)?;
    if observation.scope == Scope::Packages {
        writeln!(lines, "scope packages")?;
    }
    if let Some(tag) = &observation.tag {
        writeln!(lines, "tag {}", Escaped(tag.as_ref()))?;
    }
    if let Some(program) = &observation.program {
        writeln!(lines, "of {}", Escaped(program.as_os_str()))?;
    }
    for item in &observation.items {
        let text = Escaped(item.text.as_ref());
        writeln!(lines, "named {} {text}", item.word())?;
    }
    write_stamp(&mut lines, Owner::System, observation.stamps.system)?;
    write_stamp(&mut lines, Owner::User, observation.stamps.user)?;
    for (what, facts) in [
        ("variable", &observation.variables),
        ("host", &observation.host.facts),
    ] {
        for fact in facts {
            write_fact(&mut lines, what, fact)?;
        }
    }
    if let Some(fingerprint) = observation.host.processor {
        writeln!(lines, "processor {fingerprint:016x}")?;
    }
    for directory in &observation.directories {
        write_directory(&mut lines, directory)?;
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
    for searched in &observation.searched {
        let pattern = Escaped(searched.pattern.as_os_str());
        writeln!(lines, "searched {:016x} {pattern}", searched.fingerprint)?;
    }
    if let Some(libraries) = &observation.libraries {
        write_libraries(&mut lines, libraries)?;
    }
    let count = lines.count;
    writeln!(lines, "end {count}")
}

/// Counts the lines that are written through it.
struct Lines<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    count: usize,
}

impl fmt::Write for Lines<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Neither a name nor another part of a line contains a line's end.
        self.count += usize::from(text.ends_with('\n'));
        self.f.write_str(text)
    }
}

fn write_stamp(lines: &mut Lines, owner: Owner, state: StampState) -> fmt::Result {
    match state {
        StampState::Absent => writeln!(lines, "stamp {owner} -"),
        StampState::At(mtime) => writeln!(lines, "stamp {owner} {mtime}"),
        StampState::Unreadable => writeln!(lines, "stamp {owner} !"),
    }
}

fn write_fact(lines: &mut Lines, what: &str, fact: &Fact) -> fmt::Result {
    write!(lines, "{what} {} ", Escaped(fact.name.as_ref()))?;
    match &fact.value {
        Value::Absent => writeln!(lines, "-"),
        Value::Text(text) => writeln!(lines, "={}", Escaped(text)),
        Value::Unreadable(errno) => writeln!(lines, "!{errno}"),
    }
}

fn write_directory(lines: &mut Lines, directory: &Directory) -> fmt::Result {
    let line = Entry {
        name: directory.name.clone(),
        rights: directory.rights,
        size: 0,
        identity: directory
            .sum()
            .map_or(Identity::Unknown, Identity::Evidence),
        content: directory.content(),
    };
    write_entry(lines, "directory", &line)?;
    if let Some(own) = directory.own() {
        writeln!(lines, "own {own:016x}")?;
    }
    for module in directory.entries() {
        write_entry(lines, "module", module)?;
    }
    Ok(())
}

fn write_libraries(lines: &mut Lines, libraries: &Libraries) -> fmt::Result {
    let write_needer = |lines: &mut Lines, name: &Path| match libraries.needer_of(name) {
        Some(needer) => writeln!(lines, "needed-by {}", Escaped(needer.as_os_str())),
        None => Ok(()),
    };
    writeln!(lines, "libraries {:016x}", libraries.links)?;
    for entry in &libraries.entries {
        write_entry(lines, "library", entry)?;
        write_needer(lines, &entry.name)?;
    }
    for name in &libraries.missing {
        writeln!(lines, "missing {}", Escaped(name.as_os_str()))?;
        write_needer(lines, name)?;
    }
    for path in &libraries.no_json {
        writeln!(lines, "no-json {}", Escaped(path.as_os_str()))?;
    }
    for Looked { path, identity } in &libraries.looked {
        lines.write_str("looked ")?;
        write_identity(lines, *identity)?;
        writeln!(lines, " {}", Escaped(path.as_os_str()))?;
    }
    Ok(())
}

fn write_identity(lines: &mut Lines, identity: Identity) -> fmt::Result {
    match identity {
        Identity::Evidence(fingerprint) => write!(lines, "{fingerprint:016x}"),
        Identity::Seen(fingerprint) => write!(lines, "~{fingerprint:016x}"),
        Identity::Unknown => lines.write_char('-'),
    }
}

fn write_entry(lines: &mut Lines, what: &str, entry: &Entry) -> fmt::Result {
    let Rights { mode, uid, gid } = entry.rights;
    write!(lines, "{what} {mode:o} {uid}:{gid} {} ", entry.size)?;
    write_identity(lines, entry.identity)?;
    lines.write_char(' ')?;
    match entry.content {
        Content::Digest(digest) => write!(lines, "{:032x}", u128::from_be_bytes(digest))?,
        Content::Nothing => lines.write_char('-')?,
        Content::Unreadable(errno) => write!(lines, "!{errno}")?,
        Content::Unread => lines.write_char('?')?,
    }
    writeln!(lines, " {}", Escaped(entry.name.as_os_str()))
}

/// Reads the text of this version or an earlier one.
pub(crate) fn parse(text: &str) -> Result<Observation> {
    let mut observation = Observation {
        profile: parse_head(text)?.to_owned(),
        ..Observation::default()
    };
    let mut lines = text.lines().enumerate().skip(1);
    while let Some((number, line)) = lines.next() {
        let Some(count) = line.strip_prefix("end ") else {
            parse_line(line, &mut observation).ok_or_else(|| {
                let start: String = line.chars().take(60).collect();
                let start = Printable(start.as_ref());
                wrong(format!("line {} is “{start}”", number + 1))
            })?;
            continue;
        };
        if !text.ends_with('\n') {
            return Err(wrong("its last line is cut off"));
        }
        if count.parse() != Ok(number) || lines.next().is_some() {
            return Err(wrong(format!(
                "its last line counts {count} lines before it, and there are {number}"
            )));
        }
        return Ok(with_honest_sums(observation));
    }
    Err(wrong("it is cut off: its last line is missing"))
}

fn wrong(problem: impl Into<String>) -> Error {
    Error::Witness(problem.into())
}

/// Reads the first line, and returns the profile's name.
fn parse_head(text: &str) -> Result<&str> {
    if text.is_empty() {
        return Err(wrong("it is empty"));
    }
    let first = text.lines().next().unwrap_or_default();
    let mut words = first.split(' ');
    if words.next() != Some("modstamp-witness") {
        return Err(wrong("it does not begin with “modstamp-witness”"));
    }
    let (Some(version), Some(profile), None) = (words.next(), words.next(), words.next()) else {
        return Err(wrong("its first line is cut off"));
    };
    match version.parse::<u32>() {
        Ok(1..=VERSION) => Ok(profile),
        Ok(newer) if newer > VERSION => Err(wrong(format!(
            "it is of version {newer}, and this modstamp reads versions up to {VERSION}"
        ))),
        _ => Err(wrong(format!("“{version}” is not a version"))),
    }
}

/// The first word of a line, and the rest after the space. For such short words, this loop is
/// quicker than a search by `str`.
fn first_word(line: &str) -> Option<(&str, &str)> {
    let space = line.bytes().position(|byte| byte == b' ')?;
    Some((&line[..space], &line[space + 1..]))
}

/// Adds the input of one line. `None` if it is no line of a witness.
fn parse_line(line: &str, observation: &mut Observation) -> Option<()> {
    let (what, rest) = first_word(line)?;
    match what {
        "stamp" => {
            let (owner, state) = parse_stamp(rest)?;
            *observation.stamps.of_mut(owner) = state;
        }
        "scope" => observation.scope = (rest == "packages").then_some(Scope::Packages)?,
        "tag" => observation.tag = Some(unescape(rest)?.into_string().ok()?),
        "of" => observation.program = Some(PathBuf::from(unescape(rest)?)),
        "named" => {
            let (word, text) = rest.split_once(' ')?;
            let text = unescape(text)?.into_string().ok()?;
            observation.items.push(Item::of_word(word, text)?);
        }
        "variable" => observation.variables.push(parse_fact(rest)?),
        "host" => observation.host.facts.push(parse_fact(rest)?),
        "processor" => {
            let fingerprint = u64::from_str_radix(rest, 16).ok()?;
            observation.host.processor = Some(fingerprint);
        }
        "directory" => observation.directories.push(parse_directory(rest)?),
        "own" => {
            let own = u64::from_str_radix(rest, 16).ok()?;
            last_modules(observation)?.own = Some(own);
        }
        "module" => {
            let module = parse_entry(rest)?;
            Arc::get_mut(&mut last_modules(observation)?.entries)?.push(module);
        }
        "program" => observation.programs.push(parse_entry(rest)?),
        "file" => observation.files.push(parse_entry(rest)?),
        "command" => observation.commands.push(parse_entry(rest)?),
        "searched" => {
            let (fingerprint, pattern) = rest.split_once(' ')?;
            observation.searched.push(Searched {
                pattern: PathBuf::from(unescape(pattern)?),
                fingerprint: u64::from_str_radix(fingerprint, 16).ok()?,
            });
        }
        "libraries" => {
            let links = u64::from_str_radix(rest, 16).ok()?;
            let first = Libraries {
                links,
                ..Libraries::default()
            };
            observation.libraries.is_none().then_some(())?;
            observation.libraries = Some(first);
        }
        _ => parse_library(what, rest, observation.libraries.as_mut()?)?,
    }
    Some(())
}

fn parse_library(what: &str, rest: &str, libraries: &mut Libraries) -> Option<()> {
    match what {
        "library" => libraries.entries.push(parse_entry(rest)?),
        "missing" => libraries.missing.push(PathBuf::from(unescape(rest)?)),
        "no-json" => libraries.no_json.push(PathBuf::from(unescape(rest)?)),
        "needed-by" => {
            let library = libraries.entries.last().map(|entry| &entry.name);
            let name = libraries.missing.last().or(library)?.clone();
            let needer = PathBuf::from(unescape(rest)?);
            libraries.needed_by.insert(name, needer);
        }
        "looked" => {
            let (identity, path) = rest.split_once(' ')?;
            libraries.looked.push(Looked {
                path: PathBuf::from(unescape(path)?),
                identity: parse_identity(identity)?,
            });
        }
        _ => return None,
    }
    Some(())
}

fn parse_stamp(rest: &str) -> Option<(Owner, StampState)> {
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
    Some((owner, state))
}

fn parse_fact(rest: &str) -> Option<Fact> {
    let (name, value) = rest.split_once(' ')?;
    let value = match value.split_at_checked(1)? {
        ("=", text) => Value::Text(unescape(text)?),
        ("!", errno) => Value::Unreadable(errno.parse().ok()?),
        ("-", "") => Value::Absent,
        _ => return None,
    };
    let name = unescape(name)?.into_string().ok()?;
    Some(Fact { name, value })
}

fn parse_directory(rest: &str) -> Option<Directory> {
    let line = parse_entry(rest)?;
    let state = match line.content {
        Content::Digest(digest) => DirectoryState::Alias(digest),
        Content::Unreadable(errno) => DirectoryState::Unreadable(errno),
        Content::Nothing => DirectoryState::Walked(Modules {
            sum: line.identity.evidence(),
            own: None,
            entries: Arc::default(),
        }),
        Content::Unread => return None,
    };
    Some(Directory {
        name: line.name,
        rights: line.rights,
        state,
    })
}

/// What is in the last directory, if it was walked.
fn last_modules(observation: &mut Observation) -> Option<&mut Modules> {
    match &mut observation.directories.last_mut()?.state {
        DirectoryState::Walked(modules) => Some(modules),
        DirectoryState::Alias(_) | DirectoryState::Unreadable(_) => None,
    }
}

fn parse_entry(rest: &str) -> Option<Entry> {
    let (mode, rest) = first_word(rest)?;
    let (owner, rest) = first_word(rest)?;
    let (size, rest) = first_word(rest)?;
    let (identity, rest) = first_word(rest)?;
    let (content, name) = first_word(rest)?;
    let mode = u32::from_str_radix(mode, 8).ok()?;
    let (uid, gid) = owner.split_once(':')?;
    let rights = Rights {
        mode,
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
    };
    let content = match content {
        // Earlier versions did not look at the numbers of devices.
        "-" if rights.is_device() => Content::Unread,
        "-" => Content::Nothing,
        // Earlier versions wrote `?` for directories and devices, too.
        "?" if rights.file_type().is_dir() => Content::Nothing,
        "?" => Content::unread(rights.file_type()),
        word => match word.strip_prefix('!') {
            Some(errno) => Content::Unreadable(errno.parse().ok()?),
            None => Content::Digest(parse_digest(word)?),
        },
    };
    Some(Entry {
        name: PathBuf::from(unescape(name)?),
        rights,
        size: size.parse().ok()?,
        identity: parse_identity(identity)?,
        content,
    })
}

/// Reads 32 hexadecimal digits, in halves: arithmetic with 128 bits is slow.
fn parse_digest(word: &str) -> Option<[u8; 16]> {
    let (high, low) = word.split_at_checked(16)?;
    let half = |digits| u64::from_str_radix(digits, 16).map(u128::from).ok();
    (low.len() == 16).then_some(())?;
    Some((half(high)? << 64 | half(low)?).to_be_bytes())
}

fn parse_identity(word: &str) -> Option<Identity> {
    let number = |digits| u64::from_str_radix(digits, 16).ok();
    Some(match word {
        "-" => Identity::Unknown,
        word => match word.strip_prefix('~') {
            Some(digits) => Identity::Seen(number(digits)?),
            None => Identity::Evidence(number(word)?),
        },
    })
}

fn with_honest_sums(mut observation: Observation) -> Observation {
    for directory in &mut observation.directories {
        if let DirectoryState::Walked(modules) = &mut directory.state {
            modules.keep_sum_honest();
        }
    }
    observation
}
