//! A manifest: a file in JSON that names a library elsewhere, such as that of a Vulkan driver.

use crate::observe::pattern::Source;

/// Files that name libraries, as an item of a profile's `manifests` describes them.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// The files.
    pub(crate) files: Vec<Source>,
    pub(crate) place: Place,
}

/// The place of a library's path in a file: the keys that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    #[cfg_attr(not(feature = "libraries"), allow(dead_code))]
    pub(crate) keys: Vec<String>,
}

impl Place {
    /// Parses a text such as `ICD.library_path`. An error continues the sentence “… holds “TEXT”, ”.
    pub(crate) fn parse(text: &str) -> Result<Place, String> {
        let keys: Vec<String> = text.split('.').map(str::to_owned).collect();
        match keys.iter().any(String::is_empty) {
            true => Err("no place in JSON; write its keys with “.” between them".into()),
            false => Ok(Place { keys }),
        }
    }
}
