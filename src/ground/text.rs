//! Text that is safe to show, or to keep in a line: it escapes arbitrary bytes.

use alloc::string::String;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::fmt::Write as _;

use crate::ground::platform::{OsStr, OsStrExt, OsString, OsStringExt, Path, PathBuf, os_str};

/// The longest line that a file keeps for people, in characters.
const LONGEST_LINE: usize = 500;

/// Shows bytes as printable text without spaces. [`unescape`] reverses it.
pub(crate) struct Escaped<'a>(pub(crate) &'a OsStr);

/// Shows a name that somebody else chose, as text that no terminal takes for a command.
///
/// It escapes backslashes, too, so that two names never look alike.
pub(crate) struct Printable<'a>(pub(crate) &'a OsStr);

/// Shows a sentence as text that no terminal takes for a command.
///
/// Backslashes stay: the names in the sentence may be escaped already.
pub struct Sentence<'a>(pub &'a str);

/// Shows a path that somebody else chose, as text that no terminal takes for a command.
pub fn printable(path: &Path) -> impl fmt::Display + '_ {
    Printable(os_str(path))
}

/// Serializes a path as text, for `serialize_with`. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn path_text<S: serde::Serializer>(path: &Path, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&path.display())
}

/// Like [`path_text`]; null if there is no path.
pub(crate) fn optional_path_text<S: serde::Serializer>(
    path: &Option<impl Borrow<PathBuf>>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => path_text(path.borrow(), out),
        None => out.serialize_none(),
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |c| {
            c.is_whitespace() || is_unsafe(c) || c == '\\'
        })
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |c| is_unsafe(c) || c == '\\')
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0.as_ref(), is_unsafe)
    }
}

/// Whether a terminal may take a character for a command, or let it reorder or break a line.
///
/// These are the control characters, the line and paragraph separators, and the characters with the
/// property `Bidi_Control` (Unicode Standard Annex 9).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text as one line of printable characters.
pub(crate) fn one_line(text: &str) -> String {
    let printable = |c: char| if is_unsafe(c) { ' ' } else { c };
    text.chars().take(LONGEST_LINE).map(printable).collect()
}

/// Writes each byte of special characters, and of anything but UTF-8, as `\x` and two digits.
fn escape(
    f: &mut fmt::Formatter<'_>,
    text: &OsStr,
    is_special: fn(char) -> bool, // one copy of this for all, in rpm's small program
) -> fmt::Result {
    let digits = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
        bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
    };
    for chunk in text.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_special(c) {
                true => digits(f, c.encode_utf8(&mut [0; 4]).as_bytes())?,
                false => f.write_char(c)?,
            }
        }
        digits(f, chunk.invalid())?;
    }
    Ok(())
}

/// The bytes that `Escaped` shows as `text`; `None` if there are no such bytes.
pub fn unescape(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let digits = after.strip_prefix('x')?.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[3..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that a terminal may take for a command, from each kind.
    const UNSAFE: [&str; 16] = [
        "\0", "\x1b", "\n", "\t", "\x7f", "\u{80}", "\u{9b}", "\u{9f}", "\u{61c}", "\u{200e}",
        "\u{200f}", "\u{2028}", "\u{2029}", "\u{202e}", "\u{2066}", "\u{2069}",
    ];

    #[test]
    fn no_character_that_a_terminal_obeys_is_shown() {
        for text in UNSAFE {
            let digits: String = text.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            assert_eq!(Printable(text.as_ref()).to_string(), digits);
            assert_eq!(Escaped(text.as_ref()).to_string(), digits);
            assert_eq!(Sentence(text).to_string(), digits);
        }
        for harmless in [
            "a b",
            "é",
            "“日本”",
            "\u{200d}",
            "\u{2027}",
            "\u{202f}",
            "\u{206a}",
        ] {
            assert_eq!(Printable(harmless.as_ref()).to_string(), harmless);
            assert_eq!(Sentence(harmless).to_string(), harmless);
        }
    }

    #[test]
    fn two_names_never_look_alike() {
        let names: [&[u8]; 5] = [b"\\x1b", b"\x1b", b"\\", b"\xff", b"\\xff"];
        let shown = names.map(|name| Printable(OsStr::from_bytes(name)).to_string());
        for (name, shown) in names.iter().zip(&shown) {
            assert_eq!(unescape(shown).unwrap().as_bytes(), *name);
        }
    }

    #[test]
    fn a_sentence_keeps_the_escapes_of_its_names() {
        let name = Printable("\x1b".as_ref()).to_string();
        assert_eq!(Sentence(&name).to_string(), name);
    }
}
