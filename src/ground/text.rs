//! Text that is safe to show, or to keep in a line: it escapes arbitrary bytes.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Shows bytes as printable text without spaces. [`unescape`] reverses it.
pub(crate) struct Escaped<'a>(pub(crate) &'a OsStr);

/// Shows bytes as text that no terminal takes for a command.
pub(crate) struct Printable<'a>(pub(crate) &'a OsStr);

/// Shows a path that somebody else chose, as text that no terminal takes for a command.
pub fn printable(path: &Path) -> impl fmt::Display + '_ {
    Printable(path.as_os_str())
}

/// Serializes a path as text, for `serialize_with`. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn path_text<S: serde::Serializer>(path: &Path, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&path.display())
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, |c| {
            c.is_whitespace() || c.is_control() || c == '\\'
        })
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        escape(f, self.0, char::is_control)
    }
}

/// Writes each byte of special characters, and of anything but UTF-8, as `\x` and two digits.
fn escape(
    f: &mut fmt::Formatter<'_>,
    text: &OsStr,
    is_special: impl Fn(char) -> bool,
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

/// The bytes that [`Escaped`] shows as `text`; `None` if there are no such bytes.
pub(crate) fn unescape(text: &str) -> Option<OsString> {
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
