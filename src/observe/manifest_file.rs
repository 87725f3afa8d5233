//! A file in JSON that names libraries, as a profile's `manifests` describe it.

use std::path::PathBuf;

use serde_json::Value;

use crate::observe::manifest::Place;

/// A file that names libraries.
#[derive(Debug, Clone)]
pub(crate) struct ManifestFile {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
}

impl ManifestFile {
    /// The names and paths of libraries in its text. A list counts by each of its items. A text
    /// that is no JSON names nothing.
    pub(crate) fn names(&self, bytes: &[u8]) -> Vec<String> {
        let Ok(value) = serde_json::from_slice(bytes) else {
            return Vec::new();
        };
        let mut names = Vec::new();
        collect(&value, &self.place.keys, &mut names);
        names
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

    fn names(keys: &str, text: &str) -> Vec<String> {
        let file = ManifestFile {
            path: PathBuf::from("/usr/share/vulkan/icd.d/a.json"),
            place: Place::parse(keys).unwrap(),
        };
        file.names(text.as_bytes())
    }

    #[test]
    fn a_place_leads_through_objects_and_through_each_item_of_a_list() {
        let text = r#"{"ICD": {"library_path": "liba.so", "api_version": "1.3"},
            "layers": [{"library_path": "b.so"}, {"name": "c"}, {"library_path": ["d.so"]}]}"#;
        assert_eq!(names("ICD.library_path", text), ["liba.so"]);
        assert_eq!(names("layers.library_path", text), ["b.so", "d.so"]);
        for other in ["ICD", "ICD.library_path.more", "library_path"] {
            assert!(names(other, text).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_text_that_is_no_json_names_nothing() {
        for text in ["", "{", "\u{0}", &"[".repeat(100_000)] {
            assert!(names("a", text).is_empty());
        }
    }
}
