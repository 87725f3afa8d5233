//! A stored answer: one file with the answer and the witness that was taken before its probe.
//!
//! ```text
//! modstamp-cache 3 QUESTION-BYTES WITNESS-BYTES STDOUT-BYTES STDERR-BYTES
//! the question
//! the witness, the standard output and the standard error, one after the other
//! the checksum of all bytes before it
//! ```
//!
//! The checksum is for damage by disks and tools. It keeps nobody from writing a false answer.
//!
//! A function's answer takes the place of the standard output. The head is written by hand: it is
//! four numbers, and no format that the library has for serde is as quick to read.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3;

use crate::judge::witness::Witness;

/// An answer's first bytes, in every version.
const MAGIC: &str = "modstamp-cache ";

/// The version that is written, and the only one that is read. Another one costs a probe.
const VERSION: &str = "3";

/// The most bytes of the first read. Most answers fit, and take no second read.
const FIRST_READ: u64 = 64 * 1024;

/// More than the head's words and numbers can take.
const LONGEST_HEAD: usize = 128;

/// A command line may be long (`getconf ARG_MAX`), and escaping makes four bytes of one.
const LONGEST_QUESTION: u64 = 32 << 20;

/// A witness has some 100 bytes an entry: nothing longer is one.
const LONGEST_WITNESS: u64 = 1 << 30;

/// The checksum has 16 hexadecimal digits, and ends a line.
const CHECKSUM_LENGTH: u64 = 17;

/// An answer is passed on in pieces of this size.
const PIECE: usize = 64 * 1024;

/// An answer of this version, open for reading.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) question: String,
    pub(crate) witness: Witness,
    file: File,
    /// All bytes of the file. Empty if the file is too long for the first read.
    all: Vec<u8>,
    stdout: Range<u64>,
    stderr: Range<u64>,
}

/// The contents of a file that has an answer's name.
pub(crate) enum Contents {
    /// A whole answer.
    Answer(Box<Stored>),
    /// An answer that cannot be used. The text continues "the answer in FILE …".
    Useless(String),
    /// Something else than an answer.
    Foreign,
}

/// The bytes of an answer, for writing and for passing on.
pub(crate) struct Parts<'a> {
    pub(crate) stdout: Part<'a>,
    pub(crate) stderr: Part<'a>,
}

/// Bytes in memory or in a file.
pub(crate) enum Part<'a> {
    Bytes(&'a [u8]),
    File(&'a File, Range<u64>),
}

impl Stored {
    /// Reads all but the answer's bytes from a file of `size` bytes.
    pub(crate) fn read(file: File, size: u64) -> io::Result<Contents> {
        let mut bytes = Vec::new();
        read_to(&file, &mut bytes, size.min(FIRST_READ))?;
        if !bytes.starts_with(MAGIC.as_bytes()) {
            return Ok(Contents::Foreign);
        }
        let cut_off = || Ok(Contents::Useless("is cut off".to_owned()));
        let Some(head) = first_line(&bytes) else {
            return cut_off();
        };
        let (version, numbers) = head.split_once(' ').unwrap_or((head, ""));
        if version != VERSION {
            let problem = "is of another version of modstamp";
            return Ok(Contents::Useless(problem.to_owned()));
        }
        let Some(places) = places(numbers, MAGIC.len() + head.len() + 1) else {
            return cut_off();
        };
        let [question, witness, stdout, stderr] = places;
        if stderr.end.checked_add(CHECKSUM_LENGTH) != Some(size) {
            return cut_off();
        }
        read_to(&file, &mut bytes, witness.end)?;
        let part = |place: Range<u64>| bytes.get(place.start as usize..place.end as usize);
        let (Some(question), Some(witness)) = (part(question), part(witness)) else {
            return cut_off();
        };
        let witness = match Witness::from_bytes(witness) {
            Ok(witness) => witness,
            Err(error) => return Ok(Contents::Useless(format!("cannot be used: {error}"))),
        };
        let question = String::from_utf8_lossy(question).trim_end().to_owned();
        if size > FIRST_READ {
            bytes = Vec::new();
        }
        let stored = Stored {
            question,
            witness,
            file,
            all: bytes,
            stdout,
            stderr,
        };
        if !stored.is_undamaged()? {
            let problem = "is damaged: its checksum is another";
            return Ok(Contents::Useless(problem.to_owned()));
        }
        Ok(Contents::Answer(Box::new(stored)))
    }

    /// Whether the checksum at the end is that of all bytes before it.
    fn is_undamaged(&self) -> io::Result<bool> {
        let mut sum = Xxh3::new();
        self.part(&(0..self.stderr.end)).pass_on(|bytes| {
            sum.update(bytes);
            Ok(())
        })?;
        let end = self.stderr.end;
        let mut stored = Vec::new();
        self.part(&(end..end + CHECKSUM_LENGTH)).pass_on(|bytes| {
            stored.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(stored == checksum(&sum).as_bytes())
    }

    fn part(&self, range: &Range<u64>) -> Part<'_> {
        let read = self.all.get(range.start as usize..range.end as usize);
        read.map_or_else(|| Part::File(&self.file, range.clone()), Part::Bytes)
    }

    /// Whether a file holds an answer of any version, or the beginning of one.
    pub(crate) fn is_in(file: &File) -> io::Result<bool> {
        let mut bytes = [0; MAGIC.len()];
        let length = file.read_at(&mut bytes, 0)?;
        Ok(&bytes[..length] == MAGIC.as_bytes())
    }

    /// Writes an answer into an empty file.
    pub(crate) fn write(
        file: impl AsFd,
        question: &str,
        witness: &Witness,
        parts: &Parts,
    ) -> io::Result<()> {
        let witness = witness.to_string();
        let lengths = [
            question.len() as u64 + 1,
            witness.len() as u64,
            parts.stdout.length(),
            parts.stderr.length(),
        ];
        let lengths = lengths.map(|length| length.to_string()).join(" ");
        let mut out = Summed {
            file: file.as_fd(),
            sum: Xxh3::new(),
        };
        write!(out, "{MAGIC}{VERSION} {lengths}\n{question}\n{witness}")?;
        parts.stdout.pass_on(|bytes| out.write_all(bytes))?;
        parts.stderr.pass_on(|bytes| out.write_all(bytes))?;
        let sum = checksum(&out.sum);
        out.write_all(sum.as_bytes())
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            stdout: self.part(&self.stdout),
            stderr: self.part(&self.stderr),
        }
    }

    /// Reads the answer of a function.
    pub(crate) fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.parts().stdout.pass_on(|piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// A file that is written, and the checksum of what was written.
struct Summed<'a> {
    file: BorrowedFd<'a>,
    sum: Xxh3,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = rustix::io::write(self.file, bytes)?;
        self.sum.update(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn checksum(sum: &Xxh3) -> String {
    format!("{:016x}\n", sum.digest())
}

impl Part<'_> {
    fn length(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File(_, range) => range.end - range.start,
        }
    }

    /// Calls `each` with every piece. A file that became shorter is an error.
    pub(crate) fn pass_on(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let (file, range) = match self {
            Part::Bytes([]) => return Ok(()),
            Part::Bytes(bytes) => return each(bytes),
            Part::File(file, range) => (file, range),
        };
        let mut at = range.start;
        let mut buffer = vec![0; PIECE.min((range.end - range.start) as usize)];
        while at < range.end {
            let length = buffer.len().min((range.end - at) as usize);
            file.read_exact_at(&mut buffer[..length], at)?;
            each(&buffer[..length])?;
            at += length as u64;
        }
        Ok(())
    }
}

/// The places of the question, the witness, the standard output and the standard error in a file.
///
/// `numbers` are their lengths. `start` is the length of the head in front of them.
fn places(numbers: &str, start: usize) -> Option<[Range<u64>; 4]> {
    let mut lengths = numbers.split(' ').map(|number| number.parse().ok());
    let mut at = start as u64;
    let mut next = |most: u64| -> Option<Range<u64>> {
        let length = lengths.next()?.filter(|length| *length <= most)?;
        let place = at..at.checked_add(length)?;
        at = place.end;
        Some(place)
    };
    Some([
        next(LONGEST_QUESTION)?,
        next(LONGEST_WITNESS)?,
        next(u64::MAX)?,
        next(u64::MAX)?,
    ])
}

/// The first line behind the magic, if it is whole.
fn first_line(bytes: &[u8]) -> Option<&str> {
    let bytes = &bytes[..bytes.len().min(LONGEST_HEAD)];
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    std::str::from_utf8(&bytes[..end]).ok()?.strip_prefix(MAGIC)
}

/// Reads on until `bytes` has `length` bytes, or all of a shorter file.
fn read_to(file: &File, bytes: &mut Vec<u8>, length: u64) -> io::Result<()> {
    let mut at = bytes.len();
    bytes.resize(at.max(length as usize), 0);
    while at < bytes.len() {
        match rustix::io::pread(file, &mut bytes[at..], at as u64) {
            Ok(0) => bytes.truncate(at),
            Ok(more) => at += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
