//! The text of a profile's file, for errors that name the file, the line, the key and the remedy.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use crate::ground::error::{Error, Result};
use crate::observe::manifest::{Manifest, Place};
use crate::observe::pattern::Source;

/// A profile's text, for errors that name the file and the line.
pub(crate) struct Text<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl Text<'_> {
    /// The error of a `problem`, `at` bytes from the beginning.
    pub(crate) fn error(&self, at: usize, problem: String) -> Error {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        syntax_error(self.path, before, problem)
    }

    /// Reads `true` or `false`.
    pub(crate) fn boolean(
        &self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<bool> {
        let name: &str = key.get_ref();
        match value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            other => {
                let kind = other.type_str();
                let problem = format!("“{name}” is of type {kind}; write {name} = true or false");
                Err(self.error(key.span().start, problem))
            }
        }
    }

    /// A list of tables, each with the keys `files` and `library`.
    pub(crate) fn manifests(
        &self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<Manifest>> {
        let DeValue::Array(items) = value.get_ref() else {
            let kind = value.get_ref().type_str();
            return Err(self.no_manifest(key.span().start, &format!("is of type {kind}")));
        };
        items.iter().map(|item| self.manifest(item)).collect()
    }

    fn manifest(&self, item: &Spanned<DeValue<'_>>) -> Result<Manifest> {
        let wrong = |fault: &str| self.no_manifest(item.span().start, fault);
        let DeValue::Table(table) = item.get_ref() else {
            let kind = item.get_ref().type_str();
            return Err(wrong(&format!("holds something of type {kind}")));
        };
        let (mut files, mut place) = (None, None);
        for (key, value) in table {
            match (&**key.get_ref(), value.get_ref()) {
                ("files", _) => files = Some(self.list(key, value, Source::parse)?),
                ("library", DeValue::String(text)) => {
                    let parsed = Place::parse(text);
                    place = Some(parsed.map_err(|fault| {
                        let problem = format!("“library” is “{text}”, {fault}");
                        self.error(value.span().start, problem)
                    })?);
                }
                ("library", _) => return Err(wrong("holds a “library” that is no text")),
                (other, _) => return Err(wrong(&format!("holds a key “{other}”"))),
            }
        }
        Ok(Manifest {
            files: files.ok_or_else(|| wrong("holds an item without “files”"))?,
            place: place.ok_or_else(|| wrong("holds an item without “library”"))?,
        })
    }

    fn no_manifest(&self, at: usize, fault: &str) -> Error {
        let remedy = "manifests = [{ files = [\"/usr/…/*.json\"], library = \"KEY.KEY\" }]";
        self.error(at, format!("“manifests” {fault}; write {remedy}"))
    }

    /// Reads a list of texts, each by `parse`.
    pub(crate) fn list<T>(
        &self,
        key: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<Vec<T>> {
        let name: &str = key.get_ref();
        let DeValue::Array(items) = value.get_ref() else {
            let kind = value.get_ref().type_str();
            let problem =
                format!("“{name}” is of type {kind}; write a list, {name} = [\"/usr/…\"]");
            return Err(self.error(key.span().start, problem));
        };
        let parse = |item: &Spanned<DeValue<'_>>| {
            let parsed = match item.get_ref() {
                DeValue::String(text) => {
                    parse(text).map_err(|fault| format!("“{name}” holds “{text}”, {fault}"))
                }
                other => {
                    let kind = other.type_str();
                    Err(format!(
                        "“{name}” holds something of type {kind}; write \"/usr/…\""
                    ))
                }
            };
            parsed.map_err(|problem| self.error(item.span().start, problem))
        };
        items.iter().map(parse).collect()
    }
}

/// The error of a `problem` that follows the text `before`.
pub(crate) fn syntax_error(path: &Path, before: &[u8], problem: String) -> Error {
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    Error::Profile {
        path: path.to_owned(),
        line: lines + 1,
        problem,
    }
}
