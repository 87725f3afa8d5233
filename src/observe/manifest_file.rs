//! A file in JSON that names libraries, as a profile's `manifests` describe it.

use std::path::PathBuf;

use serde_json::Value;

use crate::observe::manifest::Place;

/// A file that names libraries.
#[derive(Debug, Clone)]
pub(crate) struct ManifestFile {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    /// Whether it was found in a directory, among files that may be no manifests.
    pub(crate) is_found: bool,
}

/// The mark that some editors write before a text in UTF-8.
const MARK: &[u8] = b"\xef\xbb\xbf";

impl ManifestFile {
    /// The names and paths of libraries in its text. A list counts by each of its items. `None` if
    /// the text is no JSON.
    pub(crate) fn names(&self, bytes: &[u8]) -> Option<Vec<String>> {
        let text = bytes.strip_prefix(MARK).unwrap_or(bytes);
        let value = serde_json::from_slice(text).ok()?;
        let mut names = Vec::new();
        collect(&value, &self.place.keys, &mut names);
        Some(names)
    }

    /// Whether it is meant as a manifest. A directory of manifests may have other files, too.
    pub(crate) fn is_meant(&self) -> bool {
        !self.is_found || self.path.extension().is_some_and(|it| it == "json")
    }

    /// The path that this file names by a text with a “/” in it. `None` if the text is a mere name,
    /// which the loader looks up.
    ///
    /// That is Vulkan's rule (“Driver Manifest File Format” in its loader's
    /// LoaderDriverInterface.md): a relative path begins at the manifest's directory, and a mere
    /// name is looked up in the system's search path.
    pub(crate) fn path_of(&self, text: &str) -> Option<PathBuf> {
        let directory = self.path.parent().filter(|_| text.contains('/'))?;
        Some(directory.join(text))
    }
}

fn collect(value: &Value, keys: &[String], names: &mut Vec<String>) {
    match (value, keys) {
        (Value::Array(items), _) => items.iter().for_each(|item| collect(item, keys, names)),
        (Value::String(text), []) => names.push(text.clone()),
        (Value::Object(object), [key, rest @ ..]) => {
            if let Some(value) = object.get(key) {
                collect(value, rest, names);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &str, text: &str) -> Option<Vec<String>> {
        let file = ManifestFile {
            path: PathBuf::from("/usr/share/vulkan/icd.d/a.json"),
            place: Place::parse(keys).unwrap(),
            is_found: false,
        };
        file.names(text.as_bytes())
    }

    #[test]
    fn a_place_leads_through_objects_and_through_each_item_of_a_list() {
        let text = r#"{"ICD": {"library_path": "liba.so", "api_version": "1.3"},
            "layers": [{"library_path": "b.so"}, {"name": "c"}, {"library_path": ["d.so"]}]}"#;
        let of = |keys| names(keys, text).unwrap();
        assert_eq!(of("ICD.library_path"), ["liba.so"]);
        assert_eq!(of("layers.library_path"), ["b.so", "d.so"]);
        for other in ["ICD", "ICD.library_path.more", "library_path"] {
            assert!(of(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_text_that_is_no_json_is_told_from_one_that_names_nothing() {
        for text in ["", "{", "\u{0}", "{} {}", &"[".repeat(100_000)] {
            assert_eq!(names("a", text), None);
        }
        assert_eq!(names("a", "\u{feff}{}"), Some(Vec::new()));
    }
}
