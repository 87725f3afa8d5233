//! Reads the program and the times in a cache file, which tell when libvirt probed. The rest of the
//! file does not count.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use quick_xml::events::{BytesRef, Event};
use serde::{Serialize, Serializer};

use crate::act::libvirt::kind::Kind;
use crate::ground::text::{Sentence, path_text};

/// No path is longer (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

/// libvirt's own elements are a few levels deep.
const MOST_LEVELS: usize = 64;

/// The program and the times that libvirt noted down about a probe.
///
/// libvirt takes them before it probes QEMU (`virQEMUCapsNewForBinaryInternal`), and also after it
/// probed nbdkit (`qemuNbdkitCapsQuery`).
///
/// With serde it is data. A byte of a path that is not UTF-8 stands as U+FFFD there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// The program that was probed.
    #[serde(serialize_with = "path_text")]
    pub program: PathBuf,
    /// The program's ctime, in whole seconds since 1970.
    pub program_ctime: i64,
    /// The module directories. QEMU's is missing if there was none, and in files of a libvirt
    /// before 6.8.
    pub directories: Vec<RecordedDirectory>,
}

/// The mtime that libvirt noted down of one module directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordedDirectory {
    /// The directory. `None` for QEMU's, whose path is compiled into libvirt's driver.
    #[serde(serialize_with = "optional_path_text")]
    pub path: Option<PathBuf>,
    /// The mtime, in whole seconds since 1970. libvirt writes 0 for nbdkit's if there was none.
    pub mtime: i64,
}

fn optional_path_text<S: Serializer>(path: &Option<PathBuf>, out: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path_text(path, out),
        None => out.serialize_none(),
    }
}

impl Recorded {
    /// Reads the text of a cache file. The error is a sentence about the file.
    ///
    /// Like libvirt, it takes the first of several elements with one name, and looks at the
    /// children of the root element alone.
    pub(crate) fn parse(kind: &Kind, text: &[u8]) -> Result<Recorded, String> {
        let elements = Elements::read(kind, text)?;
        let mut directories = Vec::new();
        for of_directory in kind.directories {
            let mtime = elements.number(of_directory.mtime)?;
            match of_directory.path {
                Some(path) => directories.push(RecordedDirectory {
                    path: Some(elements.required_path(path)?),
                    mtime: mtime.unwrap_or(0),
                }),
                None => directories.extend(
                    mtime
                        .filter(|mtime| *mtime != 0)
                        .map(|mtime| RecordedDirectory { path: None, mtime }),
                ),
            }
        }
        Ok(Recorded {
            program: elements.required_path(kind.program)?,
            program_ctime: elements
                .number(kind.program_ctime)?
                .ok_or_else(|| missing(kind.program_ctime))?,
            directories,
        })
    }
}

fn missing(name: &str) -> String {
    format!("it has no element “{name}”")
}

/// The elements that count, collected from one event of the XML reader to the next.
struct Elements<'a> {
    kind: &'a Kind,
    /// The names and the texts.
    found: Vec<(Vec<u8>, Vec<u8>)>,
    /// How many elements are open; `None` before the root element begins.
    level: Option<usize>,
    /// Whether the next text belongs to the last element that was found.
    is_open: bool,
}

impl Elements<'_> {
    fn read<'a>(kind: &'a Kind, text: &[u8]) -> Result<Elements<'a>, String> {
        let mut elements = Elements {
            kind,
            found: Vec::new(),
            level: None,
            is_open: false,
        };
        let mut reader = quick_xml::Reader::from_reader(text);
        loop {
            let event = reader.read_event().map_err(|error| {
                let error = error.to_string();
                let error = Sentence(&error);
                format!("it is not XML as libvirt writes it: {error}")
            })?;
            match event {
                Event::Start(start) => elements.begin(start.local_name().as_ref())?,
                Event::Empty(empty) => {
                    elements.begin(empty.local_name().as_ref())?;
                    elements.end();
                }
                Event::End(_) => elements.end(),
                Event::Text(text) => elements.add(&text),
                Event::CData(text) => elements.add(&text),
                Event::GeneralRef(name) => elements.add(character(&name)?.as_bytes()),
                Event::DocType(_) => return Err("it declares a document type".to_owned()),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
                Event::Eof if elements.level == Some(0) => return Ok(elements),
                Event::Eof => return Err("it is cut off".to_owned()),
            }
        }
    }

    fn begin(&mut self, name: &[u8]) -> Result<(), String> {
        let root = self.kind.element;
        let level = match self.level {
            None if name == root.as_bytes() => 1,
            None | Some(0) => return Err(format!("its one element should be “{root}”")),
            Some(MOST_LEVELS) => {
                return Err(format!(
                    "its elements are nested more than {MOST_LEVELS} deep"
                ));
            }
            Some(level) => level + 1,
        };
        self.level = Some(level);
        if level == 2 && self.kind.has(name) && self.get(name).is_none() {
            self.found.push((name.to_owned(), Vec::new()));
            self.is_open = true;
        }
        Ok(())
    }

    fn add(&mut self, text: &[u8]) {
        if let Some((_, known)) = self.found.last_mut().filter(|_| self.is_open) {
            known.extend_from_slice(text);
        }
    }

    fn end(&mut self) {
        let level = self.level.map(|level| level.saturating_sub(1));
        self.is_open &= level > Some(1);
        self.level = level;
    }

    fn get(&self, name: impl AsRef<[u8]>) -> Option<&[u8]> {
        let mut found = self.found.iter();
        let (_, text) = found.find(|(known, _)| known == name.as_ref())?;
        Some(text)
    }

    fn required_path(&self, name: &str) -> Result<PathBuf, String> {
        match self.get(name) {
            None => Err(missing(name)),
            Some(text) if text.len() > LONGEST_PATH => {
                Err(format!("“{name}” is longer than any path"))
            }
            Some(text) if !text.starts_with(b"/") || text.contains(&0) => {
                Err(format!("“{name}” is no absolute path"))
            }
            Some(text) => Ok(PathBuf::from(OsStr::from_bytes(text))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<i64>, String> {
        let parse = |text| std::str::from_utf8(text).ok()?.parse().ok();
        let wrong = || format!("“{name}” is no whole number");
        let number = self.get(name).map(|text| parse(text).ok_or_else(wrong));
        number.transpose()
    }
}

/// One of XML's own entities. Another could stand for anything, of any length.
fn character(name: &BytesRef<'_>) -> Result<String, String> {
    if let Ok(Some(character)) = name.resolve_char_ref() {
        return Ok(character.to_string());
    }
    let name = std::str::from_utf8(name).ok();
    let text = name.and_then(quick_xml::escape::resolve_predefined_entity);
    text.map(str::to_owned)
        .ok_or_else(|| "it has an entity that is not one of XML's own".to_owned())
}
